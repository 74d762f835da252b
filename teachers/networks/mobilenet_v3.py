"""MobileNetV3-small (Howard et al., 2019) under torchvision's state-dict names.

The stem has stride 2, and stride 1 for images below 64 pixels; the weights fit both.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from teachers.networks.blocks import InvertedBottleneck, SqueezeExcitation, conv_bn, initialise
from teachers.networks.variants import InputShape, Shapes, imagenet_size

# kernel, expanded channels, channels, squeeze and excite, activation, stride
SMALL: tuple[tuple[int, int, int, bool, type[nn.Module], int], ...] = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
STEM, LAST, HIDDEN = 16, 576, 1024


class MobileNetV3Small(nn.Module):
    """A stem, eleven inverted bottlenecks, a 1×1 convolution, the mean, two linear layers."""

    def __init__(self, channels: int, classes: int, *, stem_stride: int) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=1e-2)
        stem = conv_bn(channels, STEM, 3, nn.Hardswish, stride=stem_stride, norm=norm)
        layers: list[nn.Module] = [stem]
        inputs = STEM
        for kernel, expanded, outputs, excite, activation, stride in SMALL:
            excitation = _excitation(expanded) if excite else None
            layers.append(
                InvertedBottleneck(
                    inputs,
                    expanded,
                    outputs,
                    kernel,
                    stride,
                    activation,
                    excitation=excitation,
                    norm=norm,
                )
            )
            inputs = outputs
        layers.append(conv_bn(inputs, LAST, 1, nn.Hardswish, norm=norm))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(LAST, HIDDEN), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(HIDDEN, classes)
        )
        initialise(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _excitation(channels: int) -> SqueezeExcitation:
    """Squeezes to a quarter of the channels, rounded to the nearest multiple of 8."""
    squeezed = max(8, (channels // 4 + 4) // 8 * 8)
    return SqueezeExcitation(channels, squeezed, nn.ReLU, nn.Hardsigmoid)


def mobilenet_v3_small(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """MobileNetV3-small of width 1; the size of the input decides the stride of the stem."""
    stem_stride = 2 if imagenet_size(input_shape) else 1
    return MobileNetV3Small(input_shape[0], classes, stem_stride=stem_stride)
