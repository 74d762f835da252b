"""Files that are damaged, or claim what is not in them: header, tensors and external data.

Each entry of a table is what writes the bytes, and what the error must say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.teachers.onnx_graphs import model, residual_block, tail

Hostile = dict[str, tuple[Callable[[], bytes], str]]


def base() -> ModelProto:
    return residual_block()[0]


def changed(change: Callable[[ModelProto], object]) -> bytes:
    made = base()
    change(made)
    return bytes(made.SerializeToString())


def weight_of(made: ModelProto) -> TensorProto:
    weight: TensorProto = made.graph.initializer[0]
    return weight


def _dims(*dims: int) -> bytes:
    def change(made: ModelProto) -> None:
        del weight_of(made).dims[:]
        weight_of(made).dims.extend(dims)

    return changed(change)


def _value(number: float) -> bytes:
    def change(made: ModelProto) -> None:
        array = numpy_helper.to_array(weight_of(made)).copy()
        array[0, 0, 0, 0] = number
        weight_of(made).raw_data = array.tobytes()

    return changed(change)


def external(location: str, offset: str = "0", length: str | None = None) -> bytes:
    def change(made: ModelProto) -> None:
        tensor = weight_of(made)
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        said = {"location": location, "offset": offset, "length": length or str(size)}
        for key, value in said.items():
            tensor.external_data.add(key=key, value=value)

    return changed(change)


def _opset(*versions: tuple[str, int]) -> bytes:
    def change(made: ModelProto) -> None:
        del made.opset_import[:]
        made.opset_import.extend(helper.make_opsetid(*version) for version in versions)

    return changed(change)


def _typed(kind: int) -> bytes:
    def change(made: ModelProto) -> None:
        weight_of(made).data_type = kind

    return changed(change)


def _strings(made: ModelProto) -> None:
    tensor = weight_of(made)
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.append(b"x" * 108)


def _short_typed(made: ModelProto) -> None:
    tensor = weight_of(made)
    tensor.ClearField("raw_data")
    tensor.float_data.append(1.0)


def _no_graph(made: ModelProto) -> None:
    made.ClearField("graph")


def _weight_in_half(made: ModelProto) -> None:
    tensor = weight_of(made)
    tensor.data_type = TensorProto.FLOAT16
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    tensor.raw_data = b"\x00\x7c" + tensor.raw_data[2:]  # infinity in float16


def small(*nodes: onnx.NodeProto, **stored: np.ndarray) -> bytes:
    """A model of these nodes from x to the map m, and then to logits."""
    return bytes(model([*nodes, *tail("m")], dict(stored)).SerializeToString())


FILES: Hostile = {
    "empty": (lambda: b"", "not a whole ONNX"),
    "text": (lambda: b"this is no model", "not a whole ONNX"),
    "noise": (lambda: bytes(range(256)) * 64, "not a whole ONNX"),
    "truncated": (lambda: base().SerializeToString()[:-700], "not a whole ONNX|not whole"),
    "half": (lambda: base().SerializeToString()[:500], "not a whole ONNX"),
    "field of 2 GB": (lambda: b"\x08\x08\x3a" + b"\xff\xff\xff\xff\x07", "not a whole ONNX"),
    "no graph": (lambda: changed(_no_graph), "without a graph"),
    "no opset": (lambda: _opset(), "no opset"),
    "old opset": (lambda: _opset(("", 5)), "opset 5.*from 6"),
    "future opset": (lambda: _opset(("", 999)), "opset 999"),
    "negative opset": (lambda: _opset(("", -13)), "opset -13"),
    "two opsets": (lambda: _opset(("", 13), ("ai.onnx", 14)), "one opset"),
    "negative dimension": (lambda: _dims(-4, 3, 3, 3), "conv1.weight.*impossible shape"),
    "two negative dimensions": (lambda: _dims(-4, -3, 3, 3), "impossible shape"),
    "gigantic dimension": (lambda: _dims(2**62, 3, 3, 3), "impossible shape"),
    "overflowing dimensions": (lambda: _dims(2**31, 2**31, 2**31, 2**31), "too large"),
    "2 GB claimed": (lambda: _dims(2**29 - 1, 1, 1, 1), "not whole.*stored"),
    "empty and gigantic": (
        lambda: _dims(2**31, 2**31, 2**31, 0),
        "impossible shape",
    ),
    "opset 2^62": (lambda: _opset(("", 2**62)), "opset 4611686018427387904"),
    "groups within groups": (lambda: b"\x0b" * 10**6, "not a whole ONNX"),
    "safetensors": (
        lambda: (2).to_bytes(8, "little") + b"{}",
        "not a whole ONNX|no opset|without a graph",
    ),
    "4-bit weights": (lambda: _typed(TensorProto.INT4), "INT4.*float32"),
    "8-bit floats": (lambda: _typed(TensorProto.FLOAT8E4M3FN), "FLOAT8E4M3FN.*float32"),
    "many axes": (lambda: _dims(*[1] * 60), "impossible shape"),
    "another shape": (lambda: _dims(4, 3, 3, 4), "not whole"),
    "too few numbers": (lambda: changed(_short_typed), "not whole.*1 numbers"),
    "strings": (lambda: changed(_strings), "STRING"),
    "NaN": (lambda: _value(np.nan), "conv1.weight.*not finite"),
    "infinity": (lambda: _value(np.inf), "not finite"),
    "infinity in float16": (lambda: changed(_weight_in_half), "not finite"),
    "absolute path": (lambda: external("/etc/passwd"), "etc/passwd.*own folder"),
    "path outside": (lambda: external("../secret.bin"), "secret.bin.*own folder"),
    "path inside and out": (lambda: external("sub/../../secret.bin"), "own folder"),
    "link outside": (lambda: external("link.bin"), "link.bin.*own folder"),
    "device": (lambda: external("fifo"), "own folder"),
    "no location": (lambda: external(""), "own folder"),
    "backslashes": (lambda: external("..\\secret.bin"), "own folder"),
    "folder": (lambda: external("."), "own folder"),
    "length of a thousand digits": (
        lambda: external("data.bin", "0", "9" * 1000),
        "length.*whole number",
    ),
    "data not there": (lambda: external("absent.bin"), "absent.bin"),
    "offset behind the end": (lambda: external("data.bin", "999999"), "ends outside"),
    "negative offset": (lambda: external("data.bin", "-8"), "offset.*at least 0"),
    "length of 2 GB": (lambda: external("data.bin", "0", str(2**31)), "not whole"),
}
