from __future__ import annotations

import pytest
import torch
from torch import nn

from edge.errors import BadInput
from teachers.acceleration import precision
from teachers.formats.zoo import build


def _cnn() -> nn.Module:
    return build("small_cnn", input_shape=(1, 8, 8), classes=10)


def test_macs_by_hand() -> None:
    # 8×8 input: conv1 9·32·64 + conv2 9·32·64·16 + conv3 9·64·64·16 + conv4 9·64·96·4 + fc 96·10
    expected = 18_432 + 294_912 + 589_824 + 221_184 + 960
    module = _cnn()
    assert precision.count_macs(module, (1, 8, 8)) == expected
    assert module.training
    assert not module.get_submodule("fc")._forward_hooks


def test_a_depthwise_convolution_counts_its_own_weights() -> None:
    # 4 filters of 1×3×3 on 5×5 positions
    assert precision.count_macs(nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 5, 5)) == 36 * 25


@pytest.mark.parametrize(
    ("native", "threads", "arch", "side", "expected"),
    [
        (True, 1, "small_cnn", 8, "bf16"),  # 1.1 million MACs
        (True, 2, "small_cnn", 8, "fp32"),
        (True, 2, "small_cnn", 28, "bf16"),  # 13.8 million
        (True, 1, "small_cnn", 4, "fp32"),  # .3 million
        (False, 1, "resnet18", 28, "fp32"),
    ],
)
def test_auto_depends_on_processor_threads_and_size(
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
    threads: int,
    arch: str,
    side: int,
    expected: str,
) -> None:
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    module = build(arch, input_shape=(1, side, side), classes=10)
    assert precision.resolve("auto", module, (1, side, side)) == expected


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_a_named_precision_is_obeyed(asked: str) -> None:
    assert precision.resolve(asked, _cnn(), (1, 8, 8)) == asked


def test_a_torch_without_probes_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert not precision.has_native_bf16()


def test_an_unknown_precision_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="auto, bf16, fp32"):
        precision.resolve("fp16", _cnn(), (1, 8, 8))
