"""DenseNet-BC (Huang et al., 2017) under torchvision's state-dict names.

``densenet121`` has torchvision's ImageNet stem (7×7, stride 2, max-pool) or, for small images, a
3×3 convolution of stride 1. ``densenet40_12`` is the paper's network for CIFAR: depth 40, growth
12, three blocks; its stem is a bare 3×3 convolution.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from teachers.networks.variants import InputShape, Shapes, imagenet_stem

BOTTLENECK = 4


class DenseLayer(nn.Module):
    """Batch norm, ReLU and 1×1 to 4·growth channels; the same and 3×3 to ``growth`` new ones."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×(C + growth)×H×W: the input, then the new channels."""
        new = self.conv1(self.relu1(self.norm1(x)))
        new = self.conv2(self.relu2(self.norm2(new)))
        return torch.cat([x, new], 1)


class DenseNet(nn.Module):
    """A stem, dense blocks with halving transitions between them, the mean, a classifier.

    ``blocks`` are the layers per dense block. ``stem`` is the convolution "conv0" with whatever
    follows it, by name.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        growth: int,
        stem: OrderedDict[str, nn.Module],
        *,
        width: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(stem)
        for number, layers in enumerate(blocks, 1):
            if number > 1:
                self.features.add_module(f"transition{number - 1}", _transition(width))
                width //= 2
            self.features.add_module(f"denseblock{number}", _dense_block(width, layers, growth))
            width += layers * growth
        # torchvision's name, however many blocks there are
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.avgpool(self.relu(self.features(x)))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _dense_block(width: int, layers: int, growth: int) -> nn.Sequential:
    named = ((f"denselayer{i + 1}", DenseLayer(width + i * growth, growth)) for i in range(layers))
    return nn.Sequential(OrderedDict[str, nn.Module](named))


def _transition(width: int) -> nn.Sequential:
    """Halves channels and sides."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            conv=nn.Conv2d(width, width // 2, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


def densenet121(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """DenseNet-121; the stem follows ``shapes["features.conv0.weight"]``, else the input's size."""
    channels = input_shape[0]
    large = imagenet_stem("features.conv0.weight", input_shape, shapes)
    stem = OrderedDict[str, nn.Module]()
    if large:
        stem["conv0"] = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        stem["conv0"] = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    stem["norm0"] = nn.BatchNorm2d(64)
    stem["relu0"] = nn.ReLU()
    if large:
        stem["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
    return DenseNet((6, 12, 24, 16), 32, stem, width=64, classes=classes)


def densenet40_12(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """DenseNet-BC for small images: (40 − 4)/6 = 6 layers in each block; one variant."""
    stem = OrderedDict[str, nn.Module](
        conv0=nn.Conv2d(input_shape[0], 24, 3, padding=1, bias=False)
    )
    return DenseNet((6, 6, 6), 12, stem, width=24, classes=classes)
