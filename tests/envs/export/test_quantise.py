"""Int8 students answer nearly as they do in fp32, from a smaller file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edge.session import Session
from envs.export.export import to_onnx
from envs.export.quantise import to_int8


@pytest.fixture(scope="module")
def fp32() -> bytes:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return to_onnx(network, (1, 8, 8))


def inputs(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_int8_answers_nearly_alike_for_any_number_of_rows(fp32: bytes, reduce_range: bool) -> None:
    int8 = to_int8(fp32, [inputs(64, 0), inputs(64, 1)], reduce_range=reduce_range)
    new = inputs(100, 2)
    for rows in (1, 100):
        before, after = (
            Session(model, "student").run(new[:rows], "logits", (10,)) for model in (fp32, int8)
        )
        # the range of the logits, in 256 steps, a few of which rounding may cost
        np.testing.assert_allclose(after, before, atol=0.03 * float(np.ptp(before)) + 0.01)


def test_weights_take_a_byte_each(fp32: bytes) -> None:
    model = onnx.load_model_from_string(to_int8(fp32, [inputs(64, 0)]))
    kinds = {t.name: t.data_type for t in model.graph.initializer if len(t.dims) == 4}
    assert len(kinds) == 2
    assert set(kinds.values()) == {onnx.TensorProto.INT8}


def test_what_it_looks_at_sets_the_range(fp32: bytes) -> None:
    # ranges seen in darkness cut off what lies beyond them
    dark = to_int8(fp32, [inputs(64, 0) * 0.01])
    bright = to_int8(fp32, [inputs(64, 0)])
    new = inputs(100, 2)
    truth, cut, whole = (
        Session(model, "student").run(new, "logits", (10,)) for model in (fp32, dark, bright)
    )
    assert np.abs(cut - truth).mean() > 3 * np.abs(whole - truth).mean()


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.3, 0.4), (0.1, 0.7), (0.0, 1.0)])
def test_no_grey_level_stands_between_two_steps(mean: float, std: float) -> None:
    """Where one does, the last bit of a division rounds it, and runtimes see other images."""
    levels = ((np.arange(256, dtype=np.float32) / 255 - mean) / std).astype(np.float32)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    seen = [np.repeat(levels.reshape(1, 1, 16, 16), 4, axis=0)]
    model = onnx.load_model_from_string(to_int8(to_onnx(network, (1, 16, 16)), seen))
    known = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    steps = levels.astype(np.float64) / known[first.input[1]]
    from_tie = np.abs(steps - np.floor(steps) - 0.5)
    assert np.sum(from_tie < 1e-4) <= 1
    # and none is cut off
    codes = np.rint(steps) + known[first.input[2]]
    assert 0 <= codes.min() < 3
    assert 252 < codes.max() <= 255


def test_nothing_to_look_at_is_refused(fp32: bytes) -> None:
    with pytest.raises(ValueError, match="at least one input"):
        to_int8(fp32, [inputs(0, 0)])
