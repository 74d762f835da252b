"""A small plain network for small images: four convolutions, global average pool, classifier.

At its usual widths it has 437 KB, so that a student of a fifth of it still has something to learn
with, and it trains on scikit-learn's digits within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from teachers.networks.variants import InputShape, Shapes

WIDTHS = (32, 64, 64, 96)


class SmallCNN(nn.Module):
    """conv-bn-relu four times; the second and the fourth halve the map (8×8 → 2×2)."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.conv1 = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(second, third, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(third)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(third, fourth, 3, stride=2, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(fourth)
        self.relu4 = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(fourth, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.relu4(self.bn4(self.conv4(x)))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def small_cnn(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """The network for inputs of ``input_shape`` (C, H, W); it has one variant, whatever stored."""
    return SmallCNN(input_shape[0], classes)
