"""Files from strangers: each ends in one clear error, within seconds, and runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edge.errors import BadInput
from teachers.formats import check_teacher, load_teacher
from tests.teachers.onnx_graphs import (
    floats,
    ints,
    model,
    node,
    residual_block,
    tail,
    weights,
    write,
)

SECONDS = 5
SHAPE = (3, 8, 8)


class Touch:
    """Unpickling this creates the file that it was given."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


def _base() -> ModelProto:
    return residual_block()[0]


def _small(*nodes: onnx.NodeProto, **stored: np.ndarray) -> bytes:
    """A model of these nodes from x to the map m, and then to logits."""
    return bytes(model([*nodes, *tail("m")], dict(stored)).SerializeToString())


def _changed(change: Callable[[ModelProto], object]) -> bytes:
    made = _base()
    change(made)
    return bytes(made.SerializeToString())


def _weight(made: ModelProto) -> TensorProto:
    weight: TensorProto = made.graph.initializer[0]
    return weight


def _dims(*dims: int) -> bytes:
    def change(made: ModelProto) -> None:
        del _weight(made).dims[:]
        _weight(made).dims.extend(dims)

    return _changed(change)


def _value(number: float) -> bytes:
    def change(made: ModelProto) -> None:
        array = numpy_helper.to_array(_weight(made)).copy()
        array[0, 0, 0, 0] = number
        _weight(made).raw_data = array.tobytes()

    return _changed(change)


def _external(location: str, offset: str = "0", length: str | None = None) -> bytes:
    def change(made: ModelProto) -> None:
        tensor = _weight(made)
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        said = {"location": location, "offset": offset, "length": length or str(size)}
        for key, value in said.items():
            tensor.external_data.add(key=key, value=value)

    return _changed(change)


def _opset(*versions: tuple[str, int]) -> bytes:
    def change(made: ModelProto) -> None:
        del made.opset_import[:]
        made.opset_import.extend(helper.make_opsetid(*version) for version in versions)

    return _changed(change)


def _cycle() -> bytes:
    return _small(node("Relu", "b", "a"), node("Add", "a x", "b"), node("Relu", "b", "m"))


def _functions(depth: int, calls: int, circular: bool = False) -> bytes:
    """Functions that each call the next one several times."""
    made = model([helper.make_node("f0", ["x"], ["m"], domain="own"), *tail("m")], {})
    for level in range(depth):
        last = level == depth - 1
        op = ("f0" if circular else "Relu") if last else f"f{level + 1}"
        domain = "" if last and not circular else "own"
        nodes = [
            helper.make_node(op, ["a" if i == 0 else f"t{i - 1}"], [f"t{i}"], domain=domain)
            for i in range(calls)
        ]
        made.functions.append(
            helper.make_function(
                "own",
                f"f{level}",
                ["a"],
                [f"t{calls - 1}"],
                nodes,
                [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)],
            )
        )
    made.opset_import.append(helper.make_opsetid("own", 1))
    return bytes(made.SerializeToString())


def _deep_branches() -> bytes:
    graph = helper.make_graph(
        [node("Relu", "x", "inner")],
        "g",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    for level in range(30):
        made = helper.make_node("If", ["c"], [f"o{level}"], then_branch=graph, else_branch=graph)
        # one graph in both branches doubles with every level, unless one branch is a stub
        stub = helper.make_graph([], "s", [], [])
        made.attribute[1].g.CopyFrom(stub)
        graph = helper.make_graph(
            [made], "g", [], [helper.make_tensor_value_info(f"o{level}", TensorProto.FLOAT, None)]
        )
    last = helper.make_node("If", ["c"], ["m"], then_branch=graph, else_branch=graph)
    return _small(last, c=np.array(True))


def _two_inputs(made: ModelProto) -> None:
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3, 8, 8]))


def _uint8_input(made: ModelProto) -> None:
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def _sparse(made: ModelProto) -> None:
    values = numpy_helper.from_array(floats(1), "s")
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(ints(0)), [2**40])
    )


def _strings(made: ModelProto) -> None:
    tensor = _weight(made)
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.append(b"x" * 108)


