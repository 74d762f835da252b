"""Netspec + actions → what the students look like, for a whole batch of action vectors at once.

This is the one place where the rules of compression stand. :mod:`envs.compression.resolve` reads
one student from it, :mod:`envs.compression.cost` the cost of thousands, and neither knows more than
what is planned here.

Every combination of legal actions gives a network that runs:

- a removed layer passes its input on, with the norms and activations that it owned;
- a layer that adapts (convolution, linear, norm) takes whatever channels it is given; a depthwise
  convolution works on them as they are, another grouped one gets its own through a 1×1 projection;
- a shuffle, split or selection whose channels were removed passes on what there is;
- maps of another size before a flatten are resized to the teacher's, so that the columns of the
  linear layer after it keep their meaning;
- joins are repaired by :mod:`envs.compression.joins`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compression.channels import Layout
from envs.compression.flow import (
    Flow,
    Mask,
    Mixture,
    Step,
    both,
    choose,
    differ,
    every,
    largest,
    no,
    number,
    settled,
    some,
)
from envs.compression.joins import Joiner
from envs.compression.moves import Moves
from envs.compression.rules import GEOMETRY, Rules, rules_of
from envs.graph.netspec import INPUT, NetSpec, Node, Shape
from envs.graph.ops import OPS
from envs.graph.ops.base import Size, Sizes
from envs.graph.ops.weighted import depthwise, ties_blocks


@dataclass(frozen=True)
class Plan:
    """The students of a batch of action vectors.

    Attributes:
        steps: operators in execution order; a student has those that are live for it.
        output: the flow that holds the logits.
        widths: classes that are kept of every channel group, shape (groups, batch).
    """

    steps: tuple[Step, ...]
    output: Flow
    widths: NDArray[np.int64]


def plan(spec: NetSpec, moves: Moves, actions: NDArray[np.integer[Any]]) -> Plan:
    """Plan the students of legal action vectors.

    Args:
        spec: the teacher.
        moves: pool and scaled fields.
        actions: indices into the pool, shape (batch, layers); legality is the caller's duty.
    """
    return Walk(spec, rules_of(spec, moves), np.ascontiguousarray(actions.T)).run()


class Walk:
    """Goes through the teacher's operators once and writes the students'."""

    def __init__(self, spec: NetSpec, rules: Rules, actions: NDArray[np.integer[Any]]) -> None:
        self.teacher, self.rules, self.actions = spec, rules, actions
        self.channels = rules.structure.channels
        self.gone = rules.removing[actions]
        self.any_gone = self.gone.any(axis=1)
        self.widths = self._widths()
        self.counts: dict[int, Size] = {}
        self.names = {node.name for node in spec.nodes}
        self.steps: list[Step] = []
        image = self.channels.layout[INPUT].number
        self.flows: dict[str, Flow] = {INPUT: Flow(-1, image, 0, spec.input_shape)}
        self.joiner = Joiner(self)

    def _widths(self) -> NDArray[np.int64]:
        """The first writer that is left sets the width of its group."""
        members = self.channels.members
        widths = np.array([[len(group)] for group in members])
        widths = np.repeat(widths, self.actions.shape[1], axis=1)
        open_ = np.ones(widths.shape, bool)
        open_[list(self.rules.fixed)] = False
        for layer in self.rules.structure.layers:
            for group in layer.groups:
                sets = open_[group] & ~self.gone[layer.index]
                if sets.any():
                    table = self.rules.widths[len(members[group])]
                    kept = table[self.actions[layer.index]]
                    widths[group] = np.where(sets, kept, widths[group])
                    open_[group] &= ~sets
        return widths

    def run(self) -> Plan:
        for node in self.teacher.nodes:
            inputs = [self.flows[name] for name in node.inputs]
            if OPS[node.op].join:
                self.flows[node.name] = self.joiner.join(node, inputs)
                continue
            gone = self.is_gone(node.name)
            if every(gone):
                self.flows[node.name] = inputs[0]
            else:
                self.flows[node.name] = choose(gone, inputs[0], self._single(node, inputs[0], gone))
        output = self.flows[self.teacher.output.name]
        if self.joiner.dropped:
            self._prune(output)
        return Plan(tuple(self.steps), output, self.widths)

    def _prune(self, output: Flow) -> None:
        """Take away what led to a gate or a part that was dropped, and to nothing else."""
        everyone = np.arange(self.actions.shape[1])
        needed = np.zeros((len(self.steps) + 1, len(everyone)), bool)  # row 0: the image
        needed[output.source + 1, everyone] = True
        for place in reversed(range(len(self.steps))):
            step = self.steps[place]
            live = needed[place + 1] & step.live
            for flow, mask in step.inputs:
                where = np.flatnonzero(live & mask)
                rows = flow.source if isinstance(flow.source, int) else flow.source[where]
                needed[rows + 1, where] = True
            self.steps[place] = replace(step, live=True if live.all() else live)

    def is_gone(self, name: str) -> Mask:
        """In which students the layer that owns this node is removed."""
        owner = self.rules.owner.get(name)
        return False if owner is None or not self.any_gone[owner] else self.gone[owner]

    def count(self, layout: Layout) -> Size:
        """Channels that the students keep of a tensor of the teacher."""
        if layout.number not in self.counts:
            total: Size = 0
            for group, times in layout.groups:
                total = total + times * self.widths[group]
            same = total.min() == total.max()
            self.counts[layout.number] = int(total[0]) if same else total
        return self.counts[layout.number]

    def emit(
        self,
        name: str,
        op: str,
        inputs: Sequence[tuple[Flow, Mask]],
        attrs: Mapping[str, Any],
        live: Mask,
        origin: Size,
        *,
        shape: Sizes | None = None,
        between: tuple[Layout, Layout] | None = None,
        mixture: Mixture | None = None,
    ) -> Flow:
        """Add an operator to the students in which it is live."""
        if shape is None:
            inferred = OPS[op].infer(attrs, [flow.shape for flow, _ in inputs])
            shape = tuple(settled(size) for size in inferred)
        if mixture is not None:
            self.joiner.holdings.note(mixture)
        self.steps.append(Step(name, op, tuple(inputs), attrs, shape, live, between, mixture))
        depth = inputs[0][0].depth
        for flow, _ in inputs[1:]:
            depth = largest(depth, flow.depth)
        return Flow(len(self.steps) - 1, origin, depth + OPS[op].weighted, shape)

    def _single(self, node: Node, given: Flow, gone: Mask) -> Flow:
        op, live = OPS[node.op], no(gone)
        if op.weighted:
            return self._layer(node, given, live)
        if op.structural:
            return self._structural(node, given)
        read = self.teacher.shape_of(node.inputs[0])
        if op.rigid(node.attrs):
            given = self.resized(node.name, given, read[1:], live)
        attrs = {**node.attrs, **op.adapt(node.attrs, [given.shape])}
        if node.op == "flatten":
            return self._flatten(node, given, math.prod(read[1:]))
        origin = self.channels.layout[node.name].number if op.mixes else given.origin
        return self.emit(node.name, node.op, [(given, True)], attrs, live, origin)

    def _layer(self, node: Node, given: Flow, live: Mask) -> Flow:
        attrs = dict(node.attrs)
        written = self.channels.layout[node.name]
        if node.op == "linear":
            attrs |= {"in": given.channels, "out": self.count(written)}
            return self.emit(node.name, node.op, [(given, True)], attrs, live, written.number)
        layer = self.rules.layer[node.name]
        mixture = None
        if depthwise(attrs) and not layer.classifier:
            here = given.channels
            attrs |= {"in": here, "out": here, "groups": here}
            origin = given.origin
            foreign = differ(origin, written.number)
            if some(foreign):  # other channels' maps, but not as they were
                mixture = Mixture(-2 - len(self.steps), ((origin, True),), layer=layer.index)
                origin = number(foreign, mixture.number, origin)
        else:
            if attrs["groups"] > 1:
                given = self._own(node, given, live)
            attrs |= self._grouping(node, given, written)
            origin = written.number
        attrs |= self._geometry(node.name, self.actions[layer.index], given.sizes)
        inputs = [(given, True)]
        return self.emit(node.name, node.op, inputs, attrs, live, origin, mixture=mixture)

    def _grouping(self, node: Node, given: Flow, written: Layout) -> dict[str, Size]:
        attrs = node.attrs
        groups = attrs["groups"]
        if groups > 1 and ties_blocks(attrs):
            # at least one also where the layer is removed, and what it is given is not its own
            groups = largest(1, given.channels // (attrs["in"] // groups))
        return {"in": given.channels, "out": self.count(written), "groups": groups}

    def _own(self, node: Node, given: Flow, live: Mask) -> Flow:
        """The channels that a grouped convolution means, by a projection where they are lost."""
        layout = self.channels.layout[node.inputs[0]]
        flow = self.projected(f"{node.name[:180]}_project", given, self.count(layout), live)
        return flow.carrying(layout.number)

    def _geometry(
        self, name: str, action: NDArray[np.integer[Any]], sizes: Sizes
    ) -> dict[str, list[Size]]:
        found: dict[str, list[Size]] = {key: [] for key in GEOMETRY}
        for axis, extent in zip(self.rules.geometry[name], sizes, strict=True):
            kernel, stride, padding = (
                table if isinstance(table, int) else table[action]
                for table in (axis.kernel, axis.stride, axis.padding)
            )
            # a map that shrank below the kernel is padded until one window fits
            short = axis.dilation * (kernel - 1) + 1 - extent - 2 * padding
            padding = padding + largest(0, -(-short // 2))
            numbers = (kernel, stride, padding, axis.dilation)
            for key, value in zip(GEOMETRY, numbers, strict=True):
                found[key].append(value)
        return found

    def _structural(self, node: Node, given: Flow) -> Flow:
        """It means certain channels: where they are gone, it passes on what there is."""
        between = self.channels.layout[node.inputs[0]], self.channels.layout[node.name]
        whole = no(differ(given.origin, between[0].number))
        if not some(whole):
            return given
        shape = (self.count(between[1]), *given.sizes)
        flow = self.emit(
            node.name,
            node.op,
            [(given, True)],
            node.attrs,
            whole,
            between[1].number,
            shape=shape,
            between=between,
        )
        return choose(whole, flow, given)

    def _flatten(self, node: Node, given: Flow, pixels: int) -> Flow:
        read, written = self.channels.layout[node.inputs[0]], self.channels.layout[node.name]
        origin, mixture = given.origin, None
        foreign = differ(given.origin, read.number)
        if pixels > 1:
            if some(foreign):
                mixture = Mixture(
                    -2 - len(self.steps), ((given.origin, True),), pixels, node.attrs["last"]
                )
                origin = number(foreign, mixture.number, written.number)
            else:
                origin = written.number
        inputs = [(given, True)]
        return self.emit(node.name, node.op, inputs, node.attrs, True, origin, mixture=mixture)

    # -- repairs, for the joins as well ------------------------------------------------------------

    def resized(self, where: str, flow: Flow, sizes: Shape | Sizes, live: Mask) -> Flow:
        """The flow at another size, without weights."""
        wrong: Mask = False
        for old, new in zip(flow.sizes, sizes, strict=True):
            unequal = differ(old, new)
            wrong = unequal if isinstance(wrong, bool) and not wrong else wrong | unequal
        wrong = both(live, wrong)
        if not some(wrong):
            return flow
        attrs = {"source": list(flow.sizes), "size": list(sizes)}
        name = self.fresh(f"{where[:180]}.resize")
        fitted = self.emit(name, "resize", [(flow, True)], attrs, wrong, flow.origin)
        return choose(wrong, fitted, flow)

    def projected(self, where: str, flow: Flow, width: Size, live: Mask) -> Flow:
        """The flow with another number of channels, by a 1×1 convolution (or a linear layer)."""
        wrong = both(live, differ(flow.channels, width))
        if not some(wrong):
            return flow
        dims = len(flow.sizes)
        attrs: dict[str, Any] = {"in": flow.channels, "out": width, "bias": False}
        if dims:
            ones, zeros = [1] * dims, [0] * dims
            attrs |= {"kernel": ones, "stride": ones, "padding": zeros, "dilation": ones}
            attrs["groups"] = 1
        else:
            attrs["dims"] = 0
        op = f"conv{dims}d" if dims else "linear"
        fitted = self.emit(self.fresh(where), op, [(flow, True)], attrs, wrong, flow.origin)
        return choose(wrong, fitted, flow)

    def fresh(self, name: str) -> str:
        """A name for a repair; the teacher may be a student with repairs of its own."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name
