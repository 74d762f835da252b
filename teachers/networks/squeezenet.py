"""SqueezeNet 1.0 and 1.1 (Iandola et al., 2016) under torchvision's state-dict names.

For small images the stem is a 3×3 convolution of stride 1 with padding, and no max-pool follows
it. The classifier is a 1×1 convolution; its ReLU and the mean over space come after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from teachers.networks.variants import InputShape, Shapes, imagenet_size, imagenet_stem

Fires = Sequence[tuple[int, int] | None]

# widths of a fire's squeezing and of its two expanding convolutions; None is a max-pool
V1_0: Fires = (
    *((16, 64), (16, 64), (32, 128), None),
    *((32, 128), (48, 192), (48, 192), (64, 256), None),
    (64, 256),
)
V1_1: Fires = (
    *((16, 64), (16, 64), None),
    *((32, 128), (32, 128), None),
    *((48, 192), (48, 192), (64, 256), (64, 256)),
)


class Fire(nn.Module):
    """Squeeze by 1×1; expand by 1×1 and by 3×3 side by side; a ReLU behind each of the three."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×2·expand×H×W."""
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [
                self.expand1x1_activation(self.expand1x1(x)),
                self.expand3x3_activation(self.expand3x3(x)),
            ],
            1,
        )


class SqueezeNet(nn.Module):
    """A stem convolution, fires with max-pools between them, a convolution to the classes.

    ``pooled_stem`` says whether a max-pool follows the stem.
    """

    def __init__(self, fires: Fires, stem: nn.Conv2d, *, pooled_stem: bool, classes: int) -> None:
        super().__init__()
        # the identity keeps the numbers of the modules behind it
        layers: list[nn.Module] = [stem, nn.ReLU(), _pool() if pooled_stem else nn.Identity()]
        width = stem.out_channels
        for fire in fires:
            if fire is None:
                layers.append(_pool())
            else:
                squeeze, expand = fire
                layers.append(Fire(width, squeeze, expand))
                width = 2 * expand
        self.features = nn.Sequential(*layers)
        classifier = nn.Conv2d(width, classes, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), classifier, nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(classifier.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        return torch.flatten(self.classifier(self.features(x)), 1)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def squeezenet1_0(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """SqueezeNet 1.0; the stem follows ``shapes["features.0.weight"]``, else the input's size."""
    large = imagenet_stem("features.0.weight", input_shape, shapes)
    return _squeezenet(V1_0, large, kernel=7, width=96, channels=input_shape[0], classes=classes)


def squeezenet1_1(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """SqueezeNet 1.1; the weights fit both stems, so the size of the input decides."""
    large = imagenet_size(input_shape)
    return _squeezenet(V1_1, large, kernel=3, width=64, channels=input_shape[0], classes=classes)


def _squeezenet(
    fires: Fires, large: bool, *, kernel: int, width: int, channels: int, classes: int
) -> nn.Module:
    if large:
        stem = nn.Conv2d(channels, width, kernel, stride=2)
    else:
        stem = nn.Conv2d(channels, width, 3, padding=1)
    return SqueezeNet(fires, stem, pooled_stem=large, classes=classes)
