"""Pooling over windows and over all of space, and reductions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from teachers.onnx_import.operators.windows import Window, padded, window
from teachers.onnx_import.rules import axes_of
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant

LEAST = float(torch.finfo(torch.float32).min)
PART_OF_LRN = "a local response norm"

MAX: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d}
AVERAGE: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LP: dict[int, Callable[..., Any]] = {1: F.lp_pool1d, 2: F.lp_pool2d}
GLOBAL_AVERAGE: dict[int, Callable[..., Any]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
}
GLOBAL_MAX: dict[int, Callable[..., Any]] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d}


def max_pool(step: Step) -> Activation:
    """The largest of each window; a padding that torch cannot spell becomes a pad before it."""
    x = step.x()
    view, function = _window(step, x, MAX)
    ceil = bool(step.attr("ceil_mode", 0))
    spelled = view.spelled(x.shape[2:], ceil)
    if spelled is None:
        x = padded(step, x, view.pads, 0.0 if _nonnegative(x) else LEAST)
    padding, ceil = spelled or ((0,) * len(view.kernel), ceil)
    return step.call(
        function, x, list(view.kernel), list(view.stride), list(padding), list(view.dilation), ceil
    )


def average_pool(step: Step) -> Activation:
    """The mean of each window, with the padding counted or not."""
    x = step.x()
    view, function = _window(step, x, AVERAGE)
    include, ceil = bool(step.attr("count_include_pad", 0)), bool(step.attr("ceil_mode", 0))
    if any(side != 1 for side in view.dilation):
        raise step.refuse("averages with gaps", value=view.dilation, bound="dilation 1")
    padding = view.padding
    if not any(any(pair) for pair in view.pads):
        include = True
    spelled = None if include else view.spelled(x.shape[2:], ceil)
    kept: tuple[slice, ...] = ()
    if spelled is not None:
        padding, ceil = spelled
    elif not include and x.rank < 5 and view.whole(x.shape[2:], ceil):
        return step.call(GLOBAL_AVERAGE[x.rank - 2], x, 1)
    elif not include and (found := view.aligned(x.shape[2:], ceil)) is not None:
        padding, ceil, kept = found
    elif not view.poolable:
        if not include or ceil:
            raise step.refuse(
                "averages over a padding that cannot be spelled",
                value=f"pads {view.pads}, count_include_pad={int(include)}, ceil_mode={int(ceil)}",
                bound="the same padding on both sides, at most half of the window",
                remedy="Pad before pooling, or pool without padding.",
            )
        x = padded(step, x, view.pads, 0.0)
        padding = (0,) * len(padding)
    part_of = PART_OF_LRN if x.rank == 5 else ""
    pooled = step.call(
        function,
        x,
        list(view.kernel),
        list(view.stride),
        list(padding),
        ceil,
        include,
        part_of=part_of,
    )
    if all(part == slice(0, side) for part, side in zip(kept, pooled.shape[2:], strict=False)):
        return pooled
    return step.call(operator.getitem, pooled, (slice(None), slice(None), *kept))


def lp_pool(step: Step) -> Activation:
    """The p-norm of each window; zeros around it change nothing."""
    x = step.x()
    view, function = _window(step, x, LP)
    norm = float(step.attr("p", 2))
    # torch sums powers, ONNX powers of absolute values
    signed = norm % 2 != 0 and not _nonnegative(x)
    if any(side != 1 for side in view.dilation) or not 1 <= norm <= 16 or signed:
        raise step.refuse(
            "pools in a way that cannot be spelled",
            value=f"p={norm}, dilations={view.dilation}",
            bound="p = 2, 4, … 16, or any of them behind a Relu; dilation 1",
        )
    x = padded(step, x, view.pads, 0.0)
    ceil = bool(step.attr("ceil_mode", 0))
    return step.call(function, x, norm, list(view.kernel), list(view.stride), ceil)


def _window(
    step: Step, x: Activation, functions: dict[int, Callable[..., Any]]
) -> tuple[Window, Callable[..., Any]]:
    view = window(step, x, tuple(step.attr("kernel_shape") or ()))
    function = functions.get(len(view.kernel))
    if function is None:
        raise step.refuse("pools over 3 axes", value=view.kernel, bound="1-D or 2-D windows")
    return view, function


def _nonnegative(x: Activation) -> bool:
    if x.op == "MaxPool":
        return isinstance(x.inputs[0], Activation) and _nonnegative(x.inputs[0])
    return x.op in ("Relu", "Sigmoid", "HardSigmoid", "Softplus")


def global_average_pool(step: Step) -> Activation:
    """The mean over space, whose axes stay with one element each."""
    return _global(step, GLOBAL_AVERAGE)


def global_max_pool(step: Step) -> Activation:
    """The maximum over space, whose axes stay with one element each."""
    return _global(step, GLOBAL_MAX)


def _global(step: Step, functions: dict[int, Callable[..., Any]]) -> Activation:
    x = step.x()
    if x.rank - 2 not in functions:
        raise step.refuse("has no space to pool over", value=f"{x.rank} axes", bound="3 or 4")
    return step.call(functions[x.rank - 2], x, 1)


def reduce_mean(step: Step) -> Activation:
    """The mean over some axes."""
    found = _axes(step)
    return step.x() if found is None else step.call(torch.mean, step.x(), *found)


def reduce_max(step: Step) -> Activation:
    """The maximum over some axes."""
    found = _axes(step)
    return step.x() if found is None else step.call(torch.amax, step.x(), *found)


def reduce_sum(step: Step) -> Activation:
    """The sum over some axes: the mean times their length."""
    found = _axes(step)
    if found is None:
        return step.x()
    count = math.prod(step.x().shape[axis] for axis in found[0])
    return step.elementwise(torch.mul, step.call(torch.mean, step.x(), *found), float(count))


def _axes(step: Step) -> tuple[list[int], bool] | None:
    """The axes and whether they stay; None where nothing is reduced."""
    x = step.x()
    if any(isinstance(value, Activation) for value in step.inputs[1:]):
        step.array(1, "axes")
    given = [value.at[0] if isinstance(value, Constant) else None for value in step.inputs]
    axes = axes_of(step.node, given)
    if not axes and step.attr("noop_with_empty_axes", 0):
        return None
    wanted = sorted({axis % x.rank for axis in axes}) if axes else list(range(x.rank))
    if 0 in wanted or any(not -x.rank <= axis < x.rank for axis in axes or ()):
        raise step.refuse(
            "reduces axes that it must not", value=axes or "all", bound=f"axes 1 to {x.rank - 1}"
        )
    return wanted, bool(step.attr("keepdims", 1))
