"""A random chain of plain operators in the making: convolutions, norms, pools, heads.

Hypothesis draws every choice, so a network that fails shrinks to a small one. Every piece is run
as it is drawn, which gives the shape that the next piece has to fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from envs.graph.netspec import Shape
from tests.envs.blocks import JOINS, Call, Residual

Draw = Callable[[st.SearchStrategy[Any]], Any]
Make = Callable[[], nn.Module]

#: functions with f(0) = 0: a channel of zeros stays one
ZERO_TO_ZERO: list[Make] = [
    nn.ReLU,
    lambda: Call(F.relu),
    lambda: Call(torch.relu),
    lambda: Call(lambda x: x.relu()),
    lambda: Call(lambda x: F.relu(input=x)),
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Tanh,
    nn.Mish,
    lambda: nn.LeakyReLU(0.2),
    lambda: nn.ELU(0.7),
    lambda: nn.Hardtanh(-1, 2),
    lambda: Call(lambda x: x * torch.sigmoid(x)),
]
ACTIVATIONS: list[Make] = [
    *ZERO_TO_ZERO,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Softplus,
    lambda: nn.Softmax(1),
    lambda: Call(lambda x: 0.5 * x + 1),
    lambda: Call(lambda x: torch.clamp(x, min=-0.5)),
]

#: by the number of spatial axes
CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
BATCH_NORM = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
LP_POOL = {1: nn.LPPool1d, 2: nn.LPPool2d}
ADAPTIVE_AVG = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}
ADAPTIVE_MAX = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d}
max_pool = {1: F.max_pool1d, 2: F.max_pool2d}
avg_pool = {1: F.avg_pool1d, 2: F.avg_pool2d}


class Pieces:
    """A chain in the making, and the shape of what it writes.

    Args:
        draw: of Hypothesis.
        shape: of what goes in.
        zeros: whether a channel that is 0 everywhere must stay so unless a layer mixes channels:
            no norm over several channels, no activation with f(0) ≠ 0.
    """

    def __init__(self, draw: Draw, shape: Shape, zeros: bool = False) -> None:
        self.draw, self.shape, self.zeros = draw, shape, zeros
        self.modules: list[nn.Module] = []

    @property
    def dims(self) -> int:
        return len(self.shape) - 1

    @property
    def channels(self) -> int:
        return self.shape[0]

    def branch(self) -> Pieces:
        """Another chain from here."""
        return type(self)(self.draw, self.shape, self.zeros)

    def add(self, *modules: nn.Module) -> None:
        for module in modules:
            with torch.no_grad():
                self.shape = tuple(module.eval()(torch.zeros(2, *self.shape)).shape[1:])
            self.modules.append(module)

    def chain(self) -> nn.Sequential:
        return nn.Sequential(*self.modules)

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def coin(self) -> bool:
        return bool(self.draw(st.booleans()))

    def one_of(self, makes: list[Make]) -> nn.Module:
        make: Make = self.draw(st.sampled_from(makes))
        return make()

    # -- norms and activations -----------------------------------------------------------------

    def activation(self) -> None:
        if self.coin():
            kinds = ZERO_TO_ZERO if self.zeros else ACTIVATIONS
            self.add(self.one_of([*kinds, lambda: nn.PReLU(self.draw(self._slopes()))]))

    def _slopes(self) -> st.SearchStrategy[int]:
        return st.sampled_from([1, self.channels])

    def norm(self) -> None:
        if not self.coin():
            return
        affine = self.zeros or self.coin()
        batch: Make = lambda: BATCH_NORM[self.dims](self.channels, affine=affine)  # noqa: E731
        if self.zeros or self.number(0, 2):
            self.add(batch())
            return
        groups = self.draw(st.sampled_from([n for n in (1, 2, 3) if self.channels % n == 0]))
        kinds: list[Make] = [batch, lambda: nn.GroupNorm(groups, self.channels, affine=affine)]
        if self.dims:
            kinds.append(lambda: nn.LocalResponseNorm(3, k=1.5))
            if math.prod(self.shape[1:]) > 1:  # one pixel alone has no variance
                kinds.append(lambda: INSTANCE_NORM[self.dims](self.channels, affine=affine))
        else:
            kinds.append(lambda: nn.LayerNorm(self.channels, elementwise_affine=affine))
        self.add(self.one_of(kinds))

    def tail(self) -> None:
        """Norm and activation in their usual order, or the other way round."""
        steps = [self.norm, self.activation]
        for step in reversed(steps) if self.number(0, 4) == 4 else steps:
            step()

    # -- maps ----------------------------------------------------------------------------------

    def conv(self) -> None:
        """Any geometry that leaves at least one pixel; mostly the same on both axes."""
        axes: list[tuple[int, int, int]] = []
        for extent in self.shape[1:]:
            fits = [
                (kernel, padding, dilation)
                for kernel in (3, 1, 2, 5, 7)
                for padding in (1, 0, 2, 3)
                for dilation in (1, 2)
                if dilation * (kernel - 1) < extent + 2 * padding
            ]
            again = axes and axes[0] in fits and self.number(0, 2)
            axes.append(axes[0] if again else self.draw(st.sampled_from(fits)))
        kernel, padding, dilation = zip(*axes, strict=True)
        stride = tuple(self.number(1, 3) for _ in axes)
        modes = ["zeros", "zeros", "replicate"]
        if all(pad < extent for pad, extent in zip(padding, self.shape[1:], strict=True)):
            modes += ["reflect", "circular"]
        self.layer(
            self.number(1, 9),
            kernel_size=kernel,
            padding=padding,
            dilation=dilation,
            stride=stride,
            padding_mode=self.draw(st.sampled_from(modes)),
        )
        self.tail()

    def same(self, outputs: int, stride: int = 1) -> None:
        """A convolution that keeps ⌈size / stride⌉."""
        kernel, dilation = self.draw(st.sampled_from([3, 1, 5])), self.number(1, 2)
        named = stride == 1 and self.coin()
        self.layer(
            outputs,
            kernel_size=kernel,
            stride=stride,
            padding="same" if named else dilation * (kernel // 2),
            dilation=dilation,
        )

    def pixelwise(self, outputs: int, groups: int = 1) -> None:
        self.layer(outputs, kernel_size=1, groups=groups)

    def layer(self, outputs: int, **geometry: Any) -> None:
        self.add(CONV[self.dims](self.channels, outputs, bias=self.coin(), **geometry))

    def pool(self) -> None:
        dims = self.dims
        kernel = self.number(1, min(3, *self.shape[1:]))
        stride, padding = self.number(1, 3), self.number(0, kernel // 2)
        ceil = self.coin()
        options: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
            "ceil_mode": ceil,
        }
        averaging = options | {"count_include_pad": self.coin()}
        wide = dims * [kernel]
        wide[-1] = 2
        self.add(
            self.one_of(
                [
                    lambda: MAX_POOL[dims](**options),
                    lambda: AVG_POOL[dims](**averaging),
                    lambda: Call(lambda x: max_pool[dims](x, **options)),
                    lambda: Call(lambda x: avg_pool[dims](x, **averaging)),
                    lambda: Call(lambda x: max_pool[dims](x, kernel, stride)),
                    lambda: (
                        nn.Sequential(nn.Sigmoid(), LP_POOL[dims](2, kernel, stride, ceil))
                        if not self.zeros
                        else nn.Identity()
                    ),
                    lambda: ADAPTIVE_AVG[dims](tuple(wide)),
                    lambda: ADAPTIVE_MAX[dims](tuple(wide)),
                ]
            )
        )

    def space(self) -> None:
        """Pixels added, cut away or made up."""
        dims, smallest = self.dims, min(self.shape[1:])
        low, high = self.number(0, 2), self.number(0, 2)
        modes = ["constant", "replicate"]
        if max(low, high) < smallest:
            modes += ["reflect", "circular"]
        mode = self.draw(st.sampled_from(modes))
        start, step = self.number(0, min(1, smallest - 1)), self.number(1, 2)
        cuts = dims * [slice(start, None, step)]
        smooth = {1: "linear", 2: "bilinear"}[dims]
        kinds: list[Make] = [
            lambda: Call(lambda x: F.pad(x, (low, high) * dims, mode)),
            lambda: Call(lambda x: x[(slice(None), slice(None), *cuts)]),
        ]
        if max(self.shape[1:]) <= 8:
            kinds += [
                lambda: nn.Upsample(scale_factor=2),
                lambda: nn.Upsample(scale_factor=1.5, mode=smooth),
                lambda: Call(lambda x: F.interpolate(x, size=dims * (6,), mode=smooth)),
            ]
        self.add(self.one_of(kinds))

    def idle(self) -> None:
        self.add(self.one_of([nn.Dropout, nn.Identity, lambda: nn.Dropout(0.3)]))

    # -- heads ---------------------------------------------------------------------------------

    def head(self, classes: int) -> None:
        ways = [self._mean_first, self._perceptron, self._grid, self._convolutional]
        self.draw(st.sampled_from(ways))(classes)
        if self.number(0, 9) == 9:
            self.norm()

    def flatten(self) -> None:
        ways: list[Make] = [
            nn.Flatten,
            lambda: Call(lambda x: torch.flatten(x, 1)),
            lambda: Call(lambda x: x.reshape(x.size(0), -1)),
            lambda: Call(lambda x: x.movedim(1, -1).flatten(1)),
        ]
        self.add(self.one_of(ways))

    def _mean_first(self, classes: int) -> None:
        axes = tuple(range(2, self.dims + 2))
        ways: list[Make] = [
            lambda: ADAPTIVE_AVG[self.dims](1),
            lambda: Call(lambda x: x.mean(axes, keepdim=True)),
            lambda: Call(lambda x: x.amax(axes, keepdim=True)),
        ]
        self.add(self.one_of(ways))
        self._perceptron(classes)

    def _grid(self, classes: int) -> None:
        self.add(ADAPTIVE_AVG[self.dims](tuple(self.number(1, 3) for _ in self.shape[1:])))
        self._perceptron(classes)

    def _perceptron(self, classes: int) -> None:
        self.flatten()
        self.tail()
        if self.number(0, 5) == 5:
            self._linear_residual()
        for _ in range(self.number(0, 2)):
            self.linear(self.number(1, 12))
            self.tail()
            if self.number(0, 3) == 3:
                self._linear_residual()
        self.linear(classes)

    def linear(self, outputs: int) -> None:
        self.add(nn.Linear(self.channels, outputs, bias=self.coin()))

    def _linear_residual(self) -> None:
        path = self.branch()
        if self.coin():
            path.linear(self.number(1, 9))
            path.tail()
        path.linear(self.channels)
        self.add(Residual(path.chain(), nn.Sequential(), self.draw(st.sampled_from(list(JOINS)))))

    def _convolutional(self, classes: int) -> None:
        self.pixelwise(classes)
        self.add(ADAPTIVE_AVG[self.dims](1))
        self.flatten()
