"""Operators on constants, worked out in numpy while a file is read.

Exporters compute shapes, paddings and re-laid weights in the graph; what remains of them in a
module is numbers. A file of a few bytes may ask for terabytes (Expand, Tile, Range, …), so sizes
are summed up before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edge.errors import BadInput
from envs.fx_import.memory import constant_budget
from teachers.onnx_import.graph import Array, Node, is_float
from teachers.onnx_import.refusals import refuse
from teachers.onnx_import.rules import (
    Inputs,
    axes_of,
    reshaped,
    shape_slice,
    slices,
    split_sizes,
)
from teachers.onnx_import.sizes import size_of
from teachers.onnx_import.tensors import MOST_AXES

#: what numpy and Python raise where a stranger's node makes no sense
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
Fold = Callable[[Node, int, list[Any]], Any]


class Folder:
    """Folds nodes of one graph within one budget, beyond copies of the numbers ``stored`` in it."""

    def __init__(self, opset: int, stored: int) -> None:
        self.opset = opset
        self.most = constant_budget()
        self.left = self.most + 4 * stored

    def fold(self, node: Node, inputs: Inputs) -> list[Array]:
        """The node's outputs; BadInput where it is not defined, or larger than the budget."""
        fold = FOLDED.get(node.op)
        if fold is None:
            raise refuse(
                node,
                "works on constants alone",
                value=node.op,
                bound="an operator on the image, or one of " + ", ".join(sorted(FOLDED)),
                remedy="Export the teacher with constant folding.",
            )
        self._spend(node, inputs)
        try:
            with np.errstate(all="ignore"):
                found = fold(node, self.opset, list(inputs))
                return [_kept(part) for part in (found if isinstance(found, list) else [found])]
        except BadInput:
            raise
        except FAULTS as error:
            raise refuse(
                node,
                "cannot be worked out",
                value=f"{type(error).__name__}: {error}",
                bound="constants of shapes that fit",
            ) from None

    def _spend(self, node: Node, inputs: Inputs) -> None:
        try:
            numbers, axes = size_of(node, inputs)
        except FAULTS:
            return  # its own computation will say what is wrong, on inputs that are in memory
        if numbers > self.left or axes > MOST_AXES:
            raise refuse(
                node,
                "would write a constant that is too large",
                value=f"{numbers} numbers on {axes} axes",
                bound=f"at most {self.most} numbers in all constants, on {MOST_AXES} axes",
            )
        self.left -= max(numbers, 1)


def _kept(array: Any) -> Array:
    """float32, int64 or bool, as every constant here."""
    array = np.asarray(array)
    if is_float(array):
        return np.asarray(array, np.float32)
    return np.asarray(array, array.dtype if array.dtype == np.bool_ else np.int64)


def _constant(node: Node, opset: int, inputs: list[Any]) -> Any:
    for key, kind in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attributes:
            return np.array(node.attributes[key], kind)
    return node.attributes["value"]


def _constant_of_shape(node: Node, opset: int, inputs: list[Any]) -> Any:
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(tuple(inputs[0].ravel().tolist()), value.reshape(()), value.dtype)


def _cast(node: Node, opset: int, inputs: list[Any]) -> Any:
    if node.op == "CastLike":
        return inputs[0].astype(inputs[1].dtype)
    kind = CASTS.get(int(node.attributes["to"]))
    if kind is None:
        raise ValueError(f"a cast to type {node.attributes['to']}")
    return inputs[0].astype(kind)


#: TensorProto's numbers of the float types, the integers, and bool
CASTS: dict[int, type] = {
    **dict.fromkeys((1, 10, 11, 16), np.float32),
    **dict.fromkeys((2, 3, 4, 5, 6, 7, 12, 13), np.int64),
    9: np.bool_,
}


def _div(node: Node, opset: int, inputs: list[Any]) -> Any:
    left, right = inputs
    if is_float(left):
        return left / right
    if (right == 0).any():
        raise ZeroDivisionError("division by 0")
    # integers are divided towards zero
    return np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))


def _reduce(function: Callable[..., Any]) -> Fold:
    def fold(node: Node, opset: int, inputs: list[Any]) -> Any:
        axes = axes_of(node, inputs)
        if not axes:
            if node.attributes.get("noop_with_empty_axes", 0):
                return inputs[0]
            axes = list(range(inputs[0].ndim))
        keep = bool(node.attributes.get("keepdims", 1))
        return function(inputs[0], axis=tuple(axes), keepdims=keep)

    return fold


def _matmul(node: Node, opset: int, inputs: list[Any]) -> Any:
    if not all(map(is_float, inputs)):
        raise TypeError("a product of matrices of whole numbers")
    return np.matmul(*inputs)


def _l1(array: Array, **over: Any) -> Array:
    return np.asarray(np.sum(np.abs(array), **over))


def _squares(array: Array, **over: Any) -> Array:
    return np.asarray(np.sum(np.square(array), **over))


def _l2(array: Array, **over: Any) -> Array:
    return np.asarray(np.sqrt(_squares(array, **over)))


