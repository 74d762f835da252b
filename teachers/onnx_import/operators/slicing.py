"""Parts of tensors: slices, picks and splits along an axis, and padding."""

from __future__ import annotations

import operator
from typing import Any

import torch.nn.functional as F

from teachers.onnx_import.graph import Array
from teachers.onnx_import.rules import slices, split_sizes
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def slice_(step: Step) -> Activation:
    """A slice along axes behind the batch; backwards it is a pick."""
    x = step.x()
    try:
        wanted = slices(step.node, _constants(step), x.rank)
    except (ValueError, TypeError) as error:
        raise step.refuse("has an impossible slice", value=error, bound="its axes") from None
    for axis, part in wanted.items():
        if part.step == 0:
            raise step.refuse("has an impossible slice", value="step 0", bound="another step")
        start, stop, stride = part.indices(x.shape[axis])
        taken = range(start, stop, stride)
        if axis == 0:
            _whole_batch(step, part, x)
            continue
        if len(taken) == x.shape[axis] and stride == 1:
            continue
        if not taken:
            raise step.refuse("has an empty slice", value=part, bound=f"of {x.shape[axis]}")
        if stride > 0:
            index: Any = slice(start, stop, None if stride == 1 else stride)
        else:
            index = list(taken)
        x = step.call(operator.getitem, x, _at(axis, index))
    return x


def _constants(step: Step) -> list[Array | None]:
    return [None] + [
        step.array(index, "bound") if step.has(index) else None
        for index in range(1, len(step.inputs))
    ]


def _whole_batch(step: Step, part: slice, x: Activation) -> None:
    for meta in x.metas:
        if len(range(*part.indices(meta.shape[0]))) != meta.shape[0] or part.step < 0:
            raise step.refuse("takes part of the batch", value=part, bound="all images")


def _at(axis: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * axis + (index,)


def gather(step: Step) -> Activation:
    """Elements by constant numbers along an axis behind the batch."""
    x, index = step.x(), step.array(1, "list of indices")
    axis = int(step.attr("axis", 0))
    if not -x.rank <= axis < x.rank or axis % x.rank == 0 or index.ndim > 1 or index.size == 0:
        raise step.refuse(
            "picks along an impossible axis",
            value=f"axis {axis} of {x.rank}, indices of shape {list(index.shape)}",
            bound="a list of indices, behind the batch",
        )
    axis %= x.rank
    length = x.shape[axis]
    if index.min() < -length or index.max() >= length:
        raise step.refuse(
            "picks what is not there",
            value=[int(index.min()), int(index.max())],
            bound=f"indices below {length}",
        )
    wanted = (index % length).tolist()
    if wanted == list(range(length)):
        return x
    return step.call(operator.getitem, x, _at(axis, wanted))


def split(step: Step) -> list[Activation]:
    """Parts along an axis behind the batch."""
    x = step.x()
    axis = int(step.attr("axis", 0))
    if not -x.rank <= axis < x.rank or axis % x.rank == 0:
        raise step.refuse("splits an impossible axis", value=axis, bound=f"1 to {x.rank - 1}")
    axis %= x.rank
    length = x.shape[axis]
    sizes = split_sizes(step.node, _constants(step), length)
    if sum(sizes) != length or min(sizes) < 1 or len(sizes) != len(step.node.outputs):
        raise step.refuse("splits to sizes that do not fit", value=sizes, bound=f"sum {length}")
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    return [
        step.call(operator.getitem, x, _at(axis, slice(start, start + size)))
        for start, size in zip(starts, sizes, strict=True)
    ]


def pad(step: Step) -> Activation:
    """Padding of any axis but the batch; negative numbers crop."""
    x = step.x()
    flat = step.option(1, "pads")
    mode = MODES.get(step.attr("mode", "constant"))
    if flat is None or mode is None:
        raise step.refuse("pads in an unknown way", value=step.attr("mode"), bound=", ".join(MODES))
    axes = _axes(step, x)
    numbers = [int(number) for number in flat.ravel()]
    if len(numbers) != 2 * len(axes) or any(abs(number) > 2**20 for number in numbers):
        raise step.refuse("has impossible pads", value=numbers, bound=f"{2 * len(axes)} numbers")
    pairs = [(0, 0)] * x.rank
    for place, axis in enumerate(axes):
        pairs[axis] = (numbers[place], numbers[place + len(axes)])
    if any(pairs[0]):
        raise step.refuse("pads the batch", value=pairs[0], bound="no padding there")
    # torch lists the last axis first, and not the axes in front that stay as they are
    while len(pairs) > 1 and pairs[0] == (0, 0):
        pairs = pairs[1:]
    listed = [number for pair in reversed(pairs) for number in pair]
    if not any(listed):
        return x
    if mode == "constant":
        return step.call(F.pad, x, listed, mode, _value(step))
    if x.rank - len(pairs) < 2:
        raise step.refuse("repeats channels", value=f"mode {mode!r}", bound="padding of space")
    # these modes want every spatial axis to be listed
    listed += [0] * (2 * (x.rank - 2) - len(listed))
    return step.call(F.pad, x, listed, mode)


def _axes(step: Step, x: Activation) -> list[int]:
    if not step.has(3):
        return list(range(x.rank))
    axes = [int(axis) for axis in step.array(3, "list of axes").ravel()]
    if any(not -x.rank <= axis < x.rank for axis in axes):
        raise step.refuse("pads an impossible axis", value=axes, bound=f"0 to {x.rank - 1}")
    return [axis % x.rank for axis in axes]


def _value(step: Step) -> float:
    value = step.option(2, "value")
    number = 0.0 if value is None or value.size == 0 else float(value.reshape(-1)[0])
    return max(-3.4e38, min(3.4e38, number))
