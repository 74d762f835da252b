"""Calls that move numbers about: reshape, permute, index, split, concatenate, pad, interpolate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from envs.fx_import.reading.arithmetic import meet
from envs.fx_import.reading.axes import moved, repeated, reshape, sizes
from envs.fx_import.reading.network import Constant, Network, Reader, Value


def regroup(net: Network, input: Value, *args: Any, **kwargs: Any) -> Value:
    """view, reshape, flatten, squeeze and unsqueeze: whatever keeps the order of the numbers."""
    try:
        return net.rearranged(input, reshape(input.axes, net.call.shape))
    except ValueError as error:
        if len(input.axes[1:]) == 1:
            # a vector in no order of ours becomes one, and is cut where one likes
            flat = net.value(net.canonical(input))
            if flat != input:
                return regroup(net, flat)
        raise net.refuse(f"{error}, which are {net.spelled(input)}", "whole axes") from None


def permute(call: Any) -> Reader:
    """Reads permute, transpose and their like, by trying ``call`` on axes told apart by size."""

    def read(net: Network, input: Value, *args: Any, **kwargs: Any) -> Value:
        probe = torch.empty(*range(2, 2 + input.rank), device="meta")
        order = [size - 2 for size in call(probe, *args, **kwargs).shape]
        return net.rearranged(input, tuple(input.axes[axis] for axis in order))

    return read


def expand(net: Network, input: Value, *args: Any, **kwargs: Any) -> Value:
    """expand and expand_as."""
    try:
        return net.rearranged(input, repeated(input.axes, net.call.shape))
    except ValueError as error:
        raise net.refuse(str(error), "axes of size 1 repeated") from None


def repeat(net: Network, input: Value, *args: Any, **kwargs: Any) -> Value:
    """repeat and tile: as expand, or several times the same channels."""
    shape = net.call.shape
    before = (1,) * (len(shape) - input.rank) + sizes(input.axes)
    longer = [axis for axis, size in enumerate(before) if size != shape[axis]]
    if input.rank != len(shape) or len(longer) != 1 or before[longer[0]] == 1:
        return expand(net, input)
    (axis,) = longer
    return cat(net, [input] * (shape[axis] // before[axis]), axis)


def index(net: Network, input: Value, key: Any) -> Value:
    """``x[...]`` with whole numbers, slices, lists, None and an ellipsis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    named = sum(each is not None and each is not Ellipsis for each in keys)
    if Ellipsis not in [each for each in keys if not isinstance(each, Constant)]:
        keys.append(Ellipsis)
    at = next(number for number, each in enumerate(keys) if each is Ellipsis)
    keys[at : at + 1] = [slice(None)] * (input.rank - named)
    axis, value = 0, input
    for each in keys:
        if each is None:
            value = net.rearranged(value, (*value.axes[:axis], (), *value.axes[axis:]))
            axis += 1
            continue
        size = sizes(value.axes)[axis]
        value = net.take(value, axis, _positions(net, each, size))
        if isinstance(each, int):
            value = net.rearranged(value, (*value.axes[:axis], *value.axes[axis + 1 :]))
        else:
            axis += 1
    return value


def _positions(net: Network, key: Any, size: int) -> Sequence[int]:
    if isinstance(key, Constant) and key.tensor.dim() <= 1 and key.tensor.dtype == torch.int64:
        key = key.tensor.tolist()
    if isinstance(key, slice):
        return range(*key.indices(size))
    if isinstance(key, int) and not isinstance(key, bool):
        return [key % size]
    if isinstance(key, list | tuple) and all(type(each) is int for each in key):
        return [each % size for each in key]
    raise net.refuse(f"an index by {type(key).__name__}", "whole numbers, slices and lists")


def narrow(net: Network, input: Value, dim: int, start: int, length: int) -> Value:
    """``x.narrow``."""
    return net.take(input, dim % input.rank, range(start, start + length))


def select(net: Network, input: Value, dim: int, index: Any) -> Value:
    """``x.select`` and ``x.index_select``."""
    axis = dim % input.rank
    value = net.take(input, axis, _positions(net, index, sizes(input.axes)[axis]))
    if isinstance(index, int):
        return net.rearranged(value, (*value.axes[:axis], *value.axes[axis + 1 :]))
    return value


def split(
    net: Network, input: Value, split_size_or_sections: Any, dim: int = 0
) -> tuple[Value, ...]:
    """split, chunk and tensor_split: the results' shapes say where they cut."""
    axis, start, parts = dim % input.rank, 0, []
    for shape in net.call.shapes:
        parts.append(net.take(input, axis, range(start, start + shape[axis])))
        start += shape[axis]
    return tuple(parts)