def _short_typed(made: ModelProto) -> None:
    tensor = _weight(made)
    tensor.ClearField("raw_data")
    tensor.float_data.append(1.0)


def _duplicate(made: ModelProto) -> None:
    made.graph.node[1].output[0] = made.graph.node[0].output[0]


def _same_initialisers(made: ModelProto) -> None:
    made.graph.initializer.append(made.graph.initializer[0])


def _missing(made: ModelProto) -> None:
    del made.graph.initializer[0]


def _no_graph(made: ModelProto) -> None:
    made.ClearField("graph")


def _foreign(made: ModelProto) -> None:
    made.graph.node[2].domain = "com.evil"


def _no_output(made: ModelProto) -> None:
    made.graph.output[0].name = "nowhere"


def _two_outputs(made: ModelProto) -> None:
    made.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 4]))


def _weight_in_half(made: ModelProto) -> None:
    tensor = _weight(made)
    tensor.data_type = TensorProto.FLOAT16
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    tensor.raw_data = b"\x00\x7c" + tensor.raw_data[2:]  # infinity in float16


def _many_nodes() -> bytes:
    names = ["x", *(f"t{i}" for i in range(10_001)), "m"]
    return _small(*(node("Relu", a, b) for a, b in pairwise(names)))


BIG = 2**40

