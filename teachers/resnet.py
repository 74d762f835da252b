"""ResNet-18 and ResNet-34 (He et al., 2016) under torchvision's state-dict names.

Two stems share one name: the ImageNet stem (7×7, stride 2, max-pool) and the CIFAR stem (3×3,
stride 1, no max-pool), which keeps small images large enough for the four stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
SMALLEST_IMAGENET_SIDE = 64


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside an identity, or beside a 1×1 projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×outputs×(H/stride)×(W/stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        identity = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu2(out + identity)
        return y


class ResNet(nn.Module):
    """A stem, four stages of basic blocks, a global average pool and a linear classifier.

    ``depths`` are the blocks per stage and ``widths`` the channels of each stage.
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        channels: int,
        classes: int,
        imagenet_stem: bool,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        if imagenet_stem:
            self.conv1 = nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else None
        self.layer1 = _stage(widths[0], widths[0], depths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], depths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], depths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            x = self.maxpool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(inputs: int, outputs: int, depth: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(depth - 1)))


def resnet18(
    input_shape: tuple[int, int, int], classes: int, shapes: Mapping[str, tuple[int, ...]] | None
) -> nn.Module:
    """ResNet-18; the stem follows ``shapes["conv1.weight"]``, else the size of the input."""
    return _resnet((2, 2, 2, 2), input_shape, classes, shapes)


def resnet34(
    input_shape: tuple[int, int, int], classes: int, shapes: Mapping[str, tuple[int, ...]] | None
) -> nn.Module:
    """ResNet-34; the stem follows ``shapes["conv1.weight"]``, else the size of the input."""
    return _resnet((3, 4, 6, 3), input_shape, classes, shapes)


def _resnet(
    depths: Sequence[int],
    input_shape: tuple[int, int, int],
    classes: int,
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> nn.Module:
    channels, height, width = input_shape
    stem = (shapes or {}).get("conv1.weight", ())
    if len(stem) == 4:
        imagenet_stem = stem[2] == 7
    else:
        imagenet_stem = min(height, width) >= SMALLEST_IMAGENET_SIDE
    return ResNet(depths, channels=channels, classes=classes, imagenet_stem=imagenet_stem)
