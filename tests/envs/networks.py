"""Random classifiers for the property tests: chains and residual networks of many shapes.

Hypothesis draws every choice, so a network that fails shrinks to a small one. Every piece is run
as it is drawn, which gives the shape that the next piece has to fit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from envs.layers import anatomy
from envs.moves import FIELDS, PRESETS, Moves
from envs.netspec import NetSpec, Shape

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Classifier:
    """A teacher with random weights, in eval mode."""

    module: nn.Module
    input_shape: Shape
    classes: int

    def images(self, rows: int = 3) -> Tensor:
        return torch.randn(rows, *self.input_shape, generator=torch.Generator().manual_seed(7))


class Call(nn.Module):
    """A function where a module is expected; torch.fx traces through it."""

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
}

RELUS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: Call(F.relu),
    lambda: Call(torch.relu),
    lambda: Call(lambda x: x.relu()),
    lambda: Call(lambda x: F.relu(input=x)),
]


class Pieces:
    """A chain in the making, and the shape of what it writes."""

    def __init__(self, draw: Draw, shape: Shape) -> None:
        self.draw, self.shape = draw, shape
        self.modules: list[nn.Module] = []

    def add(self, *modules: nn.Module) -> None:
        for module in modules:
            with torch.no_grad():
                self.shape = tuple(module.eval()(torch.zeros(2, *self.shape)).shape[1:])
            self.modules.append(module)

    def perhaps(self, module: nn.Module) -> None:
        if self.draw(st.booleans()):
            self.add(module)

    def relu(self) -> None:
        self.perhaps(self.draw(st.sampled_from(RELUS))())

    def norm(self) -> None:
        kind = nn.BatchNorm2d if len(self.shape) == 3 else nn.BatchNorm1d
        self.perhaps(kind(self.shape[0], affine=self.draw(st.booleans())))

    def tail(self) -> None:
        """Batch norm and activation in their usual order, or the other way round."""
        first, second = (self.relu, self.norm) if self.number(0, 4) == 4 else (self.norm, self.relu)
        first()
        second()

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def chain(self) -> nn.Sequential:
        return nn.Sequential(*self.modules)

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
        (kernel, padding, dilation) = zip(*axes, strict=True)
        stride = (self.number(1, 3), self.number(1, 3))
        outputs, bias = self.number(1, 9), self.draw(st.booleans())
        self.add(nn.Conv2d(self.shape[0], outputs, kernel, stride, padding, dilation, bias=bias))
        self.tail()

    def pool(self) -> None:
        kernel = self.number(1, min(3, *self.shape[1:]))
        stride, padding = self.number(1, 3), self.number(0, kernel // 2)
        ceil, include = self.draw(st.booleans()), self.draw(st.booleans())
        options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
        averaging = options | {"count_include_pad": include}
        kinds: list[Callable[[], nn.Module]] = [
            lambda: nn.MaxPool2d(**options),
            lambda: nn.AvgPool2d(**averaging),
            lambda: Call(lambda x: F.max_pool2d(x, **options)),
            lambda: Call(lambda x: F.avg_pool2d(x, **averaging)),
            lambda: Call(lambda x: F.max_pool2d(x, kernel, stride)),
            lambda: nn.AdaptiveAvgPool2d((kernel, 2)),
        ]
        self.add(self.draw(st.sampled_from(kinds))())

    def residual(self, nested: bool = True) -> None:
        """A path of a few convolutions, perhaps strided, and a shortcut of the same geometry."""
        stride = self.number(1, 2)
        outputs = self.number(1, 9) if self.draw(st.booleans()) else self.shape[0]
        path = Pieces(self.draw, self.shape)
        if self.number(0, 3) == 0:
            path.tail()  # batch norm and activation before the first convolution
        for remaining in reversed(range(self.number(1, 3))):
            kernel, dilation = self.draw(st.sampled_from([3, 1, 5])), self.number(1, 2)
            path.add(
                nn.Conv2d(
                    path.shape[0],
                    self.number(1, 9) if remaining else outputs,
                    kernel,
                    stride,
                    "same"
                    if stride == 1 and self.draw(st.booleans())
                    else dilation * (kernel // 2),
                    dilation,
                    bias=self.draw(st.booleans()),
                )
            )
            stride = 1
            path.tail()
            if nested and self.number(0, 3) == 0 and remaining:
                path.residual(nested=False)
        shortcut = self._shortcut(path.shape)
        join = self.draw(st.sampled_from(list(JOINS)))
        self.add(Residual(path.chain(), shortcut, join))
        self.relu()

    def _shortcut(self, shape: Shape) -> nn.Sequential:
        way = Pieces(self.draw, self.shape)
        if shape == self.shape and self.number(0, 3):
            way.perhaps(nn.Identity())
            return way.chain()
        # windows of this stride start where the path's do: sizes ⌈H / stride⌉ on both
        stride = next(
            stride
            for stride in (1, 2, 4, 8, 16)
            if all(-(-a // stride) == b for a, b in zip(self.shape[1:], shape[1:], strict=True))
        )
        if stride > 1 and self.draw(st.booleans()):
            way.add(nn.AvgPool2d(stride, ceil_mode=True))
            stride = 1
        way.add(nn.Conv2d(self.shape[0], shape[0], 1, stride, bias=self.draw(st.booleans())))
        way.norm()
        return way.chain()

    def body(self) -> None:
        kinds = [self.conv, self.residual, self.residual, self.pool, self.tail, self.idle]
        for kind in self.draw(st.lists(st.sampled_from(kinds), max_size=4)):
            kind()

    def idle(self) -> None:
        self.add(self.draw(st.sampled_from([nn.Dropout2d(), nn.Identity(), nn.Dropout(0.3)])))

    def flatten(self) -> None:
        ways = [nn.Flatten(), Call(lambda x: torch.flatten(x, 1)), Call(lambda x: x.flatten(1))]
        self.add(self.draw(st.sampled_from(ways)))

    def head(self, classes: int) -> None:
        ways = [self._mean_first, self._perceptron, self._grid, self._convolutional]
        self.draw(st.sampled_from(ways))(classes)
        if self.number(0, 9) == 9:
            self.norm()

    def _mean_first(self, classes: int) -> None:
        self.add(
            self.draw(
                st.sampled_from(
                    [nn.AdaptiveAvgPool2d(1), Call(lambda x: F.adaptive_avg_pool2d(x, (1, 1)))]
                )
            )
        )
        self._perceptron(classes)

    def _grid(self, classes: int) -> None:
        self.add(nn.AdaptiveAvgPool2d((self.number(1, 3), self.number(1, 3))))
        self._perceptron(classes)

    def _perceptron(self, classes: int) -> None:
        self.flatten()
        self.tail()
        if self.number(0, 5) == 5:
            self._linear_residual()
        for _ in range(self.number(0, 2)):
            self.add(nn.Linear(self.shape[0], self.number(1, 12), bias=self.draw(st.booleans())))
            self.tail()
            self.perhaps(nn.Dropout())
            if self.number(0, 3) == 3:
                self._linear_residual()
        self.add(nn.Linear(self.shape[0], classes, bias=self.draw(st.booleans())))

    def _linear_residual(self) -> None:
        path = Pieces(self.draw, self.shape)
        if self.draw(st.booleans()):
            path.add(nn.Linear(path.shape[0], self.number(1, 9)))
            path.tail()
        path.add(nn.Linear(path.shape[0], self.shape[0]))
        self.add(Residual(path.chain(), nn.Sequential(), self.draw(st.sampled_from(list(JOINS)))))

    def _convolutional(self, classes: int) -> None:
        self.add(nn.Conv2d(self.shape[0], classes, 1), nn.AdaptiveAvgPool2d(1))
        self.flatten()


@st.composite
def classifiers(draw: Draw) -> Classifier:
    """Any network that the table of operators can say."""
    sizes = [(8, 8), (5, 7), (1, 1), (12, 9), (3, 14)]
    shape: Shape = (draw(st.sampled_from([1, 3])), *draw(st.sampled_from(sizes)))
    classes, seed = draw(st.integers(2, 4)), draw(st.integers(0, 99))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pieces = Pieces(draw, shape)
        pieces.body()
        pieces.head(classes)
        module = pieces.chain().eval()
        _stir(module)
    return Classifier(module, shape, classes)


def _stir(module: nn.Module) -> None:
    """Batch norms as training leaves them: fresh ones are nearly the identity and hide mistakes."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)


