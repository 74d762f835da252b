"""The architectures that a safetensors teacher may name.

A member is one file with the network and one line in :data:`ARCHITECTURES`. The registry itself
imports no torch: the network's file is imported when it is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from edge.errors import check_member
from teachers.networks.variants import InputShape, Shapes

if TYPE_CHECKING:
    from torch import nn


class Builder(Protocol):
    """Builds an untrained network; ``shapes`` are those of stored weights, where there are any."""

    def __call__(
        self, input_shape: InputShape, classes: int, shapes: Shapes | None
    ) -> nn.Module: ...


@dataclass(frozen=True)
class Architecture:
    """One member: its builder, as module:function, and the names of its first and last weights.

    The module stands in :mod:`teachers.networks`. The two names let a file of weights be checked
    without building the network: the first weight's second axis is the channels of an image, and
    the last weight's first axis is the classes, whether it is a linear layer's or a convolution's.
    """

    builder: str
    first_weight: str = "conv1.weight"
    last_weight: str = "fc.weight"

    def build(self, input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
        """An untrained network for inputs of ``input_shape`` (C, H, W)."""
        module, _, name = self.builder.partition(":")
        builder = cast(Builder, getattr(import_module(f"teachers.networks.{module}"), name))
        return builder(input_shape, classes, shapes)


ARCHITECTURES: dict[str, Architecture] = {
    "cloudcnn": Architecture("cloudcnn:cloudcnn", "features.conv1.weight", "classifier.weight"),
    "densenet121": Architecture(
        "densenet:densenet121", "features.conv0.weight", "classifier.weight"
    ),
    "densenet40_12": Architecture(
        "densenet:densenet40_12", "features.conv0.weight", "classifier.weight"
    ),
    "edgecnn10": Architecture("cloudcnn:edgecnn10", "features.conv1.weight", "classifier.weight"),
    "edgecnn3": Architecture("cloudcnn:edgecnn3", "features.conv1.weight", "classifier.weight"),
    "edgecnn5": Architecture("cloudcnn:edgecnn5", "features.conv1.weight", "classifier.weight"),
    "efficientnet_b0": Architecture(
        "efficientnet:efficientnet_b0", "features.0.0.weight", "classifier.1.weight"
    ),
    "mobilenet_v2": Architecture(
        "mobilenet_v2:mobilenet_v2", "features.0.0.weight", "classifier.1.weight"
    ),
    "mobilenet_v3_small": Architecture(
        "mobilenet_v3:mobilenet_v3_small", "features.0.0.weight", "classifier.3.weight"
    ),
    "resnet18": Architecture("resnet:resnet18"),
    "resnet34": Architecture("resnet:resnet34"),
    "resnet50": Architecture("resnet:resnet50"),
    "shufflenet_v2_x0_5": Architecture(
        "shufflenet_v2:shufflenet_v2_x0_5", "conv1.0.weight", "fc.weight"
    ),
    "shufflenet_v2_x1_0": Architecture(
        "shufflenet_v2:shufflenet_v2_x1_0", "conv1.0.weight", "fc.weight"
    ),
    "small_cnn": Architecture("small_cnn:small_cnn"),
    "squeezenet1_0": Architecture(
        "squeezenet:squeezenet1_0", "features.0.weight", "classifier.1.weight"
    ),
    "squeezenet1_1": Architecture(
        "squeezenet:squeezenet1_1", "features.0.weight", "classifier.1.weight"
    ),
    "vgg11": Architecture("vgg:vgg11", "features.0.weight", "classifier.6.weight"),
    "vgg11_bn": Architecture("vgg:vgg11_bn", "features.0.weight", "classifier.6.weight"),
    "vgg16": Architecture("vgg:vgg16", "features.0.weight", "classifier.6.weight"),
    "vgg16_bn": Architecture("vgg:vgg16_bn", "features.0.weight", "classifier.6.weight"),
    "wide_resnet28_10": Architecture("wide_resnet:wide_resnet28_10"),
    "wide_resnet28_2": Architecture("wide_resnet:wide_resnet28_2"),
    "wide_resnet28_4": Architecture("wide_resnet:wide_resnet28_4"),
}


def architecture(name: str) -> Architecture:
    """The registered architecture ``name``; BadInput where there is none."""
    check_member(
        "architecture", name, ARCHITECTURES, "Name one of these as arch in the teacher's JSON."
    )
    return ARCHITECTURES[name]


def build(
    arch: str, *, input_shape: InputShape, classes: int, shapes: Shapes | None = None
) -> nn.Module:
    """An untrained network of a registered architecture, in training mode.

    ``input_shape`` is (channels, height, width). ``shapes`` (state-dict name → shape) are those of
    the weights that will be loaded: they decide between variants that share one name, such as
    ResNet's two stems. Where they cannot, or there are none, the size of the input decides: below
    64 pixels it is the variant for small images. The network's initial weights come from torch's
    global generator. BadInput where the network cannot have inputs of that size.
    """
    return architecture(arch).build(input_shape, classes, shapes)
