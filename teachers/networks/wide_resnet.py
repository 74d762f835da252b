"""Wide ResNet-28-k (Zagoruyko and Komodakis, 2016) for small images.

State-dict names are those of the most used implementation in PyTorch (xternalz/WideResNet-pytorch).
There is one stem, a 3×3 convolution of stride 1; larger images simply have larger maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from teachers.networks.blocks import initialise
from teachers.networks.variants import InputShape, Shapes

BLOCKS = 4  # (28 − 4) / 6 per stage


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU come before each 3×3 convolution; the input is added at the end.

    Where the shapes differ, the shortcut is a 1×1 projection, and it too reads the first ReLU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = (
            None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×outputs×(H/stride)×(W/stride)."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        y: Tensor = shortcut + self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return y


class Stage(nn.Module):
    """Blocks of one width; the first has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        rest = (PreActivationBlock(outputs, outputs, 1) for _ in range(BLOCKS - 1))
        self.layer = nn.Sequential(PreActivationBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×outputs×(H/stride)×(W/stride)."""
        y: Tensor = self.layer(x)
        return y


class WideResNet28(nn.Module):
    """A stem, three stages of widths 16k, 32k and 64k, the mean and a classifier."""

    def __init__(self, widening: int, channels: int, classes: int) -> None:
        super().__init__()
        first, second, third = 16 * widening, 32 * widening, 64 * widening
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, first, 1)
        self.block2 = Stage(first, second, 2)
        self.block3 = Stage(second, third, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.avgpool(self.relu(self.bn1(x)))
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits


def wide_resnet28_2(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """WRN-28-2; it has one variant, whatever stored."""
    return WideResNet28(2, input_shape[0], classes)


def wide_resnet28_4(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """WRN-28-4; it has one variant, whatever stored."""
    return WideResNet28(4, input_shape[0], classes)


def wide_resnet28_10(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """WRN-28-10; it has one variant, whatever stored."""
    return WideResNet28(10, input_shape[0], classes)