ONNX_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a whole ONNX"),
    "text": (lambda: b"this is no model", "not a whole ONNX"),
    "noise": (lambda: bytes(range(256)) * 64, "not a whole ONNX"),
    "truncated": (lambda: _base().SerializeToString()[:-700], "not a whole ONNX|not whole"),
    "half": (lambda: _base().SerializeToString()[:500], "not a whole ONNX"),
    "field of 2 GB": (lambda: b"\x08\x08\x3a" + b"\xff\xff\xff\xff\x07", "not a whole ONNX"),
    "no graph": (lambda: _changed(_no_graph), "without a graph"),
    "no opset": (lambda: _opset(), "no opset"),
    "old opset": (lambda: _opset(("", 6)), "opset 6.*from 7"),
    "future opset": (lambda: _opset(("", 999)), "opset 999"),
    "negative opset": (lambda: _opset(("", -13)), "opset -13"),
    "two opsets": (lambda: _opset(("", 13), ("ai.onnx", 14)), "one opset"),
    "negative dimension": (lambda: _dims(-4, 3, 3, 3), "conv1.weight.*impossible shape"),
    "two negative dimensions": (lambda: _dims(-4, -3, 3, 3), "impossible shape"),
    "gigantic dimension": (lambda: _dims(2**62, 3, 3, 3), "impossible shape"),
    "overflowing dimensions": (lambda: _dims(2**31, 2**31, 2**31, 2**31), "too large"),
    "2 GB claimed": (lambda: _dims(2**29 - 1, 1, 1, 1), "not whole.*stored"),
    "many axes": (lambda: _dims(*[1] * 60), "impossible shape"),
    "another shape": (lambda: _dims(4, 3, 3, 4), "not whole"),
    "too few numbers": (lambda: _changed(_short_typed), "not whole.*1 numbers"),
    "strings": (lambda: _changed(_strings), "STRING"),
    "NaN": (lambda: _value(np.nan), "conv1.weight.*not finite"),
    "infinity": (lambda: _value(np.inf), "not finite"),
    "infinity in float16": (lambda: _changed(_weight_in_half), "not finite"),
    "cycle": (_cycle, "cycle"),
    "self-loop": (lambda: _small(node("Add", "x m", "m")), "cycle"),
    "missing initialiser": (lambda: _changed(_missing), "Conv.*not there.*conv1.weight"),
    "two writers": (lambda: _changed(_duplicate), "already there"),
    "two initialisers of a name": (lambda: _changed(_same_initialisers), "share a name"),
    "no such output": (lambda: _changed(_no_output), "nowhere"),
    "two outputs": (lambda: _changed(_two_outputs), "2 outputs.*extract_model"),
    "two inputs": (lambda: _changed(_two_inputs), "2 inputs: x, z"),
    "input of bytes": (lambda: _changed(_uint8_input), "UINT8"),
    "wrong rank": (
        lambda: model(tail("x"), {}, image=("N", 3, 8)).SerializeToString(),
        r"3 axes.*\[3, 8, 8\]",
    ),
    "wrong size": (
        lambda: model(tail("x"), {}, image=("N", 3, 9, 8)).SerializeToString(),
        r"\[3, 9, 8\].*\[3, 8, 8\]",
    ),
    "wrong classes": (
        lambda: model(tail("x"), {}, logits=("N", 3)).SerializeToString(),
        "3 outputs.*4, the classes",
    ),
    "wrong classes, undeclared": (
        lambda: model(tail("x"), {}, logits=("N", None)).SerializeToString(),
        "4, the classes",
    ),
    "custom domain": (lambda: _changed(_foreign), r"Relu_c.*custom domain.*com\.evil"),
    "sparse": (lambda: _changed(_sparse), "sparse"),
    "loop": (lambda: _small(node("Loop", "x", "m")), "Loop.*forward"),
    "billion nodes": (lambda: _functions(30, 2), "functions unfold"),
    "circular functions": (lambda: _functions(2, 1, circular=True), "circle"),
    "deep branches": (_deep_branches, "too large|not a whole ONNX"),
    "too many nodes": (_many_nodes, "too large"),
    "terabytes by ConstantOfShape": (
        lambda: _small(node("ConstantOfShape", "s", "c"), node("Add", "x c", "m"), s=ints(BIG)),
        "ConstantOfShape.*too large",
    ),
    "terabytes by Expand": (
        lambda: _small(
            node("Expand", "o s", "c"), node("Add", "x c", "m"), o=floats(1), s=ints(BIG, 4)
        ),
        "Expand.*too large",
    ),
    "terabytes by Tile": (
        lambda: _small(node("Tile", "o s", "c"), node("Add", "x c", "m"), o=floats(1), s=ints(BIG)),
        "Tile.*too large",
    ),
    "terabytes by Range": (
        lambda: _small(
            node("Range", "a b c", "r"),
            node("Cast", "r", "f", to=1),
            node("Add", "x f", "m"),
            a=np.array(0),
            b=np.array(BIG),
            c=np.array(1),
        ),
        "Range.*too large",
    ),
    "terabytes by broadcasting": (
        lambda: _small(
            node("Mul", "a b", "c"),
            node("Add", "x c", "m"),
            a=np.ones((2**16, 1), np.float32),
            b=np.ones((1, 2**16), np.float32),
        ),
        "Mul.*too large",
    ),
    "terabytes by padding": (
        lambda: _small(node("Pad", "x p", "m"), p=ints(0, 0, 0, 0, 0, 0, 2**19, 2**19)),
        "Pad.*too large",
    ),
    "terabytes by resizing": (
        lambda: _small(node("Resize", "x _ s", "m"), s=floats(1, 1, 1e9, 1e9)),
        "Resize.*impossible",
    ),
    "convolution padded by 2^40": (
        lambda: _small(node("Conv", "x k", "m", pads=[BIG] * 4), **weights(k=(4, 3, 3, 3))),
        "Conv.*pads",
    ),
    "stride 0": (
        lambda: _small(node("Conv", "x k", "m", strides=[0, 1]), **weights(k=(4, 3, 3, 3))),
        "Conv.*strides",
    ),
    "0 groups": (
        lambda: _small(node("Conv", "x k", "m", group=0), **weights(k=(4, 3, 3, 3))),
        "Conv.*0 groups",
    ),
    "kernel larger than the image": (
        lambda: _small(node("Conv", "x k", "m"), **weights(k=(4, 3, 9, 9))),
        "Conv.*does not run",
    ),
    "division by zero": (
        lambda: _small(node("Div", "x z", "m"), z=floats(0)),
        "Div.*divides by zero",
    ),
    "negative variance": (
        lambda: _small(
            node("BatchNormalization", "x o o o v", "m"), o=floats(1, 1, 1), v=floats(1, -1, 1)
        ),
        "variance",
    ),
    "NaN as an attribute": (
        lambda: _small(node("LeakyRelu", "x", "m", alpha=float("nan"))),
        "LeakyRelu.*finite",
    ),
    "part of the batch": (
        lambda: _small(node("Slice", "x s e a", "m"), s=ints(0), e=ints(1), a=ints(0)),
        "Slice.*part of the batch",
    ),
    "logits that ignore the image": (
        lambda: model(
            [node("Identity", "c", "y")], {"c": np.ones((1, 4), np.float32)}
        ).SerializeToString(),
        "does not depend",
    ),
    "absolute path": (lambda: _external("/etc/passwd"), "etc/passwd.*own folder"),
    "path outside": (lambda: _external("../secret.bin"), "secret.bin.*own folder"),
    "path inside and out": (lambda: _external("sub/../../secret.bin"), "own folder"),
    "link outside": (lambda: _external("link.bin"), "link.bin.*own folder"),
    "device": (lambda: _external("fifo"), "own folder"),
    "no location": (lambda: _external(""), "own folder"),
    "backslashes": (lambda: _external("..\\secret.bin"), "own folder"),
    "data not there": (lambda: _external("absent.bin"), "absent.bin"),
    "offset behind the end": (lambda: _external("data.bin", "999999"), "ends outside"),
    "negative offset": (lambda: _external("data.bin", "-8"), "offset.*at least 0"),
    "length of 2 GB": (lambda: _external("data.bin", "0", str(2**31)), "not whole"),
}


