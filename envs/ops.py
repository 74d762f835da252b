"""The table of operators: one entry says all that the rest of the house asks of an operator.

An entry knows the shape of the output, the tensors that the operator owns, its multiply-
accumulates, and how to run it. Adding an operator means adding one class and one line in
:data:`OPS`, and its way in from torch in :mod:`envs.trace`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.errors import BadInput
from envs.netspec import INPUT, NetSpec, Shape

Attrs = Mapping[str, Any]


class Op(ABC):
    """What one operator is. All shapes are of one sample, without the batch."""

    #: has a kernel whose outputs an agent may scale (a *layer* of the papers)
    weighted = False
    #: acts on every channel by itself, so channels keep their identity through it
    channelwise = True
    #: owned by the layer before it: removed with it
    tail = False

    @abstractmethod
    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        """Output shape, or ValueError where the inputs do not fit."""

    def parameters(self, attrs: Attrs) -> dict[str, Shape]:
        """Trained tensors by name; all float32."""
        return {}

    def buffers(self, attrs: Attrs) -> dict[str, tuple[Shape, int]]:
        """Untrained tensors of the state dict by name, each with the bytes of one element."""
        return {}

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


def _positive(shape: Shape, what: str) -> Shape:
    if min(shape) < 1:
        raise ValueError(f"{what} would give a map of {shape}")
    return shape


class Conv2d(Op):
    """``attrs``: in, out, kernel, stride, padding, dilation (pairs), groups, bias."""

    weighted = True
    channelwise = False

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = inputs[0]
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
    """Over channels of maps or over features. ``attrs``: features, eps, momentum, affine, dims."""

    tail = True

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

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, *extents = inputs[0]
        sizes = []
        for extent, kernel, stride, padding in zip(
            extents, attrs["kernel"], attrs["stride"], attrs["padding"], strict=True
        ):
            span = extent + 2 * padding - kernel
            size = (-(-span // stride) if attrs["ceil"] else span // stride) + 1
            # torch drops a last window that would start in the padding on the right
            if attrs["ceil"] and (size - 1) * stride >= extent + padding:
                size -= 1
            sizes.append(size if span >= 0 else 0)
        return _positive((channels, *sizes), "pooling")

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        options: dict[str, Any] = {
            "kernel_size": tuple(attrs["kernel"]),
            "stride": tuple(attrs["stride"]),
            "padding": tuple(attrs["padding"]),
            "ceil_mode": attrs["ceil"],
        }
        if "count_include_pad" in attrs:
            options["count_include_pad"] = attrs["count_include_pad"]
        return self._function, options


class AdaptiveAvgPool2d(Op):
    """``attrs``: size (pair). 1×1 is the usual global average."""

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return (inputs[0][0], *attrs["size"])

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

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if any(shape != inputs[0] for shape in inputs):
            raise ValueError(f"add is given shapes {list(inputs)}")
        return inputs[0]

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return torch.add, {}


class Resize(Op):
    """Repairs the size of a map without weights. ``attrs``: size (pair).

    Whole ratios are averaged; anything else takes the nearest pixel by an index that is fixed
    when the student is built, so that every runtime rounds alike.
    """

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return _positive((inputs[0][0], *attrs["size"]), "resize")

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
    "max_pool2d": Pool2d(F.max_pool2d),
    "avg_pool2d": Pool2d(F.avg_pool2d),
    "adaptive_avg_pool2d": AdaptiveAvgPool2d(),
    "flatten": Flatten(),
    "add": Add(),
    "resize": Resize(),
}


def check_spec(spec: NetSpec) -> None:
    """Prove that a spec runs: known operators, order, unique names, shapes that follow.

    Raises:
        BadInput: names the node that breaks the rule.
    """

    def refuse(problem: str, value: object, bound: str) -> BadInput:
        return BadInput(problem, value=value, bound=bound, remedy="Write the bundle again.")

    if not spec.nodes:
        raise refuse("the network description is empty", 0, "at least one operator")
    shapes: dict[str, Shape] = {INPUT: spec.input_shape}
    for node in spec.nodes:
        if node.op not in OPS:
            raise refuse(f"node {node.name!r} has an unknown operator", node.op, ", ".join(OPS))
        missing = [name for name in node.inputs if name not in shapes]
        if missing or not node.inputs or node.name in shapes:
            raise refuse(
                f"node {node.name!r} is out of place",
                {"inputs": list(node.inputs)},
                "a name of its own and inputs that earlier nodes write",
            )
        try:
            inferred = OPS[node.op].shape(node.attrs, [shapes[name] for name in node.inputs])
        except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
            raise refuse(f"node {node.name!r} does not fit", error, "shapes that fit") from None
        if inferred != node.shape:
            raise refuse(f"node {node.name!r} claims a wrong shape", node.shape, str(inferred))
        shapes[node.name] = inferred
    if len(spec.output.shape) != 1:
        raise refuse("the network ends in a map", spec.output.shape, "one logit per class")
