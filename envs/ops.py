"""The table of operators: one entry says all that the rest of the house asks of an operator.

An entry knows the shape of the output, the tensors that the operator owns, its multiply-
accumulates, and how to run it. Adding an operator means adding one class and one line in
:data:`OPS`, and its way in from torch in :mod:`envs.trace`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.netspec import Shape

Attrs = Mapping[str, Any]

#: no map, kernel or number of channels is larger; a stranger's description must not fill memory
LARGEST = 1_000_000


@dataclass(frozen=True)
class Field:
    """What an attribute may be, in words and as a test."""

    bound: str
    holds: Callable[[object], bool]


def _whole(low: int) -> Callable[[object], bool]:
    # type() and not isinstance: True is an int to Python, and must not be one here
    return lambda value: type(value) is int and low <= value <= LARGEST


def _both(low: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, list | tuple) and len(value) == 2 and all(map(_whole(low), value))
    )


SIZE = Field(f"a whole number from 1 to {LARGEST}", _whole(1))
PAIR = Field(f"two whole numbers from 1 to {LARGEST}", _both(1))
PADDING = Field(f"two whole numbers from 0 to {LARGEST}", _both(0))
SHARE = Field(
    "a number from 0 to 1",
    lambda value: type(value) in (int, float) and 0 <= value <= 1,  # type: ignore[operator]
)
FLAG = Field("true or false", lambda value: type(value) is bool)


class Op(ABC):
    """What one operator is. All shapes are of one sample, without the batch."""

    #: has a kernel whose outputs an agent may scale (a *layer* of the papers)
    weighted = False
    #: acts on every channel by itself, so channels keep their identity through it
    channelwise = True
    #: owned by the layer before it: removed with it
    tail = False
    #: tensors that it reads
    arity = 1
    #: attribute → what it may be; all of them are always there
    fields: Mapping[str, Field] = {}

    @abstractmethod
    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        """Output shape, or ValueError where the inputs do not fit."""

    def parameters(self, attrs: Attrs) -> dict[str, Shape]:
        """Trained tensors by name; all float32."""
        return {}

    def buffers(self, attrs: Attrs) -> dict[str, tuple[Shape, int]]:
        """Untrained tensors of the state dict by name, each with the bytes of one element."""
        return {}

    def tensors(self, attrs: Attrs) -> dict[str, Shape]:
        """Parameters and buffers."""
        untrained = {name: shape for name, (shape, _) in self.buffers(attrs).items()}
        return self.parameters(attrs) | untrained

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates of convolutions and linear layers; the rest count as 0."""
        return 0

    def module(self, attrs: Attrs) -> nn.Module | None:
        """A fresh module for an operator that owns tensors."""
        return None

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        """The function and keyword arguments of an operator that owns none."""
        raise NotImplementedError


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _maps(shape: Shape, what: str) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"{what} is given a vector of {shape[0]}")
    return shape


def _positive(shape: Shape, what: str) -> Shape:
    if min(shape) < 1:
        raise ValueError(f"{what} would give a map of {shape}")
    return shape


