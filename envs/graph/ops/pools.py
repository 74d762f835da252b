"""Pooling over windows, over the whole map, and over one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from envs.graph.netspec import Shape
from envs.graph.ops.base import (
    FLAG,
    NUMBER,
    Attrs,
    Field,
    Op,
    Size,
    Sizes,
    one_of,
    per_axis,
    sizes,
    spatial,
    whole,
)


class Pool(Op):
    """A window that slides over a map.

    ``attrs``: kernel, stride (one number per axis), ceil; and of padding, dilation,
    count_include_pad, norm what the kind of pooling has.
    """

    def __init__(
        self, dims: int, function: Callable[..., Tensor], extra: Mapping[str, Field]
    ) -> None:
        self.dims, self._function = dims, function
        self.fields = {"kernel": sizes(dims), "stride": sizes(dims), "ceil": FLAG, **extra}

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        spatial(inputs[0], self.dims, "pooling")
        for padding, kernel in zip(self._padding(attrs), attrs["kernel"], strict=True):
            if 2 * padding > kernel:
                raise ValueError(f"pooling of {attrs['kernel']} is padded by {attrs['padding']}")

    def _padding(self, attrs: Attrs) -> Sequence[Size]:
        padding: Sequence[Size] = attrs.get("padding", [0] * self.dims)
        return padding

    def _dilation(self, attrs: Attrs) -> Sequence[Size]:
        dilation: Sequence[Size] = attrs.get("dilation", [1] * self.dims)
        return dilation

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        channels, *extents = inputs[0]
        found = []
        for extent, kernel, stride, padding, dilation in zip(
            extents,
            attrs["kernel"],
            attrs["stride"],
            self._padding(attrs),
            self._dilation(attrs),
            strict=True,
        ):
            span = extent + 2 * padding - dilation * (kernel - 1) - 1
            if attrs["ceil"]:
                size = -(-span // stride) + 1
                # torch drops a last window that would start in the padding on the right
                size = size - ((size - 1) * stride >= extent + padding)
            else:
                size = span // stride + 1
            found.append(size)
        return (channels, *found)

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        """Windows that still fit where a map is smaller than the teacher's."""
        padding, dilation = self._padding(attrs), self._dilation(attrs)
        kernels: list[Size] = []
        spacings: list[Size] = []
        for extent, k, p, d in zip(inputs[0][1:], attrs["kernel"], padding, dilation, strict=True):
            room = extent + 2 * p
            fits = d * (k - 1) < room
            if fits is True:
                spacings.append(d)
                kernels.append(k)
            else:
                spacings.append(np.where(fits, d, 1))
                kernels.append(np.where(fits, k, np.minimum(k, room)))
        return {"kernel": kernels} | ({"dilation": spacings} if "dilation" in attrs else {})

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        names = {"kernel": "kernel_size", "ceil": "ceil_mode", "norm": "norm_type"}
        options = {
            names.get(name, name): self._plain(value) if isinstance(value, list | tuple) else value
            for name, value in attrs.items()
        }
        return self._function, options

    def _plain(self, sizes: Sequence[Size]) -> Any:
        """Torch's LP pooling over one axis takes no list."""
        return tuple(sizes) if self.dims == 2 else sizes[0]


class AdaptivePool(Op):
    """``attrs``: size, one number per axis; null keeps the size of that axis."""

    def __init__(self, dims: int, function: Callable[..., Tensor], averages: bool) -> None:
        self.dims, self._function, self._averages = dims, function, averages
        self.fields = {
            "size": per_axis(
                dims, lambda size: size is None or whole(1)(size), "a whole number from 1, or null"
            )
        }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        spatial(inputs[0], self.dims, "pooling")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        given = zip(attrs["size"], inputs[0][1:], strict=True)
        return (inputs[0][0], *(extent if size is None else size for size, extent in given))

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        axes = tuple(range(2, 2 + self.dims))
        if all(size == 1 for size in attrs["size"]):
            # the same numbers, and it exports as one global operator
            return (_mean if self._averages else _maximum), {"axes": axes, "keepdim": True}
        size = tuple(attrs["size"])
        if not self._averages:
            return adaptive_maximum, {"size": size}
        return self._function, {"output_size": size if self.dims == 2 else size[0]}


def adaptive_maximum(x: Tensor, size: tuple[int | None, ...]) -> Tensor:
    """``F.adaptive_max_pool2d`` axis by axis: torch's own cannot be exported to ONNX."""
    for axis, wanted in enumerate(size, 2):
        extent = x.shape[axis]
        if wanted is None or wanted == extent:
            continue
        first = torch.arange(wanted, device=x.device) * extent // wanted
        last = (torch.arange(1, wanted + 1, device=x.device) * extent - 1) // wanted
        width = int(-(-extent // wanted)) + 1
        # windows differ in width; the narrower ones repeat their last pixel
        places = first[:, None] + torch.arange(width, device=x.device)
        places = torch.minimum(places, last[:, None])
        windows = x.index_select(axis, places.flatten())
        x = torch.unflatten(windows, axis, (wanted, width)).amax(axis + 1)
    return x


class Reduce(Op):
    """Drops one spatial axis. ``attrs``: axis (0 or 1), kind (mean or max)."""

    fields = {"axis": one_of(0, 1), "kind": one_of("mean", "max")}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if len(inputs[0]) < attrs["axis"] + 2:
            raise ValueError(f"there is no axis {attrs['axis']} in a map of shape {inputs[0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        gone = attrs["axis"] + 1
        return (*inputs[0][:gone], *inputs[0][gone + 1 :])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        kind = _mean if attrs["kind"] == "mean" else _maximum
        return kind, {"axes": (attrs["axis"] + 2,), "keepdim": False}


def _mean(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.mean(axes, keepdim=keepdim)


def _maximum(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.amax(axes, keepdim=keepdim)


def _windows(dims: int) -> dict[str, Op]:
    padding = {"padding": sizes(dims, 0)}
    average = padding | {"count_include_pad": FLAG}
    maximum = padding | {"dilation": sizes(dims)}
    functions = (
        (F.max_pool1d, F.avg_pool1d, F.lp_pool1d),
        (F.max_pool2d, F.avg_pool2d, F.lp_pool2d),
    )[dims - 1]
    return {
        f"max_pool{dims}d": Pool(dims, functions[0], maximum),
        f"avg_pool{dims}d": Pool(dims, functions[1], average),
        f"lp_pool{dims}d": Pool(dims, functions[2], {"norm": NUMBER}),
    }


POOLS: dict[str, Op] = {
    **_windows(1),
    **_windows(2),
    "adaptive_avg_pool1d": AdaptivePool(1, F.adaptive_avg_pool1d, averages=True),
    "adaptive_avg_pool2d": AdaptivePool(2, F.adaptive_avg_pool2d, averages=True),
    "adaptive_max_pool1d": AdaptivePool(1, F.adaptive_max_pool1d, averages=False),
    "adaptive_max_pool2d": AdaptivePool(2, F.adaptive_max_pool2d, averages=False),
    "reduce": Reduce(),
}
