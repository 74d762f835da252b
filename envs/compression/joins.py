"""Where two or more paths meet, and what is repaired there.

- Paths of different *size*: brought to the teacher's size where one of them still has it, else to
  the smallest; without weights.
- Paths of different *width* at an add or a mul: a path that lost the layer which gave it the
  channels of the result gets a 1×1 projection.
- Parts of a concatenation that became wider than the teacher's: a 1×1 projection to its width.
- A path that lost all its layers is the other path's own input: an add goes away with it.
- A part of a concatenation whose own layers are gone passes on what they read; where the other
  parts bring all of that already, as in a dense block, the part goes away.
- A gate that lost all its layers (squeeze-excite) stands open: the mul goes away with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.compression.channels import Layout
from envs.compression.flow import (
    Flow,
    Mask,
    Mixture,
    both,
    choose,
    differ,
    either,
    every,
    no,
    number,
    settled,
    smallest,
    some,
)
from envs.graph.netspec import Node, Shape
from envs.graph.ops.base import Size, Sizes

if TYPE_CHECKING:
    from envs.compression.plan import Walk


class Joiner:
    """Plans the joins of one walk."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.teacher = walk.teacher
        self.layout = walk.channels.layout
        self.dropped = False
        self.holdings = Holdings(
            walk.channels.layouts, len(walk.channels.members), len(walk.rules.structure.layers)
        )

    def join(self, node: Node, inputs: list[Flow]) -> Flow:
        """The flow behind an add, a mul or a concatenation."""
        if node.op == "cat":
            return self._concatenate(node, inputs)
        return self._meet(node, inputs[0], inputs[1])

    # -- add and mul ----------------------------------------------------------------------------

    def _meet(self, node: Node, first: Flow, second: Flow) -> Flow:
        only_first, only_second = self._passing(node, first, second)
        live = no(either(only_first, only_second))
        if not some(live):
            return choose(only_first, first, second)
        shapes = [self.teacher.shape_of(name) for name in node.inputs]
        target = self._target(node, shapes, first, second)
        sizes, sized = self._sized(node, shapes, [first, second], live)
        paths = [
            self._brought(f"{node.name}.{place}", flow, shape, node.shape, target, live)
            for place, (flow, shape) in enumerate(zip(sized, shapes, strict=True))
        ]
        met = self.walk.emit(
            node.name,
            node.op,
            [(path, True) for path in paths],
            node.attrs,
            live,
            target.origin,
            shape=(target.channels, *sizes),
        )
        return choose(only_first, first, choose(only_second, second, met))

    def _passing(self, node: Node, first: Flow, second: Flow) -> tuple[Mask, Mask]:
        """Where nothing is left to join, because one path is all there is."""
        one = node.inputs[0] == node.inputs[1]
        same: Mask = False if one else no(differ(first.source, second.source))
        if node.op != "mul" or one:
            return same, False
        lost = [self._lost(node.inputs[0], node.inputs[1])]
        lost.append(self._lost(node.inputs[1], node.inputs[0]))
        only_first = both(lost[1], no(lost[0]))
        only_second = both(lost[0], both(no(lost[1]), no(same)))
        self.dropped |= some(either(only_first, only_second))
        return either(same, only_first), only_second

    def _lost(self, path: str, other: str) -> Mask:
        """Where a path has lost every layer that the other path does not have too."""
        own = sorted(self._behind(path) - self._behind(other))
        if not own or not self.walk.any_gone[own].all():
            return False
        lost: NDArray[np.bool_] = self.walk.gone[own].all(axis=0)
        return lost

    def _behind(self, name: str) -> frozenset[int]:
        """Steps of the weight layers that a tensor follows from."""
        return self.walk.rules.behind[name]

    def _target(self, node: Node, shapes: Sequence[Shape], first: Flow, second: Flow) -> Flow:
        """The path whose channels the result carries: the teacher's, else the longest."""
        if shapes[0][0] != shapes[1][0]:  # the narrow one stretches over the channels of the other
            return first if shapes[0][0] > shapes[1][0] else second
        own = self.layout[node.name].number
        foreign = [differ(flow.origin, own) for flow in (first, second)]
        longer: Mask = second.depth > first.depth
        return choose(both(foreign[0], either(no(foreign[1]), longer)), second, first)

    def _sized(
        self, node: Node, shapes: Sequence[Shape], flows: Sequence[Flow], live: Mask
    ) -> tuple[Sizes, list[Flow]]:
        """All paths at one size; an axis of one pixel goes on stretching over the others."""
        targets: list[Size] = []
        for axis, extent in enumerate(node.shape[1:], 1):
            full = [
                flow.shape[axis]
                for flow, shape in zip(flows, shapes, strict=True)
                if shape[axis] == extent
            ]
            targets.append(_common(full, extent, [True] * len(full)))
        sized = []
        for place, (flow, shape) in enumerate(zip(flows, shapes, strict=True)):
            wanted = tuple(
                target if old == extent else 1
                for target, old, extent in zip(targets, shape[1:], node.shape[1:], strict=True)
            )
            sized.append(self.walk.resized(f"{node.name}.{place}", flow, wanted, live))
        return tuple(targets), sized

    def _brought(
        self, where: str, flow: Flow, shape: Shape, met: Shape, target: Flow, live: Mask
    ) -> Flow:
        if shape[0] != met[0]:  # one channel that stretches, or as many as it has to cover
            live = both(live, differ(flow.channels, 1))
        return self.walk.projected(f"{where[:180]}.project", flow, target.channels, live)

    # -- concatenation ---------------------------------------------------------------------------

    def _concatenate(self, node: Node, inputs: list[Flow]) -> Flow:
        present = self._present(node, inputs)
        alone = inputs[-1]
        for flow, mask in zip(reversed(inputs[:-1]), reversed(present[:-1]), strict=True):
            alone = choose(mask, flow, alone)
        several: Mask = settled(sum(present) > 1)
        if not some(several):
            return alone
        sizes: Sizes = tuple(
            _common([flow.shape[axis] for flow in inputs], extent, present)
            for axis, extent in enumerate(node.shape[1:], 1)
        )
        paths = [
            self._part(node, place, flow, sizes, both(several, mask))
            for place, (flow, mask) in enumerate(zip(inputs, present, strict=True))
        ]
        total: Size = 0
        whole: Mask = True
        for name, flow, mask in zip(node.inputs, paths, present, strict=True):
            total = total + number(mask, flow.channels, 0)
            whole = both(whole, both(mask, no(differ(flow.origin, self.layout[name].number))))
        own = self.layout[node.name].number
        mixture = None
        if not every(whole):
            parts = tuple((flow.origin, mask) for flow, mask in zip(paths, present, strict=True))
            mixture = Mixture(-2 - len(self.walk.steps), parts)
        joined = self.walk.emit(
            node.name,
            node.op,
            list(zip(paths, present, strict=True)),
            node.attrs,
            several,
            own if mixture is None else number(whole, own, mixture.number),
            shape=(total, *sizes),
            mixture=mixture,
        )
        return choose(several, joined, alone)

    def _part(self, node: Node, place: int, flow: Flow, sizes: Sizes, live: Mask) -> Flow:
        """A part at the common size, and no wider than the teacher's.

        A removed layer passes on all that it read. In a dense block that is all parts before it,
        and the width would double with every layer that is gone.
        """
        own = self.layout[node.inputs[place]]
        width = self.walk.count(own)
        flow = self.walk.resized(f"{node.name}.{place}", flow, sizes, live)
        wide = both(live, flow.channels > width)
        if not some(wide):
            return flow
        where = f"{node.name[:180]}.{place}.project"
        return choose(
            wide, self.walk.projected(where, flow, width, wide).carrying(own.number), flow
        )

    def _present(self, node: Node, inputs: Sequence[Flow]) -> list[Mask]:
        """Which parts stand: those that are the teacher's own, and those that bring something new.

        A part is foreign where its own layers are gone. It brings nothing where the parts that
        stand hold every channel group that it carries.
        """
        foreign = [
            differ(flow.origin, self.layout[name].number)
            for flow, name in zip(inputs, node.inputs, strict=True)
        ]
        present = [no(mask) for mask in foreign]
        if all(map(every, present)):
            return present
        carried = [self.holdings.of(flow.origin) for flow in inputs]
        seen = np.zeros((len(carried[0]), self.walk.actions.shape[1]), np.uint64)
        for groups, mask in zip(carried, present, strict=True):
            seen |= np.where(mask, groups, 0)
        for place, groups in enumerate(carried):
            if not some(foreign[place]):
                continue
            new = both(foreign[place], ((groups & ~seen) != 0).any(axis=0, keepdims=True)[0])
            present[place] = either(present[place], new)
            seen |= np.where(new, groups, 0)
            self.dropped |= not every(present[place])
        return present


