"""Strangers' networks, twenty lines each, as they stand in notebooks; one width sizes all layers.

Every class takes ``(width, channels, classes, side)``: channels of its first layer, which may be a
fraction (each layer rounds its own), channels and side of the image, number of classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, without bias: a normalisation follows."""
    return nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)


def widths(width: float, *factors: float, multiple: int = 1) -> list[int]:
    """Channels of layers, rounded each; at least one multiple."""
    return [max(1, round(width * factor / multiple)) * multiple for factor in factors]


class Plain(nn.Sequential):
    """Four convolutions, each with batch norm and ReLU, and a global mean."""

    multiple = 1

    def __init__(self, width: float, channels: int, classes: int, side: int) -> None:
        a, b, c, d = widths(width, 1, 2, 2, 3, multiple=self.multiple)
        super().__init__(
            *(conv(channels, a), self.norm(a), nn.ReLU()),
            *(conv(a, b, stride=2), self.norm(b), nn.ReLU()),
            *(conv(b, c), self.norm(c), nn.ReLU()),
            *(conv(c, d, stride=2), self.norm(d), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(d, classes)),
        )

    def norm(self, channels: int) -> nn.Module:
        """After every convolution."""
        return nn.BatchNorm2d(channels)


class Group(Plain):
    """The same with GroupNorm, four groups a layer."""

    multiple = 4

    def norm(self, channels: int) -> nn.Module:
        """Four groups."""
        return nn.GroupNorm(4, channels)


class Bare(nn.Sequential):
    """VGG's plan without any normalisation: pairs of convolutions, max-pooling, a global mean."""

    def __init__(self, width: float, channels: int, classes: int, side: int) -> None:
        a, b, c = widths(width, 1, 2, 4)
        layers: list[nn.Module] = []
        for i, o, last in ((channels, a, 0), (a, a, 1), (a, b, 0), (b, b, 1), (b, c, 0)):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if last else []
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(c, classes)
        )


