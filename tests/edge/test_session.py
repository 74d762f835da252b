"""ONNX files are checked before their first use, and every failure is one clear message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import session
from edge.errors import BadInput
from edge.session import Session
from tests.edge.models import linear, max_softmax


def inputs(rows: int) -> NDArray[np.float32]:
    return np.arange(rows * 2, dtype=np.float32).reshape(rows, 1, 1, 2)


@pytest.mark.parametrize("data", [b"", b"\x00", b"no model", linear()[:-20]])
def test_bytes_that_are_no_model_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"x\.onnx cannot be loaded: .*expected an ONNX model"):
        Session(data, "x.onnx")


def test_nothing_but_our_message_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput):
        Session(b"no model", "x.onnx")
    loaded = Session(linear(), "x.onnx")
    with pytest.raises(BadInput):
        loaded.run(np.zeros((1, 3), np.float32), "logits", (2,))
    assert capfd.readouterr() == ("", "")


def test_ports_show_what_varies() -> None:
    loaded = Session(linear(), "x.onnx")
    assert [str(port) for port in loaded.inputs] == ["image tensor(float) [?, 1, 1, 2]"]
    assert [str(port) for port in loaded.outputs] == ["logits tensor(float) [?, 2]"]


def test_an_input_of_another_name_shape_or_fixed_batch_is_refused() -> None:
    loaded = Session(linear(), "x.onnx")
    assert loaded.only_input((1, 1, 2)).name == "image"
    for shape, name in (((1, 2, 1), "image"), ((1, 1, 2), "pixels"), ((2,), None)):
        with pytest.raises(BadInput, match=r"x\.onnx has another input than it should"):
            loaded.only_input(shape, name)
    with pytest.raises(BadInput, match=r"got image tensor\(float\) \[4, 1, 1, 2\]"):
        Session(linear(batch=4), "x.onnx").only_input((1, 1, 2))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("batch", ["n", 1])
def test_rows_come_back_in_order_whatever_the_chunks(
    rows: int, batch: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CHUNK", 3)
    result = Session(linear(batch=batch), "x.onnx").run(inputs(rows), "logits", (2,))
    np.testing.assert_array_equal(result, 4 * inputs(rows).reshape(rows, 2))


def test_an_output_of_another_shape_or_name_is_refused() -> None:
    loaded = Session(linear(), "x.onnx")
    with pytest.raises(BadInput, match=r"got float32 \(1, 2\); expected float32 \(1, 5\)"):
        loaded.run(inputs(1), "logits", (5,))
    with pytest.raises(BadInput, match=r"x\.onnx cannot be run"):
        loaded.run(inputs(1), "score", ())
    column = Session(max_softmax(keepdims=True), "router.onnx")
    with pytest.raises(BadInput, match=r"an output score that does not fit: got float32 \(1, 1\)"):
        column.run(np.zeros((1, 2), np.float32), "score", ())


def test_threads_below_one_are_refused() -> None:
    with pytest.raises(BadInput, match="threads: got 0; expected at least 1"):
        Session(linear(), "x.onnx", threads=0)


def test_a_path_is_loaded_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(linear((1.0, 2.0)))
    from_path, from_bytes = Session(path, "x"), Session(path.read_bytes(), "x")
    np.testing.assert_array_equal(
        from_path.run(inputs(2), "logits", (2,)), from_bytes.run(inputs(2), "logits", (2,))
    )