@pytest.mark.parametrize("name", ONNX_FILES)
def test_a_hostile_onnx_file_is_refused(name: str, tmp_path: Path) -> None:
    build, message = ONNX_FILES[name]
    folder = tmp_path / "teacher"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "data.bin").write_bytes(bytes(1000))
    os.mkfifo(folder / "fifo")
    path = write(_base(), folder, SHAPE)
    path.write_bytes(build())
    _refused_in_time(path, message)


def _refused_in_time(path: Path, message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(BadInput, match=message) as error:
        load_teacher(path)
    assert time.perf_counter() - started < SECONDS
    assert error.value.remedy.endswith(".")
    assert len(str(error.value)) < 1500


def _pickled(protocol: int, canary: Path) -> bytes:
    return pickle.dumps(Touch(canary), protocol)


def _torch_saved(value: object, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _zip_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


PICKLED: dict[str, Callable[[Path], bytes]] = {
    "torch.save": lambda canary: _torch_saved(Touch(canary), legacy=False),
    "torch.save of old": lambda canary: _torch_saved(Touch(canary), legacy=True),
    "zip": lambda canary: _zip_of(pickle.dumps(Touch(canary))),
    "behind a length": lambda canary: struct.pack("<Q", 80) + pickle.dumps(Touch(canary)),
}
for _protocol in range(6):
    PICKLED[f"protocol {_protocol}"] = partial(_pickled, _protocol)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt", ".pth", ".bin", ".pkl"])
@pytest.mark.parametrize("name", PICKLED)
def test_a_pickle_is_refused_under_any_name_and_never_opened(
    name: str, suffix: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    write(_base(), tmp_path, SHAPE)
    path = tmp_path / f"teacher{suffix}"
    path.write_bytes(PICKLED[name](canary))
    for read in (check_teacher, load_teacher):
        started = time.perf_counter()
        with pytest.raises(BadInput):
            read(path)
        assert time.perf_counter() - started < SECONDS
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "canary")))  # noqa: S301
    assert (tmp_path / "canary").exists()


def test_a_model_larger_than_protobuf_allows_is_not_read(tmp_path: Path) -> None:
    path = write(_base(), tmp_path, SHAPE)
    with path.open("r+b") as file:
        file.truncate(2 * 1024**3 + 1)  # sparse: takes no space
    _refused_in_time(path, "too large")


def test_data_beside_the_model_are_read(tmp_path: Path) -> None:
    path = write(_base(), tmp_path, SHAPE)
    images = torch.randn(2, *SHAPE)
    inside = load_teacher(path)
    raw = _weight(_base()).raw_data
    (tmp_path / "data.bin").write_bytes(bytes(16) + raw)
    path.write_bytes(_external("data.bin", "16"))
    beside = load_teacher(path)
    assert torch.equal(beside.module(images), inside.module(images))
    (tmp_path / "data.bin").write_bytes(bytes(16) + raw[::-1])
    assert load_teacher(path).fingerprint != beside.fingerprint
