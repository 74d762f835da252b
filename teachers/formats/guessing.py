"""What an ONNX file says of itself, and a guess at what it does not, as a teacher's JSON.

The file knows its input and its classes; mean and std are habits of those who trained it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BadInput
from teachers.formats.manifest import LARGEST_CLASSES, manifest_path, read_json
from teachers.onnx_import.graph import OnnxGraph
from teachers.onnx_import.layout import FIRST, LAST
from teachers.onnx_import.refusals import refuse_file

#: sides of images that are tried where a file leaves them open, the usual ones first
SIDES = (224, 32, 28, 64, 96, 128, 299, 256, 240, 160, 384, 48, 16, 8, 227, 331, 512)
#: keys of metadata under which exporters keep the classes' names
NAMES = ("names", "class_names", "classes", "labels")


@dataclass(frozen=True)
class Guess:
    """A teacher's JSON, complete.

    Attributes:
        data: its keys.
        found: key → where in the file it stands, for those that the JSON lacked.
        guessed: key → why it is thought so, for those that nothing says.
    """

    data: Mapping[str, Any]
    found: Mapping[str, str]
    guessed: Mapping[str, str]


def guess_manifest(path: Path) -> Guess:
    """The JSON of an ONNX teacher: what its own says, what the file says, and guesses.

    Raises:
        BadInput: the file cannot be read, or nothing tells its input or its classes.
    """
    from teachers.onnx_import.reading import parse_model, read_bytes
    from teachers.onnx_import.structure import read_graph

    model, opset = parse_model(read_bytes(path), path.name)
    said = read_json(path) if manifest_path(path).exists() else {}
    data, found, guessed = dict(said), dict[str, str](), dict[str, str]()
    if isinstance(data.get("class_names"), list):
        data.setdefault("classes", len(data["class_names"]))
    classes = data.get("classes")
    graph = read_graph(model, opset, path.parent, classes if isinstance(classes, int) else None)
    if "input" not in data:
        data["input"], declared = _input(graph)
        where = found if declared else guessed
        where["input"] = f"the input {graph.input!r}" if declared else "a size that it runs on"
    if "classes" not in data:
        data["classes"] = max(2, _outputs(graph, data["input"]))
        found["classes"] = f"the output {graph.output!r}"
    if "class_names" not in data:
        names = _names({entry.key: entry.value for entry in model.metadata_props})
        if len(names) == data["classes"]:
            data["class_names"], found["class_names"] = names, "its metadata"
    if "mean" not in data or "std" not in data:
        mean, std, why = _pixels(graph, data["input"])
        data["mean"], data["std"] = mean, std
        guessed["mean and std"] = why
    return Guess(data, found, guessed)


def _input(graph: OnnxGraph) -> tuple[list[int], bool]:
    """(C, H, W), and whether the file declares all of it."""
    dims = graph.input_dims or (None,) * 4
    if len(dims) != 4:
        raise refuse_file(
            f"the teacher's input {graph.input!r} is no batch of images",
            value=f"{len(dims)} axes",
            bound="4 axes: batch × channels × height × width, or the channels last",
        )
    order = _order(graph, dims[1:])
    channels, height, width = dims[1:] if order == FIRST else (dims[3], dims[1], dims[2])
    channels = channels or _first_channels(graph)
    if height and width:
        return [channels, height, width], dims[1 if order == FIRST else 3] is not None
    for side in SIDES:
        shape = [channels, height or side, width or side]
        try:
            _outputs(graph, shape)
        except BadInput:
            continue
        return shape, False
    raise refuse_file(
        f"the teacher's input {graph.input!r} has no size, and it runs on none of the usual ones",
        value=f"sides {', '.join(map(str, SIDES))} tried",
        bound="a size of images in its JSON",
        remedy='Write "input": [channels, height, width] in the JSON beside it.',
    )


def _order(graph: OnnxGraph, dims: tuple[int | None, ...]) -> str:
    """Where the channels stand: on the axis that can be 1 or 3, or as a Transpose says."""
    first, last = dims[0] in (1, 3), dims[2] in (1, 3)
    if first != last:
        return FIRST if first else LAST
    openings = [node for node in graph.nodes if graph.input in node.inputs]
    turned = [node.attributes.get("perm") == [0, 3, 1, 2] for node in openings]
    return LAST if turned and all(turned) else FIRST


def _first_channels(graph: OnnxGraph) -> int:
    """Channels that the first convolution reads; 3 where there is none."""
    for node in graph.nodes:
        if node.op == "Conv" and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
            read = graph.constants[node.inputs[1]].shape[1] * int(node.attributes.get("group", 1))
            return read if read in (1, 3) else 3
    return 3


def _outputs(graph: OnnxGraph, shape: list[int]) -> int:
    """How many numbers it gives for an image of this shape; declared, or found by converting it."""
    from teachers.onnx_import.convert import convert

    module = convert(graph, tuple(shape), None)
    import torch

    with torch.no_grad():
        count = module(torch.zeros(2, *shape)).reshape(2, -1).shape[1]
    if count > LARGEST_CLASSES:
        raise refuse_file(
            "the teacher has too many outputs to be a classifier",
            value=count,
            bound=f"at most {LARGEST_CLASSES} classes",
        )
    return int(count)


def _names(metadata: Mapping[str, str]) -> list[str]:
    """Names of the classes in the file's metadata: a list, or an object by number; else none."""
    for key in NAMES:
        text = metadata.get(key, "")
        if len(text) > 10**6:
            continue
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, dict):
                value = [value.get(i, value.get(str(i))) for i in range(len(value))]
            names = value if isinstance(value, list) else []
            if names and all(isinstance(name, str) for name in names):
                return names if len(set(names)) == len(names) else []
    return []


def _pixels(graph: OnnxGraph, shape: list[int]) -> tuple[list[float], list[float], str]:
    """Mean and std that networks of this kind are trained with, and why these."""
    channels = shape[0]
    scale = _first_scale(graph)
    if scale is not None and scale < 0.02:
        whole = [0.0] * channels, [round(1 / 255, 6)] * channels
        return *whole, "its first operator scales pixels from 0 to 255 itself"
    if scale is not None:
        return [0.0] * channels, [1.0] * channels, "its first operator scales pixels itself"
    if channels == 3 and min(shape[1:]) >= 64:
        return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "ImageNet's, as most networks have"
    if channels == 1 and shape[1:] in ([28, 28], [32, 32]):
        return [0.1307], [0.3081], "MNIST's"
    return [0.5] * channels, [0.5] * channels, "pixels from -1 to 1"


def _first_scale(graph: OnnxGraph) -> float | None:
    """The factor with which the image is multiplied before anything else, where it is one."""
    name = graph.input
    for node in graph.nodes:
        if name not in node.inputs:
            continue
        if node.op in ("Cast", "Identity", "Transpose", "Sub", "Add"):
            name = node.outputs[0]
            continue
        other = [graph.constants[given] for given in node.inputs if given in graph.constants]
        if node.op not in ("Mul", "Div") or len(other) != 1 or not other[0].size:
            return None
        factor = float(np.abs(other[0]).mean())
        return factor if node.op == "Mul" else 1 / factor if factor else None
    return None
