"""ResNet-18, 34 and 50 (He et al., 2016) under torchvision's state-dict names.

Two stems share one name: the ImageNet stem (7×7, stride 2, max-pool) and the CIFAR stem (3×3,
stride 1, no max-pool), which keeps small images large enough for the four stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from teachers.networks.blocks import initialise
from teachers.networks.variants import InputShape, Shapes, imagenet_stem

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside an identity, or beside a 1×1 projection where shapes differ."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×width×(H/stride)×(W/stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        identity = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu2(out + identity)
        return y


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside an identity or a projection; the last widens by 4.

    The stride is that of the 3×3 convolution, as in torchvision, not of the first as in the paper.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×4·width×(H/stride)×(W/stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        identity = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu3(out + identity)
        return y


class ResNet(nn.Module):
    """A stem, four stages of blocks, a global average pool and a linear classifier.

    ``depths`` are the blocks per stage and ``widths`` the channels of each stage, which a
    bottleneck multiplies by 4.
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        channels: int,
        classes: int,
        imagenet_stem: bool,
        widths: Sequence[int] = WIDTHS,
        block: type[BasicBlock | Bottleneck] = BasicBlock,
    ) -> None:
        super().__init__()
        if imagenet_stem:
            self.conv1 = nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else None
        outputs = [width * block.expansion for width in widths]
        self.layer1 = _stage(block, widths[0], widths[0], depths[0], stride=1)
        self.layer2 = _stage(block, outputs[0], widths[1], depths[1], stride=2)
        self.layer3 = _stage(block, outputs[1], widths[2], depths[2], stride=2)
        self.layer4 = _stage(block, outputs[2], widths[3], depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(outputs[3], classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            x = self.maxpool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _stage(
    block: type[BasicBlock | Bottleneck], inputs: int, width: int, depth: int, *, stride: int
) -> nn.Sequential:
    rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(block(inputs, width, stride), *rest)


def resnet18(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """ResNet-18; the stem follows ``shapes["conv1.weight"]``, else the size of the input."""
    return _resnet((2, 2, 2, 2), BasicBlock, input_shape, classes, shapes)


def resnet34(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """ResNet-34; the stem follows ``shapes["conv1.weight"]``, else the size of the input."""
    return _resnet((3, 4, 6, 3), BasicBlock, input_shape, classes, shapes)


def resnet50(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """ResNet-50; the stem follows ``shapes["conv1.weight"]``, else the size of the input."""
    return _resnet((3, 4, 6, 3), Bottleneck, input_shape, classes, shapes)


def _resnet(
    depths: Sequence[int],
    block: type[BasicBlock | Bottleneck],
    input_shape: InputShape,
    classes: int,
    shapes: Shapes | None,
) -> nn.Module:
    return ResNet(
        depths,
        channels=input_shape[0],
        classes=classes,
        imagenet_stem=imagenet_stem("conv1.weight", input_shape, shapes),
        block=block,
    )
