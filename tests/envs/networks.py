"""Random classifiers for the property tests, with moves and legal actions to compress them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from envs.compression.layers import anatomy
from envs.compression.moves import FIELDS, PRESETS, Moves
from envs.fx_import.trace import Traced, describe
from envs.graph.netspec import NetSpec, Shape
from tests.envs import blocks
from tests.envs.blocks import JOINS, Call, Residual
from tests.envs.pieces import ADAPTIVE_AVG, CONV, Draw, Make, Pieces


@dataclass(frozen=True)
class Classifier:
    """A teacher with random weights, in eval mode."""

    module: nn.Module
    input_shape: Shape
    classes: int

    def images(self, rows: int = 3) -> Tensor:
        return torch.randn(rows, *self.input_shape, generator=torch.Generator().manual_seed(7))

    @cached_property
    def traced(self) -> Traced:
        return describe(self.module, self.input_shape)


class Network(Pieces):
    """Blocks of many architectures, one inside the other."""

    def body(self, most: int, depth: int = 0, least: int = 0) -> None:
        """Up to ``most`` pieces; blocks that hold others only down to a certain depth."""
        plain = [self.conv, self.pool, self.tail, self.space, self.idle]
        blocks = [
            self.depthwise,
            self.grouped,
            self.squeeze,
            self.gated,
            self.shuffled,
            self.split,
            self.option_a,
            self.line,
        ]
        if not self.zeros:
            blocks.append(self.channels_last)
        holders = [self.residual, self.dense, self.inception, self.half_through]
        kinds = [*plain, *blocks, *(holders * 3 if depth < 2 else [])]
        for _ in range(self.number(least, most)):
            kind = self.draw(st.sampled_from(kinds))
            if kind in holders:
                kind(depth + 1)
            else:
                kind()

    def branch(self) -> Network:
        return Network(self.draw, self.shape, self.zeros)

    # -- holders -------------------------------------------------------------------------------

    def residual(self, depth: int) -> None:
        """A path of a few convolutions, perhaps strided, and a shortcut."""
        path = self.branch()
        if self.number(0, 3) == 0:
            path.tail()  # norm and activation before the first convolution
        stride = self.number(1, 2)
        for _ in range(self.number(0, 1)):
            path.same(self.number(1, 9), stride)
            stride = 1
            path.tail()
            path.body(1, depth)
        path.same(self.number(1, 9) if self.coin() else self.channels, stride)
        path.tail()
        self.add(Residual(path.chain(), self._shortcut(path), self._join()))
        self.activation()

    def _shortcut(self, path: Pieces) -> nn.Module:
        way = self.branch()
        while way.dims > path.dims:  # the path became a line
            way.add(Call(lambda x: x.mean(3)))
        if way.shape[1:] != path.shape[1:]:
            strided = all(
                -(-old // 2) == new for old, new in zip(way.shape[1:], path.shape[1:], strict=True)
            )
            if strided and self.coin():
                way.layer(path.channels, kernel_size=1, stride=2)
                way.norm()
                return way.chain()
            way.add(ADAPTIVE_AVG[way.dims](path.shape[1:]))
        if way.channels != path.channels or self.number(0, 3) == 0:
            way.pixelwise(path.channels)
            way.norm()
        return way.chain()

    def _join(self) -> str:
        return str(self.draw(st.sampled_from(list(JOINS))))

    def dense(self, depth: int) -> None:
        """Every layer reads the channels of all before it."""
        for _ in range(self.number(1, 2)):
            path = self.branch()
            path.tail()
            path.same(self.number(1, 4))
            path.body(1, 9)
            if path.shape[1:] == self.shape[1:]:
                branches = [nn.Identity(), path.chain()]
                self.add(blocks.Concat(branches if self.coin() else branches[::-1]))

    def inception(self, depth: int) -> None:
        branches: list[nn.Module] = []
        for _ in range(self.number(1, 3)):
            path = self.branch()
            kind = self.number(0, 2)
            if kind == 0:
                path.pixelwise(self.number(1, 5))
                path.tail()
            if kind == 1:
                path.add(MAX_POOL_SAME[path.dims]())
            path.same(self.number(1, 5))
            path.body(1, depth)
            if path.shape[1:] != self.shape[1:] and path.dims == self.dims:
                path.add(ADAPTIVE_AVG[self.dims](self.shape[1:]))
            if path.dims == self.dims:
                branches.append(path.chain())
        if branches:
            self.add(blocks.Concat(branches))

    def half_through(self, depth: int) -> None:
        self._divisible(2)
        path = self.branch()
        half = path.channels // 2
        path.shape = (half, *path.shape[1:])
        path.pixelwise(self.number(1, 6))
        path.tail()
        path.body(1, depth)
        if path.dims < self.dims:
            return
        if path.shape[1:] != self.shape[1:]:
            path.add(ADAPTIVE_AVG[self.dims](self.shape[1:]))
        path.pixelwise(half)
        path.tail()
        self.add(blocks.HalfThrough(path.chain()))

    # -- blocks --------------------------------------------------------------------------------

    def _divisible(self, number: int, most: int = 4) -> None:
        if self.channels % number:
            self.pixelwise(number * self.number(1, most))

    def depthwise(self) -> None:
        """MobileNet's: expansion, a filter per channel (or several), projection."""
        if self.coin():
            self.pixelwise(self.number(1, 8))
            self.tail()
        multiplier, kernel = (
            self.draw(st.sampled_from([1, 1, 2])),
            self.draw(st.sampled_from([3, 1, 5])),
        )
        self.layer(
            self.channels * multiplier,
            kernel_size=kernel,
            stride=self.number(1, 2),
            padding=kernel // 2,
            groups=self.channels,
        )
        self.tail()
        if self.coin():
            self.pixelwise(self.number(1, 8))

    def grouped(self) -> None:
        """Few large groups (ShuffleNet) or many small ones (ResNeXt)."""
        groups = self.number(2, 4)
        self._divisible(groups)
        self.layer(
            groups * self.number(1, 3),
            kernel_size=self.draw(st.sampled_from([1, 3])),
            padding=1,
            groups=groups,
        )
        self.tail()

    def squeeze(self) -> None:
        inner, flat = self.number(1, 4), self.coin()
        gate = Network(self.draw, (self.channels, *([] if flat else [1] * self.dims)), self.zeros)
        soft: list[Make] = [nn.Sigmoid, nn.Hardsigmoid]
        hard: list[Make] = [nn.ReLU, nn.SiLU]
        for outputs, kinds in ((inner, hard if self.zeros else hard + soft), (self.channels, soft)):
            if flat:
                gate.linear(outputs)
            else:
                gate.pixelwise(outputs)
            gate.add(self.one_of(kinds))
        self.add(blocks.Squeeze(gate.chain(), flat))

    def gated(self) -> None:
        self._divisible(2)
        self.add(blocks.Gated())

    def shuffled(self) -> None:
        """ShuffleNetV1's: grouped, shuffled, depthwise."""
        groups = self.number(2, 3)
        self._divisible(groups)
        self.pixelwise(groups * self.number(1, 4), groups)
        self.tail()
        spelled = self.coin()
        self.add(
            nn.ChannelShuffle(groups)
            if spelled and self.dims == 2
            else Call(lambda x: blocks.shuffle(x, groups))
        )
        if self.coin():
            self.layer(self.channels, kernel_size=3, padding=1, groups=self.channels)
        if self.coin():
            self.pixelwise(groups * self.number(1, 3), groups)

    def split(self) -> None:
        """Parts of unequal width; the last goes on as it is."""
        if self.channels < 3:
            self.pixelwise(self.number(3, 9))
        first = self.number(1, self.channels - 2)
        widths = [first, 1, self.channels - first - 1]
        paths = [
            CONV[self.dims](widths[0], self.number(1, 4), 1),
            CONV[self.dims](widths[1], self.number(1, 4), 1),
            nn.Identity(),
        ]
        self.add(blocks.Split(widths, paths))

    def option_a(self) -> None:
        stride, before, after = self.number(1, 2), self.number(0, 2), self.number(0, 3)
        path = self.branch()
        path.same(self.channels + before + after, stride)
        path.norm()
        self.add(Residual(path.chain(), blocks.ZeroShortcut(stride, before, after), self._join()))
        self.activation()

    def channels_last(self) -> None:
        self.add(blocks.ChannelsLast(self.channels, self.number(1, 9), self.coin()))

    def line(self) -> None:
        """A map with two axes becomes one with one."""
        if self.dims == 2:
            ways = [lambda x: x.flatten(2), lambda x: x.mean(3), lambda x: x.amax(2)]
            self.add(Call(self.draw(st.sampled_from(ways))))