class LeNet(nn.Module):
    """Two 5×5 convolutions and two linear layers on the flattened map, no normalisation."""

    def __init__(self, width: float, channels: int, classes: int, side: int) -> None:
        super().__init__()
        a, b, hidden = widths(width, 1, 2, 8)
        self.conv1 = nn.Conv2d(channels, a, 5, padding=2)
        self.conv2 = nn.Conv2d(a, b, 5, padding=2)
        self.fc1 = nn.Linear(b * (side // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        hidden: Tensor = self.fc2(nn.functional.relu(self.fc1(x)))
        return hidden


class VGG(nn.Module):
    """VGG with batch norm: three pairs of convolutions and a classifier of two linear layers."""

    def __init__(self, width: float, channels: int, classes: int, side: int) -> None:
        super().__init__()
        a, b, c, hidden = widths(width, 1, 2, 3, 4)
        layers: list[nn.Module] = []
        for i, o in ((channels, a), (a, b), (b, c)):
            for before in (i, o):
                layers += [nn.Conv2d(before, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(c * (side // 8) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class Staged(nn.Module):
    """A stem, three stages of one block each, a head: what the networks below have in common."""

    def __init__(self, width: float, channels: int, classes: int, side: int) -> None:
        super().__init__()
        a, b, c = widths(width, 1, 2, 4)
        self.stem = self.first(channels, a)
        self.stages = nn.Sequential(self.block(a, a, 1), self.block(a, b, 2), self.block(b, c, 2))
        self.last = self.ending(c)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c, classes)

    def first(self, i: int, o: int) -> nn.Module:
        """The stem."""
        return nn.Sequential(conv(i, o), nn.BatchNorm2d(o), nn.ReLU())

    def block(self, i: int, o: int, stride: int) -> nn.Module:
        """One stage."""
        raise NotImplementedError

    def ending(self, channels: int) -> nn.Module:
        """Before the pool."""
        return nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.pool(self.last(self.stages(self.stem(x))))
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits


class BasicBlock(nn.Module):
    """ResNet's: two convolutions beside a shortcut, ReLU after the sum."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, stride=stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.short = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        """Of half the side where the stride is 2."""
        y = self.conv2(nn.functional.relu(self.bn1(self.conv1(x))))
        total: Tensor = nn.functional.relu(self.bn2(y) + self.short(x))
        return total


class ResNet(Staged):
    """One basic block a stage."""

    def block(self, i: int, o: int, stride: int) -> nn.Module:
        """A basic block."""
        return BasicBlock(i, o, stride)


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each convolution; the sum is left as it is."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, o, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), conv(o, o)
        self.short = conv(i, o, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Of half the side where the stride is 2."""
        first = nn.functional.relu(self.bn1(x))
        y = self.conv2(nn.functional.relu(self.bn2(self.conv1(first))))
        total: Tensor = y + self.short(first)
        return total


class PreAct(Staged):
    """A pre-activation ResNet: a bare stem, and batch norm at the end."""

    def first(self, i: int, o: int) -> nn.Module:
        """A convolution alone."""
        return conv(i, o)

    def block(self, i: int, o: int, stride: int) -> nn.Module:
        """A pre-activation block."""
        return PreActBlock(i, o, stride)

    def ending(self, channels: int) -> nn.Module:
        """What the last block left out."""
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


class Depthwise(Staged):
    """MobileNet's plan: depthwise and pointwise convolutions in turn, ReLU6."""

    def block(self, i: int, o: int, stride: int) -> nn.Module:
        """Two depthwise separable convolutions."""
        layers: list[nn.Module] = []
        for before, step in ((i, stride), (o, 1)):
            layers += [conv(before, before, 3, step, groups=before)]
            layers += [nn.BatchNorm2d(before), nn.ReLU6()]
            layers += [conv(before, o, 1), nn.BatchNorm2d(o), nn.ReLU6()]
        return nn.Sequential(*layers)


class SqueezeBlock(nn.Module):
    """A convolution whose channels are weighted by what the whole map says of them."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv, self.bn = conv(i, o, stride=stride), nn.BatchNorm2d(o)
        few = max(1, o // 4)
        self.squeeze = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(o, few, 1), nn.ReLU()),
            *(nn.Conv2d(few, o, 1), nn.Sigmoid()),
        )
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)

    def forward(self, x: Tensor) -> Tensor:
        """Of half the side where the stride is 2."""
        x = nn.functional.relu(self.bn(self.conv(x)))
        x = x * self.squeeze(x)
        y: Tensor = nn.functional.relu(self.bn2(self.conv2(x)))
        return y


class Squeeze(Staged):
    """Squeeze and excitation in every stage."""

    def block(self, i: int, o: int, stride: int) -> nn.Module:
        """One that squeezes."""
        return SqueezeBlock(i, o, stride)


Network = Callable[[float, int, int, int], nn.Module]
NETWORKS: dict[str, Network] = {
    "plain": Plain,
    "bare": Bare,
    "lenet": LeNet,
    "group": Group,
    "preact": PreAct,
    "depthwise": Depthwise,
    "squeeze": Squeeze,
    "vgg": VGG,
    "resnet": ResNet,
}
#: those that no exporter can fold anything in
WITHOUT_BATCH_NORM = ("bare", "lenet", "group")


def size_kb(module: nn.Module, folded: bool) -> float:
    """KB of 1,024 bytes of fp32 weights and buffers, as the product counts its students.

    Args:
        module: any; stays as it is.
        folded: batch norm that follows a convolution counts as that convolution's bias.
    """
    if folded:
        with warnings.catch_warnings():
            # of torch itself, which is behind its own deprecations there
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch.fx.experimental.optimization import fuse

        module = fuse(module.eval())
    tensors = [*module.parameters(), *module.buffers()]
    return sum(4 * tensor.numel() for tensor in tensors if tensor.is_floating_point()) / 1024


def widest(
    name: str, channels: int, classes: int, side: int, limit_kb: float, folded: bool
) -> nn.Module:
    """The network's own class at the largest width that keeps the limit, fresh.

    Widths go in quarters of a channel: a stranger would try whole ones, which is no better.

    Raises:
        ValueError: not even the narrowest keeps it.
    """
    build, found, width = NETWORKS[name], 0.0, 1.0
    while size_kb(build(width, channels, classes, side), folded) <= limit_kb:
        found, width = width, width + 0.25
    if not found:
        raise ValueError(f"no {name} of at most {limit_kb:g} KB")
    return build(found, channels, classes, side)
