"""CloudCNN and EdgeCNN-3, 5 and 10 (Ding et al., "A Cloud-Edge Collaboration Framework for
Cognitive Service").

CloudCNN follows the prose of section 4.3.1: 3 convolutions of 32 kernels, 2 of 48, 5 of 80 and 5
of 128, all 3×3 with ReLU, one max-pool (2×2, stride 1), a fully connected layer of 1,024 neurons
and the classifier. These are 15 convolutions, where Fig. 3 speaks of 19 layers. EdgeCNN-n is the
first n of these convolutions, then a max-pool, a fully connected layer and a classifier of its
own. Leading convolutions have one name and one shape in all four networks, so that they can be
shared.

Where the text is silent:

- Convolutions pad by 1, so a map keeps its size. The authors follow VGG, which does the same, and
  without padding 15 convolutions would take 30 pixels from each side, more than MNIST's 28.
- The fully connected layer has a ReLU, as in VGG and AlexNet, and the dropout of .25 follows it.
- Convolutions start as He et al. (2015) draw them for ReLU, because without batch norm a smaller
  variance fades out over 15 layers; the two linear layers start as torch draws them.

The one max-pool takes one row and one column, so the fully connected layer reads nearly the whole
map and holds nearly all the weights: 31·31·128·1,024 = 126 million for CloudCNN at 32×32.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.errors import BadInput
from teachers.networks.variants import InputShape, Shapes

WIDTHS = (*(32,) * 3, *(48,) * 2, *(80,) * 5, *(128,) * 5)
NEURONS = 1024
DROPOUT = 0.25
MOST_WEIGHTS = 2**28  # of the fully connected layer: 1 GiB


class CloudCNN(nn.Module):
    """The first ``depth`` convolutions, a max-pool, a fully connected layer and a classifier."""

    def __init__(self, depth: int, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        inputs, height, width = input_shape
        layers = OrderedDict[str, nn.Module]()
        for number, outputs in enumerate(WIDTHS[:depth], 1):
            layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            inputs = outputs
        self.features = nn.Sequential(layers)
        self.maxpool = nn.MaxPool2d(2, stride=1)
        self.fc = nn.Linear(inputs * (height - 1) * (width - 1), NEURONS)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(NEURONS, classes)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W images → N×classes logits."""
        x = self.maxpool(self.features(x))
        x = self.dropout(self.relu(self.fc(torch.flatten(x, 1))))
        logits: Tensor = self.classifier(x)
        return logits


def cloudcnn(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """CloudCNN; BadInput where the images are too large for it (about 46×46)."""
    return _cloudcnn(len(WIDTHS), input_shape, classes)


def edgecnn3(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """EdgeCNN-3; BadInput where the images are too large for it (about 91×91)."""
    return _cloudcnn(3, input_shape, classes)


def edgecnn5(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """EdgeCNN-5; BadInput where the images are too large for it (about 74×74)."""
    return _cloudcnn(5, input_shape, classes)


def edgecnn10(input_shape: InputShape, classes: int, shapes: Shapes | None) -> nn.Module:
    """EdgeCNN-10; BadInput where the images are too large for it (about 58×58)."""
    return _cloudcnn(10, input_shape, classes)


def _cloudcnn(depth: int, input_shape: InputShape, classes: int) -> nn.Module:
    _, height, width = input_shape
    most = MOST_WEIGHTS // (NEURONS * WIDTHS[depth - 1])
    if not (min(height, width) > 1 and (height - 1) * (width - 1) <= most):
        raise BadInput(
            "the images do not fit a network whose linear layer reads a map of their size",
            value=f"{height}×{width} pixels for {depth} convolutions",
            bound=f"at least 2×2, and (height − 1)·(width − 1) ≤ {most:,}",
            remedy="Use images of another size, or an architecture that pools, such as vgg11.",
        )
    return CloudCNN(depth, input_shape, classes)
