"""Which channels of a network are the same, and which of them are decided on together.

Every channel of every tensor belongs to a *class*: channels that meet in an add or a mul, or that
a depthwise convolution reads and writes, are one class, and a student keeps or drops it
everywhere. Classes that occur in the same tensors form a *group*: a student keeps some number of
the classes of a group (its *width*), so the number of channels of every tensor follows from the
widths alone.

Where a split cuts a tensor in two, its halves are groups of their own, so that a student never
keeps an empty half. A flattened map has every class once per pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS
from envs.graph.ops.base import Ids
from envs.graph.ops.weighted import CONVOLUTIONS, ties_blocks


@dataclass(frozen=True, eq=False)
class Layout:
    """The classes of a tensor's channels, in order; shared by all tensors that have the same.

    Attributes:
        number: identity of the layout.
        classes: one entry per channel.
        groups: (group, times): how often the classes of every group occur in it.
    """

    number: int
    classes: Ids
    groups: tuple[tuple[int, int], ...]

    @cached_property
    def _index(self) -> tuple[Ids, Ids, Ids]:
        order = np.argsort(self.classes, kind="stable")
        known, first, count = np.unique(self.classes[order], return_index=True, return_counts=True)
        top = int(self.classes.max()) + 1
        starts, counts = np.zeros(top, np.int64), np.zeros(top, np.int64)
        starts[known], counts[known] = first, count
        return order, starts, counts

    def places(self, wanted: Ids) -> Ids:
        """Where classes stand in it: the k-th mention of a class is its k-th channel, −1 if none.

        Args:
            wanted: classes, shape (n,).

        Returns:
            channels, shape (n,).
        """
        order, starts, counts = self._index
        known = wanted < len(starts)
        safe = np.where(known, wanted, 0)
        turn = _occurrence(wanted)
        found = known & (turn < counts[safe])
        return np.where(found, order[np.where(found, starts[safe] + turn, 0)], -1)


def _occurrence(values: Ids) -> Ids:
    """How many equal values stand before each value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    fresh = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    starts = np.repeat(fresh, np.diff(np.r_[fresh, len(values)]))
    turn = np.empty_like(values)
    turn[order] = np.arange(len(values)) - starts
    return turn


@dataclass(frozen=True, eq=False)
class Channels:
    """All channels of a network.

    Attributes:
        layout: tensor (name of a node, or the input) → its layout.
        layouts: all of them, by number.
        group: class → group.
        unit: class → its rank within the group.
        members: group → its classes, in order.
    """

    layout: Mapping[str, Layout]
    layouts: tuple[Layout, ...]
    group: Ids
    unit: Ids
    members: tuple[Ids, ...]

    def units(self, group: int) -> int:
        """Classes of a group in the teacher."""
        return len(self.members[group])

    def kept(self, layout: Layout, widths: Ids) -> NDArray[np.bool_]:
        """Which channels stay where every group keeps its first classes.

        Which classes they stand for is a matter of weights (:mod:`envs.compression.surgery`); what
        the student looks like is not.
        """
        kept: NDArray[np.bool_] = self.unit[layout.classes] < widths[self.group[layout.classes]]
        return kept


class _Census:
    """Gives every channel an identity, and remembers which are one."""

    def __init__(self) -> None:
        self.count = 0
        self.pairs: list[tuple[Ids, Ids]] = []

    def fresh(self, number: int) -> Ids:
        self.count += number
        return np.arange(self.count - number, self.count)

    def tie(self, first: Ids, second: Ids) -> None:
        self.pairs.append((first, second))

    def classes(self) -> Ids:
        """Identity → class, numbered by first appearance."""
        if not self.pairs:
            return np.arange(self.count)
        rows = np.concatenate([first for first, _ in self.pairs])
        columns = np.concatenate([second for _, second in self.pairs])
        graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), (self.count, self.count))
        _, labels = connected_components(graph, directed=False)
        return _by_appearance(labels.astype(np.int64))


def _by_appearance(labels: Ids) -> Ids:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def channels(spec: NetSpec) -> Channels:
    """Classes, groups and layouts of a network.

    A convolution in a few large groups (ShuffleNet's 3 of 80) needs equally many channels in
    every group. Where the structure of the network sees to that, each of its groups keeps the
    channels that matter most there; otherwise all of them keep the same positions.
    """
    few = [node for node in spec.nodes if _has_large_groups(node)]
    tied: set[str] = set()
    while True:
        survey = _Survey(spec, tied)
        uneven = {node.name for node in few if node.name not in tied and not survey.even(node)}
        if not uneven:
            return survey.channels()
        tied |= uneven


def _has_large_groups(node: Node) -> bool:
    grouped = node.op in CONVOLUTIONS and node.attrs["groups"] > 1
    return grouped and not ties_blocks(node.attrs)