class Holdings:
    """What a flow carries, as bits of 64-bit words, shape (words, batch or 1).

    A bit for every channel group, then one for every layer: a depthwise convolution whose own
    channels are gone works on others, and makes something new of them.
    """

    def __init__(self, layouts: Sequence[Layout], groups: int, layers: int) -> None:
        self._groups = groups
        self._table = np.zeros((-(-(groups + layers) // 64), len(layouts)), np.uint64)
        for layout in layouts:
            for group, _ in layout.groups:
                self._table[group // 64, layout.number] |= np.uint64(1 << (group % 64))
        self._mixed: dict[int, NDArray[np.uint64]] = {}

    def of(self, origin: Size) -> NDArray[np.uint64]:
        """What flows of this origin carry."""
        if isinstance(origin, int):
            return self._mixed[origin] if origin < 0 else self._table[:, [origin]]
        found: NDArray[np.uint64] = self._table[:, np.maximum(origin, 0)]
        for mixture in np.unique(origin[origin < 0]):
            found = np.where(origin == mixture, self._mixed[int(mixture)], found)
        return found

    def note(self, mixture: Mixture) -> None:
        """Remember what a mixture carries."""
        total = np.zeros((len(self._table), 1), np.uint64)
        for origin, mask in mixture.parts:
            total = total | np.where(mask, self.of(origin), 0)
        if mixture.layer is not None:
            bit = self._groups + mixture.layer
            total[bit // 64] |= np.uint64(1 << (bit % 64))
        self._mixed[mixture.number] = total


def _common(extents: Sequence[Size], teacher: int, present: Sequence[Mask]) -> Size:
    """The teacher's extent where a path still has it, else the smallest there is."""
    has: Mask = False
    least: Size | None = None
    for extent, mask in zip(extents, present, strict=True):
        has = either(has, both(mask, no(differ(extent, teacher))))
        if every(has):
            return teacher
        here = number(mask, extent, np.iinfo(np.int64).max)
        least = here if least is None else smallest(least, here)
    return number(has, teacher, least)
