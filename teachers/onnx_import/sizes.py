"""How large the result of an operator on constants will be, before it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from teachers.onnx_import.graph import Node
from teachers.onnx_import.rules import Inputs, axes_of


def size_of(node: Node, inputs: Inputs) -> tuple[int, int]:
    """Numbers and axes of the output, both rather too many than too few."""
    return SIZES.get(node.op, _broadcast)(node, inputs)


def _broadcast(node: Node, inputs: Inputs) -> tuple[int, int]:
    shape = np.broadcast_shapes(*(array.shape for array in inputs if array is not None))
    return math.prod(shape), len(shape)


def _first(node: Node, inputs: Inputs) -> tuple[int, int]:
    assert inputs[0] is not None
    return inputs[0].size, inputs[0].ndim


def _target(index: int) -> Callable[[Node, Inputs], tuple[int, int]]:
    def size(node: Node, inputs: Inputs) -> tuple[int, int]:
        target = inputs[index]
        assert target is not None
        return math.prod(int(side) for side in target.ravel()), target.size

    return size


def _expanded(node: Node, inputs: Inputs) -> tuple[int, int]:
    data, target = inputs[0], inputs[1]
    assert data is not None
    assert target is not None
    # each side of the result is at least one of the two; their product bounds it from above
    sides = [max(int(side), 1) for side in target.ravel()]
    return data.size * math.prod(sides), max(data.ndim, len(sides))


def _range(node: Node, inputs: Inputs) -> tuple[int, int]:
    start, stop, step = (float(np.asarray(value).reshape(())) for value in inputs)
    return max(0, math.ceil((stop - start) / step)), 1


def _gathered(node: Node, inputs: Inputs) -> tuple[int, int]:
    data, index = inputs[0], inputs[1]
    assert data is not None
    assert index is not None
    axis = int(node.attributes.get("axis", 0))
    return data.size // max(data.shape[axis], 1) * index.size, data.ndim + index.ndim


def _multiplied(node: Node, inputs: Inputs) -> tuple[int, int]:
    left, right = inputs
    assert left is not None
    assert right is not None
    outer = math.prod(np.broadcast_shapes(left.shape[:-2], right.shape[:-2]))
    numbers = outer * math.prod(left.shape[-2:-1]) * math.prod(right.shape[-1:])
    # products take time rather than memory: sixteen of them count as one number
    return max(numbers, numbers * left.shape[-1] // 16), max(left.ndim, right.ndim)


def _joined(node: Node, inputs: Inputs) -> tuple[int, int]:
    return sum(array.size for array in inputs if array is not None), 1


def _unsqueezed(node: Node, inputs: Inputs) -> tuple[int, int]:
    assert inputs[0] is not None
    return inputs[0].size, inputs[0].ndim + len(axes_of(node, inputs) or ())


#: operator → numbers and axes of its output, before it is computed; others broadcast
SIZES: dict[str, Callable[[Node, Inputs], tuple[int, int]]] = {
    **dict.fromkeys(
        (
            "Cast",
            "CastLike",
            "Flatten",
            "Identity",
            "ReduceL1",
            "ReduceL2",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
            "Shape",
            "Size",
            "Slice",
            "Split",
            "Squeeze",
            "Transpose",
            "Dropout",
        ),
        _first,
    ),
    "Constant": lambda node, inputs: (0, 0),
    "Concat": _joined,
    "ConstantOfShape": _target(0),
    "Expand": _expanded,
    "Gather": _gathered,
    "MatMul": _multiplied,
    "Range": _range,
    "Reshape": lambda node, inputs: (inputs[0].size, inputs[1].size),  # type: ignore[union-attr]
    "Tile": _expanded,
    "Unsqueeze": _unsqueezed,
}
