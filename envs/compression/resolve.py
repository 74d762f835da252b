"""One student's netspec, read from the plan of :mod:`envs.compression.plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.channels import Channels, Layout
from envs.compression.flow import Step, at
from envs.compression.layers import Layer, anatomy
from envs.compression.moves import Moves
from envs.compression.plan import Plan, plan
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS
from envs.graph.ops.base import Ids
from envs.graph.ops.channels import spread


@dataclass(frozen=True, eq=False)
class Carried:
    """Which of the teacher's channels a tensor of the student stands for.

    Attributes:
        classes: one per channel of the student. Of every group the first classes count as kept;
            which ones they are in truth is decided by the weights
            (:mod:`envs.compression.surgery`).
        whole: the classes of the teacher's tensor before anything was dropped.
    """

    classes: Ids
    whole: Ids


@dataclass(frozen=True, eq=False)
class Student:
    """A compressed network, described and not yet built.

    Attributes:
        spec: the student's operators.
        actions: one index into the pool per weight layer of the teacher.
        reads: node of the student with weights → channels that it reads.
        widths: channel group → classes that the student keeps of it.
    """

    spec: NetSpec
    actions: tuple[int, ...]
    reads: Mapping[str, Carried] = field(repr=False)
    widths: NDArray[np.int64] = field(repr=False)


def check_actions(layers: Sequence[Layer], moves: Moves, actions: Sequence[int]) -> tuple[int, ...]:
    """The actions as a tuple of int, each legal by the mask of its layer.

    Raises:
        BadInput: too many, too few, or one that the mask forbids.
    """
    if len(actions) != len(layers):
        raise BadInput(
            "the number of actions does not fit the network",
            value=len(actions),
            bound=f"{len(layers)}, one per weight layer",
            remedy="Give one index into the pool for every layer.",
        )
    checked = tuple(int(action) for action in actions)
    for layer, mask, action in zip(layers, moves.masks(layers), checked, strict=True):
        legal = np.flatnonzero(mask).tolist()
        if action not in legal:
            raise BadInput(
                f"the action for layer {layer.node!r} is not legal",
                value=action,
                bound=f"one of {legal} (pool {list(moves.pool)})",
                remedy="Follow the action mask.",
            )
    return checked


def compress(spec: NetSpec, moves: Moves, actions: Sequence[int]) -> Student:
    """Apply one action per weight layer.

    Raises:
        BadInput: the actions are not legal.
    """
    structure = anatomy(spec)
    checked = check_actions(structure.layers, moves, actions)
    planned = plan(spec, moves, np.array([checked]))
    return _Reading(spec, structure.channels, planned, 0).student(checked)


class _Reading:
    """Reads one candidate's network from the plan of a batch."""

    def __init__(self, spec: NetSpec, channels: Channels, planned: Plan, candidate: int) -> None:
        self.teacher, self.channels, self.plan, self.candidate = spec, channels, planned, candidate
        self.widths = planned.widths[:, candidate]
        self.names: dict[int, str] = {-1: INPUT}
        self.nodes: list[Node] = []
        self.carried: dict[int, Carried] = {}
        self.reads: dict[str, Carried] = {}

    def student(self, actions: tuple[int, ...]) -> Student:
        for number, step in enumerate(self.plan.steps):
            if at(step.live, self.candidate):
                self._read(number, step)
        spec = NetSpec(self.teacher.input_shape, tuple(self.nodes))
        last = self.names[at(self.plan.output.source, self.candidate)]
        assert spec.output.name == last, "the last operator writes the logits"
        return Student(spec, actions, self.reads, self.widths)

    def _read(self, number: int, step: Step) -> None:
        inputs = [flow for flow, mask in step.inputs if at(mask, self.candidate)]
        op, attrs = step.op, {key: at(value, self.candidate) for key, value in step.attrs.items()}
        if step.between is not None:
            read, written = step.between
            if len(self._kept(read)) < len(read.classes) or (
                len(self._kept(written)) < len(written.classes)
            ):
                op, attrs = self._restricted(step, read, written)
        if step.mixture is not None:
            self._mix(step)
        node = Node(
            step.name,
            op,
            tuple(self.names[at(flow.source, self.candidate)] for flow in inputs),
            attrs,
            tuple(at(step.shape, self.candidate)),
        )
        self.nodes.append(node)
        self.names[number] = step.name
        if OPS[op].tensors(attrs):
            self.reads[step.name] = self._carried(at(inputs[0].origin, self.candidate))

    def _restricted(
        self, step: Step, read: Layout, written: Layout
    ) -> tuple[str, dict[str, object]]:
        op, attrs = OPS[step.op].restrict(
            step.attrs,
            self.channels.kept(read, self.widths),
            self.channels.kept(written, self.widths),
        )
        return op, dict(attrs)

    def _kept(self, layout: Layout) -> Ids:
        return self._carried(layout.number).classes

    def _carried(self, origin: int) -> Carried:
        """What a flow of this origin holds: the teacher's own channels, or a mixture."""
        if origin not in self.carried:
            layout = self.channels.layouts[origin]
            kept = self.channels.kept(layout, self.widths)
            self.carried[origin] = Carried(layout.classes[kept], layout.classes)
        return self.carried[origin]

    def _mix(self, step: Step) -> None:
        mixture = step.mixture
        assert mixture is not None
        parts = [
            self._carried(at(origin, self.candidate))
            for origin, mask in mixture.parts
            if at(mask, self.candidate)
        ]
        classes = np.concatenate([part.classes for part in parts])
        whole = np.concatenate([part.whole for part in parts])
        self.carried[mixture.number] = Carried(
            spread(classes, mixture.pixels, mixture.last),
            spread(whole, mixture.pixels, mixture.last),
        )
