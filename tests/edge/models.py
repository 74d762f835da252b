"""The smallest pair whose every number can be worked out by hand.

Images are two grey pixels side by side, mean 0 and std 1, so an input is (a/255, b/255). The
student's logits are 4 times that; the router's score is the student's largest softmax; the
teacher's logits are 4 times the input plus (0, 2), so it prefers the second class in a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import (
    Bundle,
    Calibration,
    Figure,
    Manifest,
    PairInfo,
    RouterInfo,
    StudentInfo,
    TeacherInfo,
    load_bundle,
    write_bundle,
)
from edge.preprocess import Preprocess
from routers.onnx.pair import merge

PREPROCESS = Preprocess(channels=1, height=1, width=2, mean=(0.0,), std=(1.0,))
FLOAT = TensorProto.FLOAT


def pixels(*rows: tuple[int, int]) -> NDArray[np.uint8]:
    """Images [N, 1, 2, 1] of the given grey values."""
    return np.array(rows, np.uint8).reshape(len(rows), 1, 2, 1)


def linear(
    bias: tuple[float, ...] = (0.0, 0.0),
    *,
    batch: str | int = "n",
    width: int = 2,
    names: tuple[str, str] = ("image", "logits"),
) -> bytes:
    """4·x + bias as an ONNX file, for images 1×``width``; as many classes as biases."""
    source, target = names
    weight = 4 * np.eye(width, len(bias), dtype=np.float32)
    return _file(
        [
            helper.make_node("Flatten", [source], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w", "b"], [target]),
        ],
        helper.make_tensor_value_info(source, FLOAT, [batch, 1, 1, width]),
        helper.make_tensor_value_info(target, FLOAT, [batch, len(bias)]),
        {"w": weight, "b": np.array(bias, np.float32)},
    )


def max_softmax(classes: int = 2, *, keepdims: bool = False) -> bytes:
    """The largest softmax of the logits as an ONNX file."""
    return _file(
        [
            helper.make_node("Softmax", ["logits"], ["p"], axis=1),
            helper.make_node("ReduceMax", ["p"], ["score"], axes=[1], keepdims=int(keepdims)),
        ],
        helper.make_tensor_value_info("logits", FLOAT, ["n", classes]),
        helper.make_tensor_value_info("score", FLOAT, ["n", 1] if keepdims else ["n"]),
        {},
    )


def manifest(threshold: float = 0.75) -> Manifest:
    """A manifest for the pair above."""
    return Manifest(
        name="two pixels",
        created="2026-01-02T03:04:05+00:00",
        preprocess=PREPROCESS,
        class_names=("left", "right"),
        student=StudentInfo(file="student.onnx", kb=0.0234375, parameters=6, macs=4),
        router=RouterInfo(file="router.onnx", name="max_softmax", kind="score"),
        pair=PairInfo(file="pair.onnx"),
        threshold=threshold,
        goal={"appeals": 0.2},
        note="Nothing was ranked.",
        parts={"calibration": 2, "test": 10},
        figures={"pair.accuracy": Figure(0.9, "test", 10), "pair.acc_i": Figure(None, "test", 10)},
        warnings=("A tiny example — nothing was measured.",),
        calibration=Calibration((0.5, 0.98), (0, 1), (1, 1)),
        teacher=TeacherInfo(name="t", fingerprint="ab" * 32, kb=0.0234375),
    )


def contents(
    student: bytes | None = None,
    router: bytes | None = None,
    *,
    threshold: float = 0.75,
    pair: bytes | None = None,
) -> dict[str, bytes]:
    """The files of a bundle with the pair above, or with another graph in its place."""
    student, router = student or linear(), router or max_softmax()
    return {
        "pair.onnx": pair or merge(student, router, threshold),
        "student.onnx": student,
        "router.onnx": router,
        "student.safetensors": b"weights",
        "netspec.json": b"{}",
        "MODEL_CARD.md": b"# two pixels\n",
    }


def bundle_at(
    folder: Path,
    *,
    threshold: float = 0.75,
    student: bytes | None = None,
    router: bytes | None = None,
    pair: bytes | None = None,
) -> Bundle:
    """Write the pair above as a bundle and load it."""
    files = contents(student, router, threshold=threshold, pair=pair)
    write_bundle(folder, manifest(threshold), files)
    return load_bundle(folder)


def _file(
    nodes: Sequence[onnx.NodeProto],
    source: onnx.ValueInfoProto,
    target: onnx.ValueInfoProto,
    constants: dict[str, NDArray[np.float32]],
) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", [source], [target], initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
