"""ShuffleNetV2 of widths .5 and 1 (Ma et al., 2018) under torchvision's state-dict names.

The stem has stride 2 and a max-pool, and for images below 64 pixels stride 1 and no max-pool; the
weights fit both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from teachers.networks.blocks import conv_bn
from teachers.networks.variants import InputShape, Shapes, imagenet_size

BLOCKS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Two halves, one of which is convolved, that are joined and shuffled.

    With stride 1 the halves are those of the input's channels and the first stays as it is; with
    stride 2 both branches read all channels and halve the map.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch1: nn.Sequential | None = None
        if stride == 2:
            self.branch1 = nn.Sequential(*_depthwise(inputs, stride), *_pointwise(inputs, half))
        self.branch2 = nn.Sequential(
            *_pointwise(inputs if stride == 2 else half, half),
            *_depthwise(half, stride),
            *_pointwise(half, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×outputs×(H/stride)×(W/stride)."""
        if self.branch1 is None:
            kept, convolved = x.chunk(2, dim=1)
        else:
            kept, convolved = self.branch1(x), x
        return _shuffle(torch.cat([kept, self.branch2(convolved)], 1))


def _shuffle(x: Tensor) -> Tensor:
    """Interleaves the channels of the two halves: a1 a2 b1 b2 → a1 b1 a2 b2."""
    rows, channels, height, width = x.size()
    x = x.view(rows, 2, channels // 2, height, width)
    return x.transpose(1, 2).contiguous().view(rows, channels, height, width)


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return conv_bn(inputs, outputs, 1, nn.ReLU)


def _depthwise(channels: int, stride: int) -> nn.Sequential:
    return conv_bn(channels, channels, 3, None, stride=stride, groups=channels)


class ShuffleNetV2(nn.Module):
    """A stem, three stages of shuffle units, a 1×1 convolution, the mean, a classifier.

    ``widths`` are the channels of the stem, of the stages and of the last convolution. Weights
    start as torch draws them by default, as in torchvision.
    """

    def __init__(
        self, widths: Sequence[int], *, channels: int, classes: int, imagenet_stem: bool
    ) -> None:
        super().__init__()
        stem, second, third, fourth, last = widths
        self.conv1 = conv_bn(channels, stem, 3, nn.ReLU, stride=2 if imagenet_stem else 1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else None
        self.stage2 = _stage(stem, second, BLOCKS[0])
        self.stage3 = _stage(second, third, BLOCKS[1])
        self.stage4 = _stage(third, fourth, BLOCKS[2])
        self.conv5 = conv_bn(fourth, last, 1, nn.ReLU)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.conv1(x)
        if self.maxpool is not None:
            x = self.maxpool(x)
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        logits: Tensor = self.fc(x.mean([2, 3]))
        return logits


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    rest = (ShuffleUnit(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(ShuffleUnit(inputs, outputs, 2), *rest)


def shufflenet_v2_x0_5(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """ShuffleNetV2 of width .5; the size of the input decides the stem."""
    return _shufflenet((24, 48, 96, 192, 1024), input_shape, classes)


def shufflenet_v2_x1_0(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """ShuffleNetV2 of width 1; the size of the input decides the stem."""
    return _shufflenet((24, 116, 232, 464, 1024), input_shape, classes)


def _shufflenet(widths: Sequence[int], input_shape: InputShape, classes: int) -> nn.Module:
    return ShuffleNetV2(
        widths,
        channels=input_shape[0],
        classes=classes,
        imagenet_stem=imagenet_size(input_shape),
    )