def _reshape(node: Node, opset: int, inputs: list[Any]) -> Any:
    zero = bool(node.attributes.get("allowzero", 0))
    return inputs[0].reshape(reshaped(inputs[0].shape, inputs[1].ravel().tolist(), zero))


def _slice(node: Node, opset: int, inputs: list[Any]) -> Any:
    wanted = slices(node, inputs, inputs[0].ndim)
    return inputs[0][tuple(wanted.get(axis, slice(None)) for axis in range(inputs[0].ndim))]


def _split(node: Node, opset: int, inputs: list[Any]) -> Any:
    axis = int(node.attributes.get("axis", 0))
    sizes = split_sizes(node, inputs, inputs[0].shape[axis])
    if sum(sizes) != inputs[0].shape[axis] or min(sizes) < 0:
        raise ValueError(f"{sizes} do not add up to {inputs[0].shape[axis]}")
    return np.split(inputs[0], np.cumsum(sizes)[:-1].tolist(), axis)


def _squeeze(node: Node, opset: int, inputs: list[Any]) -> Any:
    axes = axes_of(node, inputs)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(node: Node, opset: int, inputs: list[Any]) -> Any:
    return np.expand_dims(inputs[0], tuple(axes_of(node, inputs) or ()))


def _flatten(node: Node, opset: int, inputs: list[Any]) -> Any:
    axis = int(node.attributes.get("axis", 1))
    axis += inputs[0].ndim if axis < 0 else 0
    return inputs[0].reshape(math.prod(inputs[0].shape[:axis]), -1)


def _many(function: Callable[..., Any]) -> Fold:
    """Two or more inputs, folded from the left."""

    def fold(node: Node, opset: int, inputs: list[Any]) -> Any:
        result = inputs[0]
        for value in inputs[1:]:
            result = function(result, value)
        return result

    return fold


def _clip(node: Node, opset: int, inputs: list[Any]) -> Any:
    low, high = ([*inputs[1:], None, None])[:2]
    low = node.attributes.get("min") if low is None else low
    high = node.attributes.get("max") if high is None else high
    return np.clip(inputs[0], low, high)


FOLDED: dict[str, Fold] = {
    "Abs": lambda node, opset, inputs: np.abs(inputs[0]),
    "Add": _many(np.add),
    "And": _many(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": lambda node, opset, inputs: np.ceil(inputs[0]),
    "Clip": _clip,
    "Concat": lambda node, opset, inputs: np.concatenate(inputs, int(node.attributes["axis"])),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _div,
    "Dropout": lambda node, opset, inputs: inputs[0],
    "Equal": _many(np.equal),
    "Exp": lambda node, opset, inputs: np.exp(inputs[0]),
    "Expand": lambda node, opset, inputs: np.broadcast_to(
        inputs[0], np.broadcast_shapes(inputs[0].shape, tuple(inputs[1].ravel().tolist()))
    ),
    "Flatten": _flatten,
    "Floor": lambda node, opset, inputs: np.floor(inputs[0]),
    "Gather": lambda node, opset, inputs: np.take(
        inputs[0], inputs[1], int(node.attributes.get("axis", 0))
    ),
    "Greater": _many(np.greater),
    "GreaterOrEqual": _many(np.greater_equal),
    "Identity": lambda node, opset, inputs: inputs[0],
    "Less": _many(np.less),
    "LessOrEqual": _many(np.less_equal),
    "Log": lambda node, opset, inputs: np.log(inputs[0]),
    "MatMul": _matmul,
    "Max": _many(np.maximum),
    "Min": _many(np.minimum),
    "Mod": _many(np.mod),
    "Mul": _many(np.multiply),
    "Neg": lambda node, opset, inputs: -inputs[0],
    "Not": lambda node, opset, inputs: ~inputs[0],
    "Or": _many(np.logical_or),
    "Pow": _many(np.power),
    "Range": lambda node, opset, inputs: np.arange(*(value.reshape(()) for value in inputs)),
    "Reciprocal": lambda node, opset, inputs: 1 / inputs[0],
    "ReduceL1": _reduce(_l1),
    "ReduceL2": _reduce(_l2),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceSumSquare": _reduce(_squares),
    "Relu": lambda node, opset, inputs: np.maximum(inputs[0], 0),
    "Reshape": _reshape,
    "Shape": lambda node, opset, inputs: shape_slice(node, inputs[0].shape),
    "Size": lambda node, opset, inputs: np.array(inputs[0].size),
    "Slice": _slice,
    "Split": _split,
    "Sigmoid": lambda node, opset, inputs: 1 / (1 + np.exp(-inputs[0])),
    "Sqrt": lambda node, opset, inputs: np.sqrt(inputs[0]),
    "Squeeze": _squeeze,
    "Sub": _many(np.subtract),
    "Sum": _many(np.add),
    "Tanh": lambda node, opset, inputs: np.tanh(inputs[0]),
    "Tile": lambda node, opset, inputs: np.tile(inputs[0], inputs[1].ravel().tolist()),
    "Transpose": lambda node, opset, inputs: np.transpose(inputs[0], node.attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": lambda node, opset, inputs: np.where(*inputs),
}