class _Survey:
    """All channels of a network, with some of its grouped convolutions tied by position."""

    def __init__(self, spec: NetSpec, tied: set[str]) -> None:
        self.spec = spec
        census = _Census()
        ids: dict[str, Ids] = {INPUT: census.fresh(spec.input_shape[0])}
        for node in spec.nodes:
            if _has_large_groups(node) and node.name not in tied:
                ids[node.name] = census.fresh(node.attrs["out"])
                continue
            ids[node.name] = OPS[node.op].route(
                node.attrs,
                [ids[name] for name in node.inputs],
                [spec.shape_of(name) for name in node.inputs],
                census.fresh,
                census.tie,
            )
        classes = census.classes()
        self.written = {name: classes[channels] for name, channels in ids.items()}
        self.distinct: dict[bytes, Ids] = {}
        for tensor in self.written.values():
            self.distinct.setdefault(tensor.tobytes(), tensor)
        blocks = [
            block
            for node in spec.nodes
            if _has_large_groups(node) and node.name not in tied
            for block in self.blocks(node)
        ]
        tensors = [*self.distinct.values(), *blocks]
        alike = _patterns(classes, list(ids.values()))
        self.group = _groups(tensors, alike)
        self.members = tuple(
            np.flatnonzero(self.group == number) for number in range(int(self.group.max()) + 1)
        )

    def blocks(self, node: Node) -> list[Ids]:
        """The groups of a convolution, those that it reads before those that it writes."""
        count = node.attrs["groups"]
        read, wrote = self.written[node.inputs[0]], self.written[node.name]
        return [*read.reshape(count, -1), *wrote.reshape(count, -1)]

    def even(self, node: Node) -> bool:
        """Whether all groups of a convolution keep equally many channels, whatever is done.

        They do where their channel groups are equally large and have the same writers.
        """
        count = node.attrs["groups"]
        blocks = [self._profile(block) for block in self.blocks(node)]
        return len(set(blocks[:count])) == 1 == len(set(blocks[count:]))

    def _profile(self, block: Ids) -> tuple[object, ...]:
        return tuple(
            sorted(
                (len(self.members[group]), times, self._writers[group])
                for group, times in _counts(self.group[block], self.members)
            )
        )

    @cached_property
    def _writers(self) -> dict[int, tuple[int, ...]]:
        """Group → the layers that write it, in order; the image counts as the first, the logits
        as a last one, because neither changes its width."""
        order = [INPUT, *(node.name for node in self.spec.nodes if OPS[node.op].weighted)]
        writers: dict[int, list[int]] = {number: [] for number in range(len(self.members))}
        for place, name in enumerate(order):
            for group in np.unique(self.group[self.written[name]]):
                writers[int(group)].append(place)
        for group in np.unique(self.group[self.written[self.spec.output.name]]):
            writers[int(group)].append(len(order))
        return {group: tuple(places) for group, places in writers.items()}

    def channels(self) -> Channels:
        """What was found."""
        layouts = {
            key: Layout(number, tensor, _counts(self.group[tensor], self.members))
            for number, (key, tensor) in enumerate(self.distinct.items())
        }
        return Channels(
            {name: layouts[tensor.tobytes()] for name, tensor in self.written.items()},
            tuple(layouts.values()),
            self.group,
            _occurrence(self.group),
            self.members,
        )


def _patterns(classes: Ids, tensors: Sequence[Ids]) -> Ids:
    """Class → a number that is the same where the same is done to its channels.

    A class may hold several channels (of a grouped convolution, of two paths that are added), and
    tensors may have them in different orders. A student can keep one class in place of another
    only where the orders are the same in all tensors; they are compared by their hashes.

    Args:
        classes: channel → class.
        tensors: channels of every tensor.
    """
    member = _occurrence(classes).astype(np.uint64)
    found = np.zeros(int(classes.max()) + 1, np.uint64)
    random = np.random.default_rng(0)
    for channels in {channels.tobytes(): channels for channels in tensors}.values():
        turn = _occurrence(classes[channels])
        keys = random.integers(1, 2**63, int(turn.max()) + 1, np.uint64)
        np.add.at(found, classes[channels], (member[channels] + np.uint64(1)) * keys[turn])
    return np.unique(found, return_inverse=True)[1].reshape(-1)


def _groups(tensors: Sequence[Ids], alike: Ids) -> Ids:
    """Class → group: the coarsest partition in which every tensor holds whole groups.

    Args:
        tensors: classes of every tensor.
        alike: class → a number; only classes with the same number may share a group.
    """
    group, classes = alike, len(alike)
    for tensor in tensors:
        times = np.bincount(tensor, minlength=classes)
        _, group = np.unique(group * (int(times.max()) + 1) + times, return_inverse=True)
    return _by_appearance(group.reshape(-1))


def _counts(groups: Ids, members: Sequence[Ids]) -> tuple[tuple[int, int], ...]:
    found, counts = np.unique(groups, return_counts=True)
    return tuple(
        (int(group), int(count) // len(members[group]))
        for group, count in zip(found, counts, strict=True)
    )
