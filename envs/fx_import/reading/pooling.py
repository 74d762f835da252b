"""Pooling, and means and maxima over pixels or channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from envs.fx_import.reading.arithmetic import larger, meet, scaled
from envs.fx_import.reading.axes import Axes, Factor, join, plain, sizes
from envs.fx_import.reading.network import Constant, Network, Value
from envs.fx_import.reading.weighted import numbers

#: a reduction over a part of the channels is written out up to this many operators
LARGEST_PART = 16


def max_pool(
    dims: int,
    net: Network,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """``nn.MaxPool1d`` and ``nn.MaxPool2d``."""
    _no_indices(net, return_indices)
    attrs = _window(dims, kernel_size, stride, ceil_mode)
    attrs |= {"padding": numbers(padding, dims), "dilation": numbers(dilation, dims)}
    return _pool(dims, net, f"max_pool{dims}d", attrs, input)


def avg_pool(
    dims: int,
    net: Network,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """``nn.AvgPool1d`` and ``nn.AvgPool2d``."""
    attrs = _window(dims, kernel_size, stride, ceil_mode)
    attrs |= {
        "padding": numbers(padding, dims),
        "count_include_pad": bool(count_include_pad or divisor_override),
    }
    if divisor_override is None:
        return _pool(dims, net, f"avg_pool{dims}d", attrs, input)
    if ceil_mode:
        raise net.refuse("a divisor where windows may be cut off", "ceil_mode=False with it")
    # ONNX knows no divisor: the mean of whole windows, times their size over the divisor
    result = _pool(dims, net, f"avg_pool{dims}d", attrs, input)
    return scaled(net, result, math.prod(attrs["kernel"]) / divisor_override)


def lp_pool(
    dims: int,
    net: Network,
    input: Value,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Value:
    """``nn.LPPool1d`` and ``nn.LPPool2d``."""
    attrs = _window(dims, kernel_size, stride, ceil_mode) | {"norm": float(norm_type)}
    return _pool(dims, net, f"lp_pool{dims}d", attrs, input)


def _window(dims: int, kernel: Any, stride: Any, ceil: bool) -> dict[str, Any]:
    # torch's functions say "as the kernel" by None or by an empty list
    stride = kernel if stride is None or stride == [] else stride
    return {
        "kernel": numbers(kernel, dims),
        "stride": numbers(stride, dims),
        "ceil": bool(ceil),
    }


def _pool(dims: int, net: Network, op: str, attrs: dict[str, Any], input: Value) -> Value:
    net.rank(input, dims)
    return net.apply(op, attrs, input)


def adaptive_pool(
    dims: int, kind: str, net: Network, input: Value, output_size: Any, return_indices: bool = False
) -> Value:
    """``nn.AdaptiveAvgPool1d`` and its like; ``kind`` is avg or max."""
    _no_indices(net, return_indices)
    given = list(output_size) if isinstance(output_size, tuple | list) else [output_size]
    attrs = {"size": given * dims if len(given) == 1 else given}
    return _pool(dims, net, f"adaptive_{kind}_pool{dims}d", attrs, input)


def _no_indices(net: Network, asked: bool) -> None:
    if asked:
        raise net.refuse("pooling with indices", "pooling without indices")


def mean(net: Network, input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """Over pixels or channels."""
    return _reduce(net, "avg", input, dim, keepdim)


def amax(net: Network, input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """Over pixels or channels."""
    return _reduce(net, "max", input, dim, keepdim)


def maximum(
    net: Network, input: Value, dim: Any = None, keepdim: bool = False
) -> Value | tuple[Value | None, ...]:
    """``torch.max(x, dim)``: the values; nobody may ask for the indices. Also of two tensors."""
    if isinstance(dim, Value | Constant):
        return larger(net, input, dim)
    if not isinstance(dim, int):
        raise net.refuse("a maximum of other things", "a maximum over one axis")
    return _reduce(net, "max", input, dim, keepdim), None


def total(net: Network, input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The sum over pixels or channels: the mean times their number."""
    result = _reduce(net, "avg", input, dim, keepdim)
    count = 1
    for axis in _axes(input, dim):
        count *= sizes(input.axes)[axis]
    return scaled(net, result, count)