class Conv2d(Op):
    """``attrs``: in, out, kernel, stride, padding, dilation (pairs), groups, bias."""

    weighted = True
    channelwise = False
    fields: Mapping[str, Field] = {
        "in": SIZE,
        "out": SIZE,
        "kernel": PAIR,
        "stride": PAIR,
        "padding": PADDING,
        "dilation": PAIR,
        "groups": Field("1", lambda value: type(value) is int and value == 1),
        "bias": FLAG,
    }

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = _maps(inputs[0], "convolution")
        if channels != attrs["in"]:
            raise ValueError(f"convolution of {attrs['in']} channels is given {channels}")
        size = (
            _window(extent, *pair)
            for extent, *pair in zip(
                (height, width),
                attrs["kernel"],
                attrs["stride"],
                attrs["padding"],
                attrs["dilation"],
                strict=True,
            )
        )
        return _positive((attrs["out"], *size), "convolution")

    def parameters(self, attrs: Attrs) -> dict[str, Shape]:
        weight = (attrs["out"], attrs["in"] // attrs["groups"], *attrs["kernel"])
        return {"weight": weight} | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(self.parameters(attrs)["weight"]) * output[1] * output[2]

    def module(self, attrs: Attrs) -> nn.Module:
        return nn.Conv2d(
            attrs["in"],
            attrs["out"],
            tuple(attrs["kernel"]),
            tuple(attrs["stride"]),
            tuple(attrs["padding"]),
            tuple(attrs["dilation"]),
            attrs["groups"],
            attrs["bias"],
        )


class Linear(Op):
    """``attrs``: in, out, bias."""

    weighted = True
    channelwise = False
    fields: Mapping[str, Field] = {"in": SIZE, "out": SIZE, "bias": FLAG}

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if inputs[0] != (attrs["in"],):
            raise ValueError(f"linear layer of {attrs['in']} inputs is given {inputs[0]}")
        return (attrs["out"],)

    def parameters(self, attrs: Attrs) -> dict[str, Shape]:
        weight = {"weight": (attrs["out"], attrs["in"])}
        return weight | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        return int(attrs["in"] * attrs["out"])

    def module(self, attrs: Attrs) -> nn.Module:
        return nn.Linear(attrs["in"], attrs["out"], attrs["bias"])


class BatchNorm(Op):
    """Over channels of maps or over features. ``attrs``: features, eps, momentum, affine, dims
    (of a map: 2, of a vector: 0)."""

    tail = True
    fields: Mapping[str, Field] = {
        "features": SIZE,
        "eps": SHARE,
        "momentum": SHARE,
        "affine": FLAG,
        "dims": Field("0 or 2", lambda value: type(value) is int and value in (0, 2)),
    }

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if inputs[0][0] != attrs["features"] or len(inputs[0]) != attrs["dims"] + 1:
            raise ValueError(f"batch norm of {attrs['features']} channels is given {inputs[0]}")
        return inputs[0]

    def parameters(self, attrs: Attrs) -> dict[str, Shape]:
        one = (attrs["features"],)
        return {"weight": one, "bias": one} if attrs["affine"] else {}

    def buffers(self, attrs: Attrs) -> dict[str, tuple[Shape, int]]:
        one = (attrs["features"],)
        return {
            "running_mean": (one, 4),
            "running_var": (one, 4),
            "num_batches_tracked": ((), 8),
        }

    def module(self, attrs: Attrs) -> nn.Module:
        kind = nn.BatchNorm2d if attrs["dims"] == 2 else nn.BatchNorm1d
        return kind(attrs["features"], attrs["eps"], attrs["momentum"], attrs["affine"])


class Activation(Op):
    """Element by element, without weights."""

    tail = True

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return self._function, dict(attrs)


class Pool2d(Op):
    """``attrs``: kernel, stride, padding (pairs), ceil, and count_include_pad for averages."""

    def __init__(self, function: Callable[..., Tensor], averages: bool) -> None:
        self._function = function
        self.fields = {"kernel": PAIR, "stride": PAIR, "padding": PADDING, "ceil": FLAG}
        if averages:
            self.fields = {**self.fields, "count_include_pad": FLAG}

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, *extents = _maps(inputs[0], "pooling")
        if any(2 * p > k for p, k in zip(attrs["padding"], attrs["kernel"], strict=True)):
            raise ValueError(f"pooling of {attrs['kernel']} is padded by {attrs['padding']}")
        sizes = []
        for extent, kernel, stride, padding in zip(
            extents, attrs["kernel"], attrs["stride"], attrs["padding"], strict=True
        ):
            span = extent + 2 * padding - kernel
            size = (-(-span // stride) if attrs["ceil"] else span // stride) + 1
            # torch drops a last window that would start in the padding on the right
            if attrs["ceil"] and (size - 1) * stride >= extent + padding:
                size -= 1
            sizes.append(size)
        return _positive((channels, *sizes), "pooling")

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        options: dict[str, Any] = {
            "kernel_size": tuple(attrs["kernel"]),
            "stride": tuple(attrs["stride"]),
            "padding": tuple(attrs["padding"]),
            "ceil_mode": attrs["ceil"],
        }
        if "count_include_pad" in self.fields:
            options["count_include_pad"] = attrs["count_include_pad"]
        return self._function, options


class AdaptiveAvgPool2d(Op):
    """``attrs``: size (pair). 1×1 is the usual global average."""

    fields: Mapping[str, Field] = {"size": PAIR}

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return (_maps(inputs[0], "pooling")[0], *attrs["size"])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        if tuple(attrs["size"]) == (1, 1):
            return _global_average, {}
        return F.adaptive_avg_pool2d, {"output_size": tuple(attrs["size"])}


class Flatten(Op):
    """Maps to features, channel by channel."""

    channelwise = False

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return (math.prod(inputs[0]),)

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return torch.flatten, {"start_dim": 1}


class Add(Op):
    """Where two paths of one shape meet."""

    arity = 2

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if any(shape != inputs[0] for shape in inputs):
            raise ValueError(f"add is given shapes {list(inputs)}")
        return inputs[0]

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return torch.add, {}


class Resize(Op):
    """Repairs the size of a map without weights. ``attrs``: source and size (pairs).

    Whole ratios are averaged; anything else takes the nearest pixel by an index that is fixed
    when the student is built, so that every runtime rounds alike.
    """

    fields: Mapping[str, Field] = {"source": PAIR, "size": PAIR}

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, *source = _maps(inputs[0], "resize")
        if source != list(attrs["source"]):
            raise ValueError(f"resize of maps of {attrs['source']} is given {inputs[0]}")
        return (channels, *attrs["size"])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return resize, {"source": tuple(attrs["source"]), "size": tuple(attrs["size"])}


def _global_average(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def resize(x: Tensor, source: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bring maps N×C×H×W of ``source`` = (H, W) to ``size``."""
    (height, width), (new_height, new_width) = source, size
    if height % new_height == 0 and width % new_width == 0:
        return F.avg_pool2d(x, (height // new_height, width // new_width))
    rows = torch.arange(new_height, device=x.device) * height // new_height
    columns = torch.arange(new_width, device=x.device) * width // new_width
    return x.index_select(2, rows).index_select(3, columns)


OPS: dict[str, Op] = {
    "conv2d": Conv2d(),
    "linear": Linear(),
    "batch_norm": BatchNorm(),
    "relu": Activation(F.relu),
    "max_pool2d": Pool2d(F.max_pool2d, averages=False),
    "avg_pool2d": Pool2d(F.avg_pool2d, averages=True),
    "adaptive_avg_pool2d": AdaptiveAvgPool2d(),
    "flatten": Flatten(),
    "add": Add(),
    "resize": Resize(),
}
