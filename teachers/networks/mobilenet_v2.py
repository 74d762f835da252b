"""MobileNetV2 (Sandler et al., 2018) under torchvision's state-dict names.

The stem has stride 2, and stride 1 for images below 64 pixels; the weights fit both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from teachers.networks.blocks import conv_bn, initialise
from teachers.networks.variants import InputShape, Shapes, imagenet_size

# expansion, channels, blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Expand by 1×1, mix space by a depthwise 3×3, project by 1×1 without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_bn(inputs, hidden, 1, nn.ReLU6))
        layers.append(conv_bn(hidden, hidden, 3, nn.ReLU6, stride=stride, groups=hidden))
        layers.append(nn.Conv2d(hidden, outputs, 1, bias=False))
        layers.append(nn.BatchNorm2d(outputs))
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×outputs×(H/stride)×(W/stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residuals, a 1×1 convolution, the mean, a classifier."""

    def __init__(self, channels: int, classes: int, *, stem_stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(channels, STEM, 3, nn.ReLU6, stride=stem_stride)]
        inputs = STEM
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                step = stride if block == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, step, expansion))
                inputs = outputs
        layers.append(conv_bn(inputs, LAST, 1, nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, classes))
        initialise(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def mobilenet_v2(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """MobileNetV2 of width 1; the size of the input decides the stride of the stem."""
    return MobileNetV2(input_shape[0], classes, stem_stride=2 if imagenet_size(input_shape) else 1)
