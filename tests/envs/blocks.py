"""Building blocks of published networks, as the property tests put them together."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Call(nn.Module):
    """A function where a module is expected; the tracer looks into it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """Two paths of one shape that meet in one of the spellings of an add."""

    def __init__(self, path: nn.Module, shortcut: nn.Module, join: str) -> None:
        super().__init__()
        self.path, self.shortcut, self.join = path, shortcut, join

    def forward(self, x: Tensor) -> Tensor:
        return JOINS[self.join](self.path(x), self.shortcut(x))


JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": operator.add,
    "torch.add": lambda x, y: torch.add(x, y),
    "torch.add by keyword": lambda x, y: torch.add(input=x, other=y),
    "x.add": lambda x, y: x.add(y),
    "x += y": operator.iadd,
    "relu(y + x)": lambda x, y: F.relu(y + x),
    "x - y": operator.sub,
}


class Concat(nn.Module):
    """Branches side by side (Inception); with the input itself among them, a dense layer."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Squeeze(nn.Module):
    """Squeeze-and-excitation: a factor per channel, worked out from the means of all maps."""

    def __init__(self, gate: nn.Module, flat: bool) -> None:
        super().__init__()
        self.gate, self.flat = gate, flat

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        if not self.flat:
            return self.gate(x.mean(axes, keepdim=True)) * x  # type: ignore[no-any-return]
        factors = self.gate(x.mean(axes))
        return x * factors.view(x.size(0), -1, *(1 for _ in axes))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """Half of the channels open and close the other half."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, 1)
        return value * torch.sigmoid(gate)


class HalfThrough(nn.Module):
    """ShuffleNetV2's unit: half of the channels go round the path; then all are shuffled."""

    def __init__(self, path: nn.Module) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        around, through = x.chunk(2, 1)
        return shuffle(torch.cat([around, self.path(through)], 1), 2)


class Split(nn.Module):
    """Parts of unequal width, each on a path of its own (Res2Net)."""

    def __init__(self, widths: Sequence[int], paths: Sequence[nn.Module]) -> None:
        super().__init__()
        self.widths, self.paths = list(widths), nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.widths, 1)
        return torch.cat([path(part) for path, part in zip(self.paths, parts, strict=True)], 1)


class ZeroShortcut(nn.Module):
    """ResNet's option A: every other pixel, and zeros for the channels that are new."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        cut = slice(None, None, self.stride)
        kept = x[:, :, cut, cut] if x.dim() == 4 else x[:, :, cut]
        return F.pad(kept, (0, 0) * (x.dim() - 2) + (self.before, self.after))


class ChannelsLast(nn.Module):
    """ConvNeXt's inverted bottleneck: norm, two linear layers and a scale at every pixel."""

    def __init__(self, features: int, inner: int, scale: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.wide, self.narrow = nn.Linear(features, inner), nn.Linear(inner, features)
        self.scale = nn.Parameter(torch.randn(features)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.movedim(1, -1))
        y = self.narrow(F.gelu(self.wide(y)))
        if self.scale is not None:
            y = y * self.scale
        return x + y.movedim(-1, 1)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """As torchvision writes it."""
    batch, channels, *sizes = x.shape
    x = x.reshape(batch, groups, channels // groups, *sizes)
    return x.transpose(1, 2).contiguous().view(batch, -1, *sizes)
