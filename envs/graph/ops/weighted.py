"""Convolutions and linear layers: the layers that an agent acts on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from envs.graph.netspec import Shape
from envs.graph.ops.base import DIMS, FLAG, SIZE, Attrs, Ids, Op, Size, Sizes, sizes, spatial

#: keys of the operator table
CONVOLUTIONS = ("conv1d", "conv2d")

_MODULES: tuple[type[nn.Conv1d] | type[nn.Conv2d], ...] = (nn.Conv1d, nn.Conv2d)


class Convolution(Op):
    """Zero-padded convolution over one or two axes.

    ``attrs``: in, out, kernel, stride, padding, dilation (one number per axis), groups, bias.
    """

    weighted = True

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.fields = {
            "in": SIZE,
            "out": SIZE,
            "kernel": sizes(dims),
            "stride": sizes(dims),
            "padding": sizes(dims, 0),
            "dilation": sizes(dims),
            "groups": SIZE,
            "bias": FLAG,
        }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        spatial(inputs[0], self.dims, "convolution")
        if inputs[0][0] != attrs["in"]:
            raise ValueError(f"convolution of {attrs['in']} channels is given {inputs[0][0]}")
        if attrs["in"] % attrs["groups"] or attrs["out"] % attrs["groups"]:
            raise ValueError(
                f"{attrs['groups']} groups do not divide {attrs['in']} and {attrs['out']} channels"
            )

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        extents = (
            (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for extent, kernel, stride, padding, dilation in zip(
                inputs[0][1:],
                attrs["kernel"],
                attrs["stride"],
                attrs["padding"],
                attrs["dilation"],
                strict=True,
            )
        )
        return (attrs["out"], *extents)

    def route(
        self,
        attrs: Attrs,
        inputs: Sequence[Ids],
        shapes: Sequence[Shape],
        fresh: Callable[[int], Ids],
        tie: Callable[[Ids, Ids], None],
    ) -> Ids:
        written = fresh(attrs["out"])
        groups = attrs["groups"]
        if groups > 1:
            read, wrote = inputs[0].reshape(groups, -1), written.reshape(groups, -1)
            if ties_blocks(attrs):
                for position in range(read.shape[1]):
                    tie(read[:, position], read[:, 0])
                for position in range(wrote.shape[1]):
                    tie(wrote[:, position], read[:, 0])
            else:
                for block in range(1, groups):
                    tie(read[block], read[0])
                    tie(wrote[block], wrote[0])
        return written

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        weight = (attrs["out"], attrs["in"] // attrs["groups"], *attrs["kernel"])
        return {"weight": weight} | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def macs(self, attrs: Attrs, inputs: Sequence[Sizes], output: Sizes) -> Size:
        per_pixel = attrs["out"] * (attrs["in"] // attrs["groups"]) * math.prod(attrs["kernel"])
        return per_pixel * math.prod(output[1:])

    def module(self, attrs: Attrs) -> nn.Module:
        return _MODULES[self.dims - 1](
            attrs["in"],
            attrs["out"],
            tuple(attrs["kernel"]),
            tuple(attrs["stride"]),
            tuple(attrs["padding"]),
            tuple(attrs["dilation"]),
            attrs["groups"],
            attrs["bias"],
        )


def depthwise(attrs: Attrs) -> bool:
    """Whether a convolution works on every channel by itself: one in, one out."""
    return bool(1 < attrs.get("groups", 1) == attrs["in"] == attrs["out"])


def ties_blocks(attrs: Attrs) -> bool:
    """Whether a grouped convolution loses whole groups, or a share of every group.

    Many small groups (depthwise, ResNeXt's 32 of 4) go or stay whole. Few large ones (ShuffleNet's
    3 of 80) all keep equally many of their channels.
    """
    return bool(attrs["groups"] > attrs["in"] // attrs["groups"])


class Linear(Op):
    """``attrs``: in, out, bias, dims (0: of a vector; 1 or 2: at every pixel of a map)."""

    weighted = True
    fields = {"in": SIZE, "out": SIZE, "bias": FLAG, "dims": DIMS}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        spatial(inputs[0], attrs["dims"], "linear layer")
        if inputs[0][0] != attrs["in"]:
            raise ValueError(f"linear layer of {attrs['in']} inputs is given {inputs[0][0]}")

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return (attrs["out"], *inputs[0][1:])

    def route(
        self,
        attrs: Attrs,
        inputs: Sequence[Ids],
        shapes: Sequence[Shape],
        fresh: Callable[[int], Ids],
        tie: Callable[[Ids, Ids], None],
    ) -> Ids:
        return fresh(attrs["out"])

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        weight = {"weight": (attrs["out"], attrs["in"])}
        return weight | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def macs(self, attrs: Attrs, inputs: Sequence[Sizes], output: Sizes) -> Size:
        return attrs["in"] * attrs["out"] * math.prod(output[1:])

    def module(self, attrs: Attrs) -> nn.Module:
        kind = Pointwise if attrs["dims"] else nn.Linear
        return kind(attrs["in"], attrs["out"], attrs["bias"])


class Pointwise(nn.Linear):
    """A linear layer at every pixel of N×C×L or N×C×H×W maps."""

    def forward(self, input: Tensor) -> Tensor:
        weight: Any = self.weight
        if input.dim() == 3:
            return F.conv1d(input, weight[:, :, None], self.bias)
        return F.conv2d(input, weight[:, :, None, None], self.bias)