def _axes(value: Value, dim: Any) -> list[int]:
    given = dim if isinstance(dim, tuple | list) else range(value.rank) if dim is None else [dim]
    return sorted({axis % value.rank for axis in given or range(value.rank)})


def _reduce(net: Network, kind: str, value: Value, dim: Any, keepdim: bool) -> Value:
    """Over axes that are all channels, all pixels, or one whole axis of these, in any layout."""
    axes, shape = _axes(value, dim), net.shapes[value.name]
    if len(axes) == 1 and _is_part(net, value, axes[0]):
        return _over_part(net, kind, value, axes[0], keepdim)
    value = _over_channels(net, kind, value, axes)
    factors = [factor for axis in axes for factor in value.axes[axis]]
    dims = {factor.dim for factor in factors}
    rest = [factor for axis, each in enumerate(value.axes) if axis not in axes for factor in each]
    whole = dims.isdisjoint(factor.dim for factor in rest) and all(each > 0 for each in dims)
    if not whole:
        raise net.refuse(
            f"a mean or maximum over axes {axes} of {net.spelled(value)}",
            "one over all channels or pixels",
        )
    result = tuple(() if axis in axes else each for axis, each in enumerate(value.axes))
    name, count = value.name, len(shape) - 1
    if dims and not any(factor.dim > 0 for factor in rest):
        name = net.emit(f"adaptive_{kind}_pool{count}d", {"size": [1] * count}, name)
    elif dims:
        (gone,) = dims
        if keepdim:
            size = [1 if axis == gone else None for axis in range(1, count + 1)]
            name = net.emit(f"adaptive_{kind}_pool{count}d", {"size": size}, name)
        else:
            attrs = {"axis": gone - 1, "kind": "mean" if kind == "avg" else "max"}
            name = net.emit("reduce", attrs, name)
            result = _without(result, gone)
    kept = [each for axis, each in enumerate(result) if keepdim or axis not in axes]
    return net.rearranged(Value(name, result), tuple(kept))


def _is_part(net: Network, value: Value, axis: int) -> bool:
    """Whether an axis is part of the channels and few enough to take one by one."""
    factors = value.axes[axis]
    if len(factors) != 1 or factors == plain(net.shapes[value.name])[1]:
        return False
    return factors[0].dim == 0 and factors[0].extent <= LARGEST_PART


def _over_part(net: Network, kind: str, value: Value, axis: int, keepdim: bool) -> Value:
    """Over a part of the channels (maxout, branches that were stacked): one after the other."""
    extent = sizes(value.axes)[axis]
    parts = [net.take(value, axis, [position]) for position in range(extent)]
    if not keepdim:
        parts = [net.rearranged(p, (*p.axes[:axis], *p.axes[axis + 1 :])) for p in parts]
    result, *others = parts
    for other in others:
        result = meet(net, "add", result, other) if kind == "avg" else larger(net, result, other)
    return scaled(net, result, 1 / extent) if kind == "avg" else result


def _over_channels(net: Network, kind: str, value: Value, axes: Sequence[int]) -> Value:
    """One channel of all, where they are among the axes to be reduced."""
    whole = plain(net.shapes[value.name])[1]
    reduced = [axis for axis in axes if whole and value.axes[axis] == whole]
    if not reduced:
        return value
    name = net.emit("reduce_channels", {"kind": "mean" if kind == "avg" else "max"}, value.name)
    left = tuple(() if axis in reduced else each for axis, each in enumerate(value.axes))
    return replace(value, name=name, axes=left)


def _without(axes: Axes, gone: int) -> Axes:
    """The same axes, after an axis of the node before them is no more."""
    return tuple(
        join(Factor(f.dim - (f.dim > gone), f.extent, f.step) for f in axis) for axis in axes
    )
