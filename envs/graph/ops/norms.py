"""Normalisation, and the other operators with a few numbers per channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.graph.netspec import Shape
from envs.graph.ops.base import (
    DIMS,
    FLAG,
    NUMBER,
    SHARE,
    SIZE,
    Attrs,
    Elementwise,
    Field,
    Size,
    Sizes,
    per_channel,
    spatial,
)


class _PerChannel(Elementwise):
    """Owns numbers for every channel that it is given. ``attrs``: features, dims, …"""

    tail = True
    what = ""

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        per_channel(inputs[0], attrs, self.what)

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        return {"features": inputs[0][0]}


def _affine(attrs: Attrs, weight: bool, bias: bool) -> dict[str, Sizes]:
    one = (attrs["features"],)
    return ({"weight": one} if weight else {}) | ({"bias": one} if bias else {})


class BatchNorm(_PerChannel):
    """``attrs``: features, eps, momentum, affine, dims (spatial axes of what it is given)."""

    what = "batch norm"
    fields = {  # noqa: RUF012
        "features": SIZE,
        "eps": SHARE,
        "momentum": SHARE,
        "affine": FLAG,
        "dims": DIMS,
    }

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        return _affine(attrs, attrs["affine"], attrs["affine"])

    def buffers(self, attrs: Attrs) -> dict[str, tuple[Sizes, int]]:
        one = (attrs["features"],)
        return {
            "running_mean": (one, 4),
            "running_var": (one, 4),
            "num_batches_tracked": ((), 8),
        }

    def module(self, attrs: Attrs) -> nn.Module:
        kind = nn.BatchNorm2d if attrs["dims"] == 2 else nn.BatchNorm1d
        return kind(attrs["features"], attrs["eps"], attrs["momentum"], attrs["affine"])


class GroupNorm(_PerChannel):
    """Instance norm has as many groups as channels. ``attrs``: features, groups, eps, affine, dims.

    A student keeps one group per channel where the teacher has that; otherwise the groups are the
    largest number up to the teacher's that divides the channels. Where a map is one pixel, a
    group keeps at least two channels.
    """

    what = "group norm"
    fields = {  # noqa: RUF012
        "features": SIZE,
        "groups": SIZE,
        "eps": SHARE,
        "affine": FLAG,
        "dims": DIMS,
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        super().check(attrs, inputs)
        if attrs["features"] % attrs["groups"]:
            raise ValueError(f"{attrs['groups']} groups do not divide {attrs['features']} channels")

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        features, *extents = inputs[0]
        each = attrs["groups"] == attrs["features"] > 1
        limit = features if each else attrs["groups"]
        # of one number alone, nothing is left but its bias; a teacher may have it so all the same
        lone = (math.prod(extents) == 1) & (features != attrs["features"])
        limit = np.where(lone, np.minimum(limit, np.maximum(features // 2, 1)), limit)
        return {"features": features, "groups": _largest_divisor(features, limit)}

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        return _affine(attrs, attrs["affine"], attrs["affine"])

    def module(self, attrs: Attrs) -> nn.Module | None:
        if not attrs["affine"]:
            return None
        return nn.GroupNorm(attrs["groups"], attrs["features"], attrs["eps"])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return F.group_norm, {"num_groups": attrs["groups"], "eps": attrs["eps"]}


def _largest_divisor(number: Size, limit: Size) -> Size:
    numbers, limits = np.broadcast_arrays(number, limit)
    asked = np.stack([numbers.ravel(), limits.ravel()])
    pairs, where = np.unique(asked, axis=1, return_inverse=True)
    best = [
        next(divisor for divisor in range(most, 0, -1) if whole % divisor == 0)
        for whole, most in pairs.T.tolist()
    ]
    found = np.array(best)[where.reshape(-1)].reshape(numbers.shape)
    return found if found.ndim else int(found)


class LayerNorm(_PerChannel):
    """Over the channels of every pixel. ``attrs``: features, eps, weight, bias, dims."""

    what = "layer norm"
    fields = {  # noqa: RUF012
        "features": SIZE,
        "eps": SHARE,
        "weight": FLAG,
        "bias": FLAG,
        "dims": DIMS,
    }

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        return _affine(attrs, attrs["weight"], attrs["bias"])

    def module(self, attrs: Attrs) -> nn.Module | None:
        if not attrs["weight"] and not attrs["bias"]:
            return None
        return ChannelNorm(attrs["features"], attrs["eps"], attrs["weight"], attrs["bias"])

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return channel_norm, {"eps": attrs["eps"]}


class ChannelNorm(nn.Module):
    """Layer norm over axis 1 of N×C, N×C×L or N×C×H×W."""

    def __init__(self, features: int, eps: float, weight: bool, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features)) if weight else None
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def reset_parameters(self) -> None:
        """Back to the identity."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.eps, self.weight, self.bias)


def channel_norm(
    x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Mean 0 and variance 1 over axis 1, then · weight + bias."""
    if x.dim() == 2:
        return F.layer_norm(x, x.shape[1:], weight, bias, eps)
    last = x.movedim(1, -1)
    return F.layer_norm(last, last.shape[-1:], weight, bias, eps).movedim(-1, 1)


class Affine(_PerChannel):
    """y = x · weight + bias, per channel. ``attrs``: features, weight, bias, dims."""

    what = "scale and shift"
    fields = {  # noqa: RUF012
        "features": SIZE,
        "weight": FLAG,
        "bias": FLAG,
        "dims": DIMS,
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        super().check(attrs, inputs)
        if not attrs["weight"] and not attrs["bias"]:
            raise ValueError("scale and shift has neither of the two")

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        return _affine(attrs, attrs["weight"], attrs["bias"])

    def module(self, attrs: Attrs) -> nn.Module:
        return ScaleShift(attrs["features"], attrs["weight"], attrs["bias"])


class ScaleShift(nn.Module):
    """x · weight + bias over axis 1; either may be missing."""

    def __init__(self, features: int, weight: bool, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features)) if weight else None
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def reset_parameters(self) -> None:
        """Back to the identity."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in range(x.dim() - 2)))
        if self.weight is not None:
            x = x * self.weight.view(shape)
        return x if self.bias is None else x + self.bias.view(shape)


class PReLU(_PerChannel):
    """``attrs``: features (1 where all channels share one slope), dims."""

    what = "PReLU"
    fields = {"features": SIZE, "dims": DIMS}  # noqa: RUF012

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if attrs["features"] == 1:
            spatial(inputs[0], attrs["dims"], self.what)
        else:
            super().check(attrs, inputs)

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        return {} if attrs["features"] == 1 else super().adapt(attrs, inputs)

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        return {"weight": (attrs["features"],)}

    def module(self, attrs: Attrs) -> nn.Module:
        return nn.PReLU(attrs["features"])


class LocalResponseNorm(Elementwise):
    """Over neighbouring channels. ``attrs``: size, alpha, beta, k."""

    fields = {  # noqa: RUF012
        "size": SIZE,
        "alpha": NUMBER,
        "beta": NUMBER,
        "k": Field("a positive number", lambda value: NUMBER.holds(value) and value > 0),  # type: ignore[operator]
    }

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if len(inputs[0]) < 2:
            raise ValueError(f"local response norm is given the shape {inputs[0]}")

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return F.local_response_norm, dict(attrs)
