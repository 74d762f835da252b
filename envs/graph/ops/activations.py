"""Element by element, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from envs.graph.netspec import Shape
from envs.graph.ops.base import FLAG, NUMBER, Attrs, Elementwise, Field, optional

Options = Callable[[Attrs], dict[str, Any]]


class Activation(Elementwise):
    """A function of every number by itself.

    Args:
        function: of a tensor and keyword arguments.
        fields: attributes, where it has any.
        options: attributes → keyword arguments.
    """

    tail = True

    def __init__(
        self,
        function: Callable[..., Tensor],
        fields: Mapping[str, Field] | None = None,
        options: Options = dict,
    ) -> None:
        self._function, self._options = function, options
        self.fields = fields or {}

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return self._function, self._options(attrs)


class Scalar(Elementwise):
    """y = x · scale + shift with two plain numbers. ``attrs``: scale, shift."""

    fields = {"scale": NUMBER, "shift": NUMBER}  # noqa: RUF012

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return scale_and_shift, dict(attrs)


def scale_and_shift(x: Tensor, scale: float, shift: float) -> Tensor:
    """x · scale + shift."""
    return x * scale + shift


class Clip(Activation):
    """Between two bounds, of which one may be missing. ``attrs``: low, high."""

    def __init__(self) -> None:
        super().__init__(
            torch.clamp,
            {"low": optional(NUMBER), "high": optional(NUMBER)},
            lambda attrs: {"min": attrs["low"], "max": attrs["high"]},
        )

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        if attrs["low"] is None and attrs["high"] is None:
            raise ValueError("clip has neither a lower nor an upper bound")


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(F.relu),
    "relu6": Activation(F.relu6),
    "leaky_relu": Activation(
        F.leaky_relu, {"slope": NUMBER}, lambda attrs: {"negative_slope": attrs["slope"]}
    ),
    "elu": Activation(F.elu, {"alpha": NUMBER}),
    "silu": Activation(F.silu),
    "gelu": Activation(
        F.gelu, {"tanh": FLAG}, lambda attrs: {"approximate": "tanh" if attrs["tanh"] else "none"}
    ),
    "hardswish": Activation(F.hardswish),
    "sigmoid": Activation(torch.sigmoid),
    "hardsigmoid": Activation(F.hardsigmoid),
    "tanh": Activation(torch.tanh),
    "mish": Activation(F.mish),
    "softplus": Activation(F.softplus),
    "clip": Clip(),
    "softmax": Activation(torch.softmax, options=lambda attrs: {"dim": 1}),
}
