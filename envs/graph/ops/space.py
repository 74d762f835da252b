"""Operators on the pixels of a map: cut, pad, interpolate, and the repair of sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from envs.graph.netspec import Shape
from envs.graph.ops.base import (
    FLAG,
    LARGEST,
    NUMBER,
    Attrs,
    Field,
    Op,
    Sizes,
    finite,
    one_of,
    optional,
    whole,
)


def _lists(holds: Callable[[object], bool], bound: str) -> Field:
    """One entry for each of one or two axes."""
    return Field(
        f"a list of one or two, each {bound}",
        lambda value: (
            isinstance(value, list | tuple) and len(value) in (1, 2) and all(map(holds, value))
        ),
    )


SIZES = _lists(whole(1), f"a whole number from 1 to {LARGEST}")


def _axes(attrs: Attrs, name: str, shape: Sequence[object]) -> None:
    if len(attrs[name]) != len(shape) - 1:
        raise ValueError(f"{name} {list(attrs[name])} is meant for another shape than {shape}")


class SliceSpace(Op):
    """``x[:, :, start:stop:step, …]``. ``attrs``: start, stop (null: to the end), step."""

    fields = {  # noqa: RUF012
        "start": _lists(whole(0), f"a whole number from 0 to {LARGEST}"),
        "stop": _lists(
            lambda value: value is None or whole(1)(value),
            f"a whole number from 1 to {LARGEST}, or null",
        ),
        "step": SIZES,
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        for name in self.fields:
            _axes(attrs, name, inputs[0])

    def rigid(self, attrs: Attrs) -> bool:
        return any(attrs["start"]) or any(stop is not None for stop in attrs["stop"])

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        channels, *extents = inputs[0]
        found = []
        for extent, start, stop, step in zip(
            extents, attrs["start"], attrs["stop"], attrs["step"], strict=True
        ):
            end = extent if stop is None else np.minimum(stop, extent)
            found.append(-((start - end) // step))
        return (channels, *found)

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return slice_space, {name: tuple(attrs[name]) for name in self.fields}


def slice_space(
    x: Tensor, start: tuple[int, ...], stop: tuple[int | None, ...], step: tuple[int, ...]
) -> Tensor:
    """Pixels from ``start`` to before ``stop`` in steps, along every spatial axis."""
    cuts = [slice(*cut) for cut in zip(start, stop, step, strict=True)]
    return x[(slice(None), slice(None), *cuts)]


class Pad(Op):
    """Around the pixels. ``attrs``: padding ([low, high] per axis), mode, value."""

    fields = {  # noqa: RUF012
        "padding": _lists(
            lambda pair: (
                isinstance(pair, list | tuple) and len(pair) == 2 and all(map(whole(0), pair))
            ),
            f"two whole numbers from 0 to {LARGEST}",
        ),
        "mode": one_of("constant", "reflect", "replicate", "circular"),
        "value": NUMBER,
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        _axes(attrs, "padding", inputs[0])
        if attrs["mode"] in ("reflect", "circular"):
            room = attrs["mode"] == "circular"
            for pair, extent in zip(attrs["padding"], inputs[0][1:], strict=True):
                if max(pair) >= extent + room:
                    raise ValueError(f"{attrs['mode']} padding of {pair} around {extent} pixels")

    def rigid(self, attrs: Attrs) -> bool:
        return attrs["mode"] in ("reflect", "circular")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        channels, *extents = inputs[0]
        pairs = zip(extents, attrs["padding"], strict=True)
        return (channels, *(extent + low + high for extent, (low, high) in pairs))

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        # torch counts axes from the last one
        pad = tuple(number for pair in reversed(attrs["padding"]) for number in pair)
        options = {"pad": pad, "mode": attrs["mode"]}
        return F.pad, options | ({"value": attrs["value"]} if attrs["mode"] == "constant" else {})


class Interpolate(Op):
    """``attrs``: size or scale (per axis, the other null), mode, align."""

    fields = {  # noqa: RUF012
        "size": optional(SIZES),
        "scale": optional(
            _lists(
                lambda value: finite(value) and 0 < value <= LARGEST,  # type: ignore[operator]
                "a positive number",
            )
        ),
        "mode": one_of("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area"),
        "align": FLAG,
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        named = [name for name in ("size", "scale") if attrs[name] is not None]
        if len(named) != 1:
            raise ValueError("exactly one of size and scale says how large the result is")
        _axes(attrs, named[0], inputs[0])
        axes = {"linear": 1, "bilinear": 2, "bicubic": 2}.get(attrs["mode"], len(inputs[0]) - 1)
        if axes != len(inputs[0]) - 1:
            raise ValueError(f"{attrs['mode']} interpolation is given the shape {inputs[0]}")
        if attrs["align"] and attrs["mode"] not in ("linear", "bilinear", "bicubic"):
            raise ValueError(f"{attrs['mode']} interpolation cannot align corners")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        if attrs["size"] is not None:
            return (inputs[0][0], *attrs["size"])
        pairs = zip(inputs[0][1:], attrs["scale"], strict=True)
        return (inputs[0][0], *(np.floor(extent * scale).astype(int) for extent, scale in pairs))

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        if attrs["scale"] is None:
            return {}
        pairs = zip(inputs[0][1:], attrs["scale"], strict=True)
        # a map too small to be made smaller stays as it is
        return {"scale": [np.where(extent * scale < 1, 1.0, scale) for extent, scale in pairs]}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        options: dict[str, Any] = {"mode": attrs["mode"]}
        if attrs["mode"] in ("linear", "bilinear", "bicubic"):
            options["align_corners"] = attrs["align"]
        if attrs["size"] is not None:
            return F.interpolate, options | {"size": tuple(attrs["size"])}
        return F.interpolate, options | {"scale_factor": tuple(map(float, attrs["scale"]))}


class Resize(Op):
    """Repairs the size of a map without weights. ``attrs``: source and size (one number per axis).

    Whole ratios are averaged; anything else takes the nearest pixel by an index that is fixed
    when the student is built, so that every runtime rounds alike.
    """

    fields = {"source": SIZES, "size": SIZES}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        _axes(attrs, "size", inputs[0])
        if list(inputs[0][1:]) != list(attrs["source"]):
            raise ValueError(f"resize of maps of {attrs['source']} is given {inputs[0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (inputs[0][0], *attrs["size"])

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        return {"source": list(inputs[0][1:])}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return resize, {"source": tuple(attrs["source"]), "size": tuple(attrs["size"])}


def resize(x: Tensor, source: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Bring maps N×C×… of spatial size ``source`` to ``size``."""
    ratios = [old // new for old, new in zip(source, size, strict=True)]
    if all(old % new == 0 for old, new in zip(source, size, strict=True)):
        return F.avg_pool2d(x, ratios) if len(size) == 2 else F.avg_pool1d(x, ratios)
    for axis, (old, new) in enumerate(zip(source, size, strict=True), 2):
        if old != new:
            x = x.index_select(axis, torch.arange(new, device=x.device) * old // new)
    return x


SPACE: dict[str, Op] = {
    "slice_space": SliceSpace(),
    "pad": Pad(),
    "interpolate": Interpolate(),
    "resize": Resize(),
}
