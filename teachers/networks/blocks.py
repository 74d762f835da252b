"""What several families are built of; the children's names are those of torchvision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: type[nn.Module] | None,
    *,
    stride: int = 1,
    groups: int = 1,
    norm: Norm = nn.BatchNorm2d,
) -> nn.Sequential:
    """Convolution ("0") with "same" padding, batch norm ("1") and perhaps an activation ("2")."""
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    layers = [convolution, norm(outputs)]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation())


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that is computed from the means of all (Hu et al., 2018)."""

    def __init__(
        self, channels: int, squeezed: int, activation: type[nn.Module], gate: type[nn.Module]
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = gate()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → the same shape."""
        scale = self.activation(self.fc1(self.avgpool(x)))
        y: Tensor = x * self.scale_activation(self.fc2(scale))
        return y


class StochasticDepth(nn.Module):
    """Drops a residual path for some rows of a training batch (Huang et al., 2016).

    Each row is zeroed with probability ``p`` and else divided by 1 − p, which keeps its mean. In
    eval mode this is the identity, and leaves no trace in a graph.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → the same shape."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device)
        return x * keep.bernoulli_(1 - self.p) / (1 - self.p)


class InvertedBottleneck(nn.Module):
    """Expand by 1×1, mix space by a depthwise convolution, perhaps excite, project by 1×1.

    The block of MobileNetV3 and EfficientNet. A width that is not expanded has no first
    convolution, and the input is added where it has the shape of the output.
    """

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        kernel: int,
        stride: int,
        activation: type[nn.Module],
        *,
        excitation: nn.Module | None,
        norm: Norm = nn.BatchNorm2d,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(conv_bn(inputs, expanded, 1, activation, norm=norm))
        layers.append(
            conv_bn(
                expanded, expanded, kernel, activation, stride=stride, groups=expanded, norm=norm
            )
        )
        if excitation is not None:
            layers.append(excitation)
        layers.append(conv_bn(expanded, outputs, 1, None, norm=norm))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W → N×outputs×(H/stride)×(W/stride)."""
        y: Tensor = self.block(x)
        return self.stochastic_depth(y) + x if self.residual else y


def initialise(module: nn.Module, *, linear_std: float | None = None) -> None:
    """He's normal initialisation (by outputs) of every convolution; biases start at 0.

    Linear weights are drawn with standard deviation ``linear_std``, or keep torch's default.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear) and linear_std is not None:
            nn.init.normal_(part.weight, std=linear_std)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