#: both presets, and pools of one's own with every choice of scaled fields
all_moves: st.SearchStrategy[Moves] = st.one_of(
    st.sampled_from(list(PRESETS.values())),
    st.builds(
        lambda pool, scaled: Moves((*sorted(pool), 1.0), "".join(sorted(scaled))),
        st.sets(st.sampled_from([0.0, 0.1, 0.35, 0.5, 0.75]), min_size=1),
        st.sets(st.sampled_from(FIELDS), min_size=1),
    ),
)


def extremes(spec: NetSpec, moves: Moves) -> list[list[int]]:
    """Everything as small as it gets, one layer kept, and removed and kept in turns."""
    masks = moves.masks(anatomy(spec).layers)
    low, high = [int(np.argmax(mask)) for mask in masks], [moves.keep] * len(masks)
    return [
        low,
        high,
        [high[0], *low[1:]],
        [*low[:-1], high[-1]],
        [(low, high)[step % 2][step] for step in range(len(masks))],
        [(high, low)[step % 2][step] for step in range(len(masks))],
    ]


@st.composite
def legal_actions(draw: Draw, spec: NetSpec, moves: Moves) -> Sequence[int]:
    masks = moves.masks(anatomy(spec).layers)
    actions: Sequence[int] = draw(
        st.one_of(
            st.tuples(*(st.sampled_from(np.flatnonzero(mask).tolist()) for mask in masks)),
            st.sampled_from(extremes(spec, moves)),
        )
    )
    return actions
