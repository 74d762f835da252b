"""What a checked ONNX file says, in plain Python: nodes in order, constants, one input and output.

This module imports neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import strict

Array = NDArray[Any]
#: one declared axis: its length, or None where the file leaves it open
Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    ``inputs`` and ``outputs`` are names of tensors; an omitted optional one is "". ``attributes``
    hold int, float, str, lists of these, and arrays. ``branches`` are the sub-graphs of an If.
    """

    name: str
    op: str
    index: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    branches: Mapping[str, Branch] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages name the node: name, operator, place, and the tensors that it reads."""
        read = ", ".join(strict.shorten(name, 40) for name in self.inputs[:4])
        more = ", …" if len(self.inputs) > 4 else ""
        name = strict.shorten(self.name or "(no name)", 60)
        return f"node {self.index} {name!r} ({strict.shorten(self.op, 40)} of {read}{more})"


@dataclass(frozen=True)
class Branch:
    """A sub-graph: its nodes in order, its own constants, and the tensors that it gives."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxGraph:
    """A whole classifier: nodes in an order in which each finds its inputs.

    ``input_dims`` and ``output_dims`` are as declared, None where the file does not say. ``files``
    are those beside the model that hold some of its weights.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    input_dims: Dims | None
    output: str
    output_dims: Dims | None
    opset: int
    files: tuple[Path, ...] = ()


def is_float(array: Array) -> bool:
    """Whether a constant holds real numbers; the others are shapes, indices and switches."""
    return bool(np.issubdtype(array.dtype, np.floating))
