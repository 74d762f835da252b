"""The architectures that a safetensors teacher may name.

A member is one file with the network and one line in :data:`ARCHITECTURES`. The registry itself
imports no torch: the network's file is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from edge.errors import check_member

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]


class Builder(Protocol):
    """Builds an untrained network; ``shapes`` are those of stored weights, where there are any."""

    def __call__(
        self, input_shape: tuple[int, int, int], classes: int, shapes: Shapes | None
    ) -> nn.Module: ...


@dataclass(frozen=True)
class Architecture:
    """One member: where its builder stands, and the names of its first and last weights.

    The two names let a file of weights be checked without building the network.
    """

    builder: str
    first_weight: str = "conv1.weight"
    last_weight: str = "fc.weight"

    def build(
        self, input_shape: tuple[int, int, int], classes: int, shapes: Shapes | None
    ) -> nn.Module:
        """An untrained network for inputs of ``input_shape`` (C, H, W)."""
        module, _, name = self.builder.partition(":")
        builder = cast(Builder, getattr(import_module(module), name))
        return builder(input_shape, classes, shapes)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture("teachers.resnet:resnet18"),
    "resnet34": Architecture("teachers.resnet:resnet34"),
    "small_cnn": Architecture("teachers.small_cnn:small_cnn"),
}


def architecture(name: str) -> Architecture:
    """The registered architecture ``name``; BadInput where there is none."""
    check_member(
        "architecture", name, ARCHITECTURES, "Name one of these as arch in the teacher's JSON."
    )
    return ARCHITECTURES[name]


def build(
    arch: str, *, input_shape: tuple[int, int, int], classes: int, shapes: Shapes | None = None
) -> nn.Module:
    """An untrained network of a registered architecture, in training mode.

    ``input_shape`` is (channels, height, width). ``shapes`` (state-dict name → shape) are those of
    the weights that will be loaded: they decide between variants that share one name, such as
    ResNet's two stems. The network's initial weights come from torch's global generator.
    """
    return architecture(arch).build(input_shape, classes, shapes)