def chunk(net: Network, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    """``x.chunk``."""
    return split(net, input, chunks, dim)


def unbind(net: Network, input: Value, dim: int = 0) -> tuple[Value, ...]:
    """``x.unbind``."""
    return tuple(select(net, input, dim, position) for position in range(len(net.call.shapes)))


def cat(net: Network, tensors: Sequence[Any], dim: int = 0) -> Value:
    """Along the channels; zeros at either end are padding."""
    axis = dim % len(net.call.shape)
    given = list(tensors)
    before, after = _zeros(given, axis), _zeros(given[::-1], axis)
    values = [each for each in given if isinstance(each, Value)]
    inner = given[len(before) : len(given) - len(after)]
    if axis == 0 or len(values) != len(inner):
        raise net.refuse("a concatenation along the batch or with constants", "of channels")
    if any(net.channel(value, but=set(range(value.rank)) - {axis}) is None for value in values):
        raise net.refuse(
            f"a concatenation along axis {axis} of {net.spelled(values[0])}",
            "one along channels, of (batch, channels, space)",
        )
    names = [net.canonical(value, axis) for value in values]
    name = names[0] if len(names) == 1 else net.emit("cat", {}, *names)
    if before or after:
        name = net.emit("pad_channels", {"before": sum(before), "after": sum(after)}, name)
    return net.value(name, axis)


def stack(net: Network, tensors: Sequence[Any], dim: int = 0) -> Value:
    """Along an axis of its own: as a concatenation, of which the axis is a part."""
    axis, values = dim % len(net.call.shape), list(tensors)
    if not all(isinstance(each, Value) and each.rank == values[0].rank for each in values):
        raise net.refuse("a stack with constants", "a stack of tensors that depend on the image")
    channel = net.channel(*values)
    if channel is None:
        raise net.refuse(f"a stack of axes {net.spelled(values[0])}", "(batch, channels, space)")
    names = [net.canonical(value, channel) for value in values]
    joined = net.value(names[0] if len(names) == 1 else net.emit("cat", {}, *names), channel)
    shape = list(sizes(joined.axes))
    shape[channel : channel + 1] = [len(names), shape[channel] // len(names)]
    return net.rearranged(joined, moved(reshape(joined.axes, shape), channel, axis))


def zeros(net: Network, input: Value, *args: Any, **kwargs: Any) -> Constant:
    """zeros_like and new_zeros; no memory is taken for them."""
    return Constant(torch.zeros(()).expand(net.call.shape))


def _zeros(given: Sequence[Any], axis: int) -> list[int]:
    """Channels of the constants of zeros in front."""
    found = []
    for each in given:
        if not isinstance(each, Constant) or bool(each.tensor.any()):
            break
        found.append(each.tensor.shape[axis])
    return found


def pad(
    net: Network, input: Value, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Value:
    """``F.pad`` around pixels, and with zeros around channels; less than nothing cuts."""
    pairs = [(0, 0)] * input.rank
    for number in range(len(pad) // 2):
        pairs[input.rank - 1 - number] = (pad[2 * number], pad[2 * number + 1])
    cut = input
    for axis, (low, high) in enumerate(pairs):
        size = sizes(cut.axes)[axis]
        cut = net.take(cut, axis, range(max(0, -low), size - max(0, -high)))
    pairs = [(max(0, low), max(0, high)) for low, high in pairs]
    if not any(map(any, pairs)):
        return cut
    channel = net.channel(cut)
    if channel is None or any(pairs[0]):
        raise net.refuse(f"padding of axes {net.spelled(cut)}", "padding of channels or pixels")
    amount = float(value or 0)
    before, after = pairs.pop(channel)
    name = net.canonical(cut, channel)
    if any(map(any, pairs)):
        attrs = {"padding": [list(pair) for pair in pairs[1:]], "mode": mode, "value": amount}
        name = net.emit("pad", attrs, name)
    if before or after:
        if amount or mode != "constant":
            raise net.refuse("channels that are no zeros around others", "channels of zeros")
        name = net.emit("pad_channels", {"before": before, "after": after}, name)
    return net.value(name, channel)


def pad_module(mode: str) -> Reader:
    """Reads ``nn.ZeroPad2d``, ``nn.ReflectionPad2d`` and their like."""

    def read(net: Network, input: Value, padding: Sequence[int], value: float = 0.0) -> Value:
        return pad(net, input, padding, mode, value)

    return read


def interpolate(
    net: Network,
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    """``F.interpolate`` and ``nn.Upsample``."""
    if antialias:
        raise net.refuse("interpolation with antialiasing", "interpolation without it")
    dims = input.rank - 2
    # torch forgets the factor where it is asked to recompute it
    fixed = size is not None or recompute_scale_factor
    given = scale_factor if isinstance(scale_factor, tuple | list) else [scale_factor] * dims
    attrs = {
        "size": list(net.call.shape[2:]) if fixed else None,
        "scale": None if fixed else [float(each) for each in given],
        "mode": mode,
        "align": bool(align_corners),
    }
    return net.apply("interpolate", attrs, input)


def channel_shuffle(net: Network, input: Value, groups: int) -> Value:
    """``nn.ChannelShuffle``."""
    return net.apply("shuffle", {"groups": groups}, input)


def glu(net: Network, input: Value, dim: int = -1) -> Value:
    """``nn.GLU``: one half of the channels times the sigmoid of the other."""
    axis = dim % input.rank
    half = sizes(input.axes)[axis] // 2
    first = net.take(input, axis, range(half))
    gate = net.each("sigmoid", {}, net.take(input, axis, range(half, 2 * half)))
    return meet(net, "mul", first, gate)
