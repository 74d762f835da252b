"""EfficientNet-B0 (Tan and Le, 2019) under torchvision's state-dict names.

The stem has stride 2, and stride 1 for images below 64 pixels; the weights fit both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from teachers.networks.blocks import InvertedBottleneck, SqueezeExcitation, conv_bn, initialise
from teachers.networks.variants import InputShape, Shapes, imagenet_size

# expansion, kernel, stride of the first block, channels, blocks
B0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, LAST = 32, 1280
DROPOUT, STOCHASTIC_DEPTH = 0.2, 0.2


class EfficientNetB0(nn.Module):
    """A stem, seven stages of inverted bottlenecks, a 1×1 convolution, the mean, a classifier.

    The probability of dropping a block's path rises evenly from 0 at the first block.
    """

    def __init__(self, channels: int, classes: int, *, stem_stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(channels, STEM, 3, nn.SiLU, stride=stem_stride)]
        inputs, done, total = STEM, 0, sum(stage[-1] for stage in B0)
        for expansion, kernel, stride, outputs, blocks in B0:
            stage: list[nn.Module] = []
            for block in range(blocks):
                drop = STOCHASTIC_DEPTH * done / total
                step = stride if block == 0 else 1
                stage.append(_block(inputs, expansion, outputs, kernel, step, drop))
                inputs, done = outputs, done + 1
            layers.append(nn.Sequential(*stage))
        layers.append(conv_bn(inputs, LAST, 1, nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        classifier = nn.Linear(LAST, classes)
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), classifier)
        initialise(self)
        bound = classes**-0.5
        nn.init.uniform_(classifier.weight, -bound, bound)
        nn.init.zeros_(classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _block(
    inputs: int, expansion: int, outputs: int, kernel: int, stride: int, drop: float
) -> InvertedBottleneck:
    """Squeezes to a quarter of the block's inputs, not of its expanded channels."""
    expanded = inputs * expansion
    excitation = SqueezeExcitation(expanded, inputs // 4, nn.SiLU, nn.Sigmoid)
    return InvertedBottleneck(
        inputs, expanded, outputs, kernel, stride, nn.SiLU, excitation=excitation, drop=drop
    )


def efficientnet_b0(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """EfficientNet-B0; the size of the input decides the stride of the stem."""
    stem_stride = 2 if imagenet_size(input_shape) else 1
    return EfficientNetB0(input_shape[0], classes, stem_stride=stem_stride)
