"""Reshapes of all kinds; the batch stays the first axis and is left open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from teachers.onnx_import.operators.compounds import grouped
from teachers.onnx_import.rules import axes_of, reshaped
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
BATCH_ELSEWHERE = "a rearrangement that leaves each image by itself"


def reshape(step: Step) -> Activation:
    """A reshape to constant sides, or to sides computed from shapes."""
    x, target = step.x(), step.inputs[1] if step.has(1) else None
    if not isinstance(target, Constant):
        step.array(1, "target shape")
    assert isinstance(target, Constant)
    zero = bool(step.attr("allowzero", 0))
    shapes = []
    for batch in (0, 1):
        try:
            sides = target.at[batch].ravel().tolist()
            shapes.append(reshaped(tuple(x.metas[batch].shape), sides, zero))
        except (ValueError, IndexError) as error:
            raise step.refuse(
                "reshapes to sides that do not fit", value=error, bound="as many numbers"
            ) from None
    return to_shapes(step, x, (shapes[0], shapes[1]))


def to_shapes(step: Step, x: Activation, shapes: Shapes) -> Activation:
    """``x`` in the given shape at either batch size; nothing is written where that is its own."""
    x = _unmixed(step, x)
    if shapes == (tuple(x.metas[0].shape), tuple(x.metas[1].shape)):
        return x
    whole = grouped(step, x)
    if whole is not None and whole.shape == shapes[0]:
        return whole
    first, second = shapes
    if not first or len(first) > 8 or len(first) != len(second) or first[1:] != second[1:]:
        raise _mixed(step, first)
    keeps = all(shape[0] == meta.shape[0] for shape, meta in zip(shapes, x.metas, strict=True))
    part_of = "" if keeps else BATCH_ELSEWHERE
    if len(first) == 2 and keeps:
        return step.call(torch.flatten, x, 1)
    shaped = step.call(torch.reshape, x, (-1, *first[1:]), part_of=part_of)
    shaped.origin = None if keeps else x
    return shaped


def _unmixed(step: Step, x: Activation) -> Activation:
    """What ``x`` is a reshape of, where it mixes the images of a batch."""
    if x.origin is None:
        return x
    if x.sole:
        step.writer.graph.erase_node(x.call)
    return x.origin


def _mixed(step: Step, shape: Sequence[int]) -> Exception:
    return step.refuse(
        "mixes the images of a batch",
        value=f"a shape of {list(shape)}",
        bound="the batch as the first axis",
        remedy="Export with a dynamic batch size, and keep the batch first.",
    )


def flatten(step: Step) -> Activation:
    """All axes from ``axis`` on become one; only the batch may stand before them."""
    x = step.x()
    axis = int(step.attr("axis", 1))
    axis = axis + x.rank if axis < 0 else axis
    if not 0 <= axis <= x.rank:
        raise step.refuse("flattens from an impossible axis", value=axis, bound=f"0 to {x.rank}")
    first, second = (
        (math.prod(meta.shape[:axis]), math.prod(meta.shape[axis:])) for meta in x.metas
    )
    return to_shapes(step, x, (first, second))


def squeeze(step: Step) -> Activation:
    """Axes of one element are dropped; without a list of them, all but the batch."""
    x = step.x()
    axes = _axes(step)
    if axes is None:
        wanted = {axis for axis in range(1, x.rank) if x.shape[axis] == 1}
    else:
        wanted = {axis + x.rank if axis < 0 else axis for axis in axes}
    if not all(0 < axis < x.rank and x.shape[axis] == 1 for axis in wanted):
        raise step.refuse(
            "drops axes that it must not",
            value=f"axes {sorted(wanted)} of {list(x.shape)}",
            bound="axes of one element, behind the batch",
        )
    first, second = (
        tuple(side for axis, side in enumerate(meta.shape) if axis not in wanted)
        for meta in x.metas
    )
    return to_shapes(step, x, (first, second))


def unsqueeze(step: Step) -> Activation:
    """Axes of one element are added behind the batch."""
    x = step.x()
    axes = _axes(step) or []
    rank = x.rank + len(axes)
    if rank > 8 or any(not -rank <= axis < rank for axis in axes):
        raise step.refuse("adds impossible axes", value=axes, bound=f"{-rank} to {rank - 1}")
    wanted = {axis % rank for axis in axes}
    if 0 in wanted or len(wanted) != len(axes):
        raise step.refuse("adds axes before the batch", value=axes, bound=f"1 to {rank - 1}")
    shapes = []
    for meta in x.metas:
        sides = iter(meta.shape)
        shapes.append(tuple(1 if axis in wanted else next(sides) for axis in range(rank)))
    return to_shapes(step, x, (shapes[0], shapes[1]))


def _axes(step: Step) -> list[int] | None:
    given = [None, step.array(1, "list of axes") if step.has(1) else None]
    return axes_of(step.node, given)


def transpose(step: Step) -> Activation:
    """A permutation of the axes behind the batch; one that undoes the last leaves no trace."""
    x = step.x()
    perm = [int(axis) for axis in step.attr("perm", range(x.rank)[::-1])]
    if sorted(perm) != list(range(x.rank)):
        raise step.refuse(
            "permutes axes that are not there", value=perm, bound=f"0 to {x.rank - 1}"
        )
    if perm == sorted(perm):
        return x
    if x.call.target is torch.permute and isinstance(x.inputs[0], Activation):
        origin, earlier = x.inputs[0], x.call.args[1]
        assert isinstance(earlier, tuple)
        if [earlier[axis] for axis in perm] == sorted(perm):
            return origin
    return step.call(torch.permute, x, tuple(perm), part_of="" if perm[0] == 0 else BATCH_ELSEWHERE)


def expand(step: Step) -> Activation:
    """A broadcast to the shape of a tensor that it meets next, where it leaves no trace."""
    x, target = step.x(), step.inputs[1] if step.has(1) else None
    if not isinstance(target, Constant):
        step.array(1, "target shape")
    assert isinstance(target, Constant)
    shapes = [
        step.broadcast(tuple(meta.shape), array.ravel().tolist())
        for meta, array in zip(x.metas, target.at, strict=True)
    ]
    if shapes == [tuple(meta.shape) for meta in x.metas]:
        return x
    first, second = shapes
    if first[1:] != second[1:] or any(
        shape[0] != meta.shape[0] for shape, meta in zip(shapes, x.metas, strict=True)
    ):
        raise _mixed(step, first)
    return step.call(
        torch.Tensor.expand, x, (-1, *first[1:]), part_of="a sum or product with a larger tensor"
    )
