"""Operators that know channels by their place: joins, splits, shuffles, flattening."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from envs.graph.netspec import Shape
from envs.graph.ops.base import (
    COUNT,
    FLAG,
    LARGEST,
    SIZE,
    Attrs,
    Field,
    Ids,
    Op,
    Sizes,
    one_of,
    whole,
)

Fresh = Callable[[int], Ids]
Tie = Callable[[Ids, Ids], None]
Kept = NDArray[np.bool_]


class Meet(Op):
    """Where two paths meet: add or mul. An axis of size 1 stretches over the other's."""

    join = True
    arity = 2

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        ranks = len(inputs[0]) == len(inputs[1])
        if not ranks or any(a != b and 1 not in (a, b) for a, b in zip(*inputs, strict=True)):
            raise ValueError(f"two paths meet with the shapes {list(inputs)}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return tuple(np.maximum(a, b) for a, b in zip(*inputs, strict=True))

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        first, second = inputs
        if len(first) == len(second):
            tie(first, second)
        return first if len(first) >= len(second) else second

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return self._function, {}


class Concatenate(Op):
    """Channels (or features) of all inputs, one after the other."""

    join = True
    arity = None

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if any(shape[1:] != inputs[0][1:] for shape in inputs):
            raise ValueError(f"maps of different sizes are concatenated: {list(inputs)}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return np.concatenate(inputs)

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return concatenate, {}


def concatenate(*parts: Tensor) -> Tensor:
    """Along axis 1."""
    return torch.cat(parts, 1)


class Shuffle(Op):
    """Channel shuffle: channels as (groups, C / groups), transposed. ``attrs``: groups."""

    structural = True
    fields = {"groups": SIZE}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if inputs[0][0] % attrs["groups"]:
            raise ValueError(f"{attrs['groups']} groups do not divide {inputs[0][0]} channels")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return inputs[0]

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return inputs[0][shuffled(len(inputs[0]), attrs["groups"])]

    def restrict(self, attrs: Attrs, read: Kept, written: Kept) -> tuple[str, Attrs]:
        index = _kept(shuffled(len(read), attrs["groups"]), read, written)
        even = len(index) % attrs["groups"] == 0
        if even and np.array_equal(index, shuffled(len(index), attrs["groups"])):
            return "shuffle", attrs
        return "select", {"index": index.tolist()}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return shuffle, dict(attrs)


def _kept(index: Ids, read: Kept, written: Kept) -> Ids:
    """An order of channels, after those that a student dropped are gone."""
    place: Ids = np.cumsum(read) - 1
    kept: Ids = place[index[written]]
    return kept


def shuffled(channels: int, groups: int) -> Ids:
    """Order of the channels after a shuffle."""
    return np.arange(channels).reshape(groups, -1).T.reshape(-1)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle of N×C, N×C×L or N×C×H×W."""
    batch, count, *sizes = x.shape
    split = x.reshape(batch, groups, count // groups, *sizes)
    return split.transpose(1, 2).reshape(x.shape)


class Select(Op):
    """Channels by their index, in any order. ``attrs``: index."""

    structural = True
    fields = {  # noqa: RUF012
        "index": Field(
            f"a list of whole numbers from 0 to {LARGEST}",
            lambda value: (
                isinstance(value, list | tuple)
                and 1 <= len(value) <= LARGEST
                and all(map(whole(0), value))
            ),
        )
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if max(attrs["index"]) >= inputs[0][0]:
            raise ValueError(f"channel {max(attrs['index'])} is asked of {inputs[0][0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (len(attrs["index"]), *inputs[0][1:])

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        chosen: Ids = inputs[0][np.array(attrs["index"])]
        return chosen

    def restrict(self, attrs: Attrs, read: Kept, written: Kept) -> tuple[str, Attrs]:
        return "select", {"index": _kept(np.array(attrs["index"]), read, written).tolist()}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return select, {"index": tuple(attrs["index"])}


def select(x: Tensor, index: tuple[int, ...]) -> Tensor:
    """``x[:, index]``."""
    return x.index_select(1, torch.tensor(index, device=x.device))


class Slice(Op):
    """Channels from start to before stop. ``attrs``: start, stop."""

    structural = True
    fields = {"start": COUNT, "stop": SIZE}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if not attrs["start"] < attrs["stop"] <= inputs[0][0]:
            raise ValueError(
                f"channels {attrs['start']} to {attrs['stop']} are asked of {inputs[0][0]}"
            )

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (attrs["stop"] - attrs["start"], *inputs[0][1:])

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return inputs[0][attrs["start"] : attrs["stop"]]

    def restrict(self, attrs: Attrs, read: Kept, written: Kept) -> tuple[str, Attrs]:
        start = int(read[: attrs["start"]].sum())
        return "slice", {"start": start, "stop": start + int(written.sum())}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return channels, dict(attrs)


def channels(x: Tensor, start: int, stop: int) -> Tensor:
    """``x[:, start:stop]``."""
    return x[:, start:stop]


class PadChannels(Op):
    """Zero channels around those that it reads. ``attrs``: before, after."""

    structural = True
    fields = {"before": COUNT, "after": COUNT}  # noqa: RUF012

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (attrs["before"] + inputs[0][0] + attrs["after"], *inputs[0][1:])

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return np.concatenate([fresh(attrs["before"]), inputs[0], fresh(attrs["after"])])

    def restrict(self, attrs: Attrs, read: Kept, written: Kept) -> tuple[str, Attrs]:
        before, after = written[: attrs["before"]], written[attrs["before"] + len(read) :]
        return "pad_channels", {"before": int(before.sum()), "after": int(after.sum())}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return pad_channels, dict(attrs)


def pad_channels(x: Tensor, before: int, after: int) -> Tensor:
    """Zeros before and after along axis 1."""
    return F.pad(x, (0, 0) * (x.dim() - 2) + (before, after))


class ReduceChannels(Op):
    """All channels become one, as in spatial attention. ``attrs``: kind (mean or max)."""

    mixes = True
    fields = {"kind": one_of("mean", "max")}  # noqa: RUF012

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (1, *inputs[0][1:])

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return fresh(1)

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        function = torch.mean if attrs["kind"] == "mean" else torch.amax
        return function, {"dim": 1, "keepdim": True}


class Flatten(Op):
    """A map becomes a vector. ``attrs``: last; False: all pixels of a channel, then the next
    channel; True: all channels of a pixel, then the next pixel (the order of N×H×W×C)."""

    fields = {"last": FLAG}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if len(inputs[0]) < 2:
            raise ValueError("a vector is flattened")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (math.prod(inputs[0]),)

    def rigid(self, attrs: Attrs) -> bool:
        return True

    def route(
        self, attrs: Attrs, inputs: Sequence[Ids], shapes: Sequence[Shape], fresh: Fresh, tie: Tie
    ) -> Ids:
        return spread(inputs[0], math.prod(shapes[0][1:]), attrs["last"])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        if attrs["last"]:
            return flatten_last, {}
        return torch.flatten, {"start_dim": 1}


def spread(ids: Ids, pixels: int, last: bool) -> Ids:
    """Channels of a map → features of the flattened map."""
    return np.tile(ids, pixels) if last else np.repeat(ids, pixels)


def flatten_last(x: Tensor) -> Tensor:
    """N×C×… → N×(…·C), channels fastest."""
    return x.movedim(1, -1).flatten(1)


class FlattenSpace(Op):
    """(C, H, W) → (C, H·W)."""

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if len(inputs[0]) != 3:
            raise ValueError(f"both axes of a map are joined, but the shape is {inputs[0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        channels, height, width = inputs[0]
        return (channels, height * width)

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return torch.flatten, {"start_dim": 2}


class Unsqueeze(Op):
    """A vector becomes a map of one pixel. ``attrs``: dims (1 or 2)."""

    fields = {"dims": one_of(1, 2)}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if len(inputs[0]) != 1:
            raise ValueError(f"only a vector becomes a pixel, but the shape is {inputs[0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (inputs[0][0], *([1] * attrs["dims"]))

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return unsqueeze, dict(attrs)


def unsqueeze(x: Tensor, dims: int) -> Tensor:
    """N×F → N×F×1 or N×F×1×1."""
    return x[(..., *([None] * dims))]


CHANNELS: dict[str, Op] = {
    "add": Meet(torch.add),
    "mul": Meet(torch.mul),
    "cat": Concatenate(),
    "shuffle": Shuffle(),
    "select": Select(),
    "slice": Slice(),
    "pad_channels": PadChannels(),
    "reduce_channels": ReduceChannels(),
    "flatten": Flatten(),
    "flatten_space": FlattenSpace(),
    "unsqueeze": Unsqueeze(),
}
