"""How ONNX spells shapes, axes, slices and splits, in attributes once and in inputs today."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from teachers.onnx_import.graph import Array, Node

Inputs = Sequence[Array | None]


def axes_of(node: Node, inputs: Inputs) -> list[int] | None:
    """The axes of Squeeze, Unsqueeze and the reductions: an attribute once, an input today."""
    if "axes" in node.attributes:
        return [int(axis) for axis in node.attributes["axes"]]
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(axis) for axis in inputs[1].ravel()]
    return None


def reshaped(shape: Sequence[int], target: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """The shape that Reshape gives: 0 keeps a side, −1 takes what is left; ValueError else."""
    sides = [
        shape[i] if side == 0 and not allow_zero else int(side) for i, side in enumerate(target)
    ]
    total = math.prod(shape)
    if sides.count(-1) == 1:
        rest = math.prod(side for side in sides if side != -1)
        sides[sides.index(-1)] = total // rest if rest else 0
    if math.prod(sides) != total or any(side < 0 for side in sides):
        raise ValueError(f"{list(shape)} cannot become {[int(side) for side in target]}")
    return tuple(sides)


def slices(node: Node, inputs: Inputs, rank: int) -> dict[int, slice]:
    """The slice of each axis that Slice names; attributes before opset 10, inputs since."""
    if "starts" in node.attributes:
        starts, stops = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes"), None
    else:
        given = [None if array is None else array.ravel().tolist() for array in inputs[1:]]
        starts, stops, axes, steps = (given + [None] * 4)[:4]
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    found = {}
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} of {rank}")
        # a stop before the first element of a backward slice is spelled as a huge negative number
        open_end = step < 0 and stop < -(2**31)
        found[int(axis) % rank] = slice(int(start), None if open_end else int(stop), int(step))
    return found


def split_sizes(node: Node, inputs: Inputs, length: int) -> list[int]:
    """The lengths of Split's parts; equal ones where it names none, the last may be shorter."""
    if "split" in node.attributes:
        return [int(size) for size in node.attributes["split"]]
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(size) for size in inputs[1].ravel()]
    parts = len(node.outputs)
    part = -(-length // parts)
    return [part] * (parts - 1) + [length - part * (parts - 1)]


def shape_slice(node: Node, shape: Sequence[int]) -> Array:
    """What Shape gives: all sides, or those from ``start`` to ``end`` (opset 15)."""
    end = node.attributes.get("end")
    return np.array(list(shape)[int(node.attributes.get("start", 0)) : end], np.int64)
