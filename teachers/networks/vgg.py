"""VGG-11 and VGG-16 (Simonyan and Zisserman, 2015) under torchvision's state-dict names.

Two classifiers share one name. ImageNet's is 4,096 wide and reads a 7×7 map; the usual one for
small images is 512 wide and reads a single pixel, which is all that five max-pools leave of a
32×32 image.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from teachers.networks.blocks import initialise
from teachers.networks.variants import InputShape, Shapes, imagenet_size

# channels of the convolutions between two max-pools
VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLEST_SIDE_OF_FIVE_POOLS = 32


class VGG(nn.Module):
    """Stages of 3×3 convolutions that each end in a max-pool, and three linear layers.

    ``side`` is that of the map that the classifier reads, ``width`` that of its two hidden layers.
    ``ceil`` rounds the size after a max-pool up.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        *,
        channels: int,
        classes: int,
        batch_norm: bool,
        side: int,
        width: int,
        ceil: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in stages:
            for outputs in stage:
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(nn.ReLU())
                channels = outputs
            layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=ceil))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, classes),
        )
        initialise(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def vgg11(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """VGG-11; the classifier follows ``shapes["classifier.0.weight"]``, else the input's size."""
    return _vgg(VGG11, False, input_shape, classes, shapes)


def vgg11_bn(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """:func:`vgg11` with a batch norm behind every convolution."""
    return _vgg(VGG11, True, input_shape, classes, shapes)


def vgg16(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """VGG-16; the classifier follows ``shapes["classifier.0.weight"]``, else the input's size."""
    return _vgg(VGG16, False, input_shape, classes, shapes)


def vgg16_bn(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """:func:`vgg16` with a batch norm behind every convolution."""
    return _vgg(VGG16, True, input_shape, classes, shapes)


def _vgg(
    stages: Sequence[Sequence[int]],
    batch_norm: bool,
    input_shape: InputShape,
    classes: int,
    shapes: Shapes | None,
) -> nn.Module:
    side, width = _classifier(stages[-1][-1], input_shape, shapes)
    return VGG(
        stages,
        channels=input_shape[0],
        classes=classes,
        batch_norm=batch_norm,
        side=side,
        width=width,
        # below 32 pixels the last max-pool would leave nothing; from there on sizes are the usual
        ceil=min(input_shape[1:]) < SMALLEST_SIDE_OF_FIVE_POOLS,
    )


def _classifier(features: int, input_shape: InputShape, shapes: Shapes | None) -> tuple[int, int]:
    """Side of the map that the classifier reads, and its width."""
    stored = (shapes or {}).get("classifier.0.weight", ())
    if len(stored) == 2:
        # a stored shape that fits no side is refused later, by name, with the other weights
        side = 7 if stored[1] == 49 * features else max(1, isqrt(stored[1] // features))
        return side, stored[0]
    return (7, 4096) if imagenet_size(input_shape) else (1, 512)