MAX_POOL_SAME: dict[int, Make] = {
    1: lambda: nn.MaxPool1d(3, 1, 1),
    2: lambda: nn.MaxPool2d(3, 1, 1),
}


@st.composite
def classifiers(draw: Draw, most: int = 4, least: int = 0, zeros: bool = False) -> Classifier:
    """Any network that the table of operators can say.

    Args:
        most, least: pieces before the head.
        zeros: see :class:`tests.envs.pieces.Pieces`.
    """
    sizes = [(8, 8), (5, 7), (1, 1), (12, 9), (3, 14), (16,), (7,)]
    shape: Shape = (draw(st.sampled_from([1, 3])), *draw(st.sampled_from(sizes)))
    classes, seed = draw(st.integers(2, 4)), draw(st.integers(0, 99))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pieces = Network(draw, shape, zeros)
        pieces.body(most, least=least)
        pieces.head(classes)
        module = pieces.chain().eval()
        stir(module)
    return Classifier(module, shape, classes)


def stir(module: nn.Module) -> None:
    """Norms as training leaves them: fresh ones are nearly the identity and hide mistakes."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if isinstance(part, NORMS):
            for parameter in (part.weight, part.bias):
                if parameter is not None:
                    nn.init.normal_(parameter)
        if isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight)


NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.LayerNorm,
)

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
