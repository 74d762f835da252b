"""An ONNX file as a parsed message: size, content, operator sets, and functions put in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import FunctionProto, ModelProto, NodeProto

from edge import strict
from edge.errors import BadInput
from teachers.onnx_import.refusals import REEXPORT, refuse_file
from teachers.onnx_import.tensors import MOST_BYTES

#: that of PyTorch 0.4 and of Caffe2's first exporter
OLDEST_OPSET = 6
STANDARD = ("", "ai.onnx")
MOST_NODES = 5_000


def read_bytes(path: Path) -> bytes:
    """All of the file; BadInput where it cannot be read or is larger than protobuf allows."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise refuse_file(
                "teacher is too large for one ONNX file",
                value=f"{path.name}, {size} bytes",
                bound=f"at most {MOST_BYTES} bytes",
                remedy="Export its weights as external data beside the model.",
            )
        return path.read_bytes()
    except OSError as error:
        raise refuse_file(
            "teacher cannot be read",
            value=f"{path} ({error.strerror})",
            bound="a readable file",
            remedy="Check the file and its permissions.",
        ) from None


def parse_model(data: bytes, name: str) -> tuple[ModelProto, int]:
    """The model and its opset, without functions; BadInput where it is no usable model."""
    try:
        model = ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise _no_model(name, f"{len(data)} bytes ({error})") from None
    if not model.HasField("graph") or not model.graph.node:
        raise _no_model(name, f"{len(data)} bytes without a graph")
    opset = _opset(model, name)
    if model.functions:
        model = _inlined(model)
    return model, opset


def _no_model(name: str, value: str) -> BadInput:
    return refuse_file(
        "teacher is not a whole ONNX file",
        value=f"{name}, {value}",
        bound="an ONNX model that protobuf can read to its end",
        remedy="It may be truncated or of another format: copy or export it again.",
    )


def _opset(model: ModelProto, name: str) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    newest = onnx.defs.onnx_opset_version()
    if len(set(versions)) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise refuse_file(
            f"teacher {name} has an opset that cannot be read",
            value=f"opset {versions[0]}" if versions else "no opset of ai.onnx",
            bound=f"one opset from {OLDEST_OPSET} to {newest}",
            remedy="Export it again with opset_version=18.",
        )
    return int(versions[0])


def _inlined(model: ModelProto) -> ModelProto:
    """The model with its own functions put in place of their calls.

    The number of nodes is counted first: a few nested functions can describe billions.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    _Counter(functions).check(model.graph.node)
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise refuse_file(
            "the teacher's model-local functions cannot be put in place",
            value=error,
            bound="functions of standard operators",
            remedy=f"Inline them with onnx.inliner. {REEXPORT}",
        ) from None


class _Counter:
    """How many nodes a model has once its functions are in place."""

    def __init__(self, functions: Mapping[tuple[str, str], FunctionProto]) -> None:
        self.functions = functions
        self.known: dict[tuple[str, str], int] = {}
        self.open: list[tuple[str, str]] = []

    def check(self, nodes: Iterable[NodeProto]) -> None:
        if self.count(nodes) > MOST_NODES:
            raise refuse_file(
                "the teacher's functions unfold to a graph that is too large",
                value=f"more than {MOST_NODES} nodes",
                bound=f"at most {MOST_NODES}",
            )

    def count(self, nodes: Iterable[NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += self.function(key) if key in self.functions else 1
            for attribute in node.attribute:
                total += self.count(attribute.g.node) if attribute.HasField("g") else 0
                total += sum(self.count(graph.node) for graph in attribute.graphs)
        return total

    def function(self, key: tuple[str, str]) -> int:
        if key in self.open or len(self.open) > 50:
            raise refuse_file(
                "the teacher's model-local functions call one another in a circle",
                value=strict.shorten(key[1]),
                bound="functions that end, at most 50 deep",
            )
        if key not in self.known:
            self.open.append(key)
            self.known[key] = self.count(self.functions[key].node)
            self.open.pop()
        return self.known[key]
