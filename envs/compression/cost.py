"""What networks cost, counted from descriptions and actions without building anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compression.flow import Mask, number
from envs.compression.moves import Moves
from envs.compression.plan import Plan, plan
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS
from envs.graph.ops.base import Size, Sizes

#: of one activation
FLOAT = 4


@dataclass(frozen=True)
class Cost:
    """Size and work of a network.

    Attributes:
        parameters: trained numbers.
        bytes: of the fp32 state dict, parameters and buffers, as the papers count sizes.
        macs: multiply-accumulates for one input, of convolutions and linear layers.
        peak: bytes of the fp32 activations that one input needs at once, the image among them,
            where a tensor lives from the operator that writes it to the last one that reads it.
    """

    parameters: int
    bytes: int
    macs: int
    peak: int

    @property
    def kb(self) -> float:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of many candidates, each an array of shape (batch,); fields as in :class:`Cost`."""

    parameters: NDArray[np.int64]
    bytes: NDArray[np.int64]
    macs: NDArray[np.int64]
    peak: NDArray[np.int64]

    @property
    def kb(self) -> NDArray[np.float64]:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, candidate: int) -> Cost:
        return Cost(
            int(self.parameters[candidate]),
            int(self.bytes[candidate]),
            int(self.macs[candidate]),
            int(self.peak[candidate]),
        )


def node_cost(spec: NetSpec, node: Node) -> Cost:
    """Cost of one operator of a network; its peak is what it reads and writes."""
    inputs = [spec.shape_of(name) for name in node.inputs]
    parameters, held, macs = _own(node.op, node.attrs, inputs, node.shape)
    touched = sum(math.prod(spec.shape_of(name)) for name in {*node.inputs})
    return Cost(parameters, held, macs, FLOAT * (touched + math.prod(node.shape)))


def cost(spec: NetSpec) -> Cost:
    """Cost of a whole network."""
    total = np.zeros(3, np.int64)
    for node in spec.nodes:
        inputs = [spec.shape_of(name) for name in node.inputs]
        total += _own(node.op, node.attrs, inputs, node.shape)
    parameters, held, macs = map(int, total)
    return Cost(parameters, held, macs, _peak_of(spec))


def costs(spec: NetSpec, moves: Moves, actions: NDArray[np.integer[Any]]) -> Costs:
    """Costs of many students, from the teacher's description and their actions alone.

    Args:
        spec: the teacher.
        moves: pool and scaled fields.
        actions: legal indices into the pool, shape (batch, layers).
    """
    batch = len(actions)
    if not batch:
        return Costs(*(np.zeros(0, np.int64) for _ in range(4)))
    planned = plan(spec, moves, actions)
    parameters, held, macs = (np.zeros(batch, np.int64) for _ in range(3))
    for step in planned.steps:
        inputs = [flow.shape for flow, _ in step.inputs]
        own = _own(step.op, step.attrs, inputs, step.shape)
        for total, part in zip((parameters, held, macs), own, strict=True):
            if not isinstance(part, int) or part:
                total += number(step.live, part, 0)
    return Costs(parameters, held, macs, _peaks(spec, planned, batch))


def _own(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[Sizes], output: Sizes
) -> tuple[Size, Size, Size]:
    """Parameters, bytes and multiply-accumulates of one operator."""
    entry = OPS[op]
    parameters: Size = 0
    for shape in entry.parameters(attrs).values():
        parameters = parameters + math.prod(shape)
    held = FLOAT * parameters
    for shape, width in entry.buffers(attrs).values():
        held = held + math.prod(shape) * width
    return parameters, held, entry.macs(attrs, inputs, output)


def _peak_of(spec: NetSpec) -> int:
    last = {name: place for place, node in enumerate(spec.nodes) for name in node.inputs}
    held = {INPUT: math.prod(spec.input_shape)}
    peak = held[INPUT]
    for place, node in enumerate(spec.nodes):
        held[node.name] = math.prod(node.shape)
        peak = max(peak, sum(held.values()))
        for name in {*node.inputs}:
            if last[name] == place:
                del held[name]
    return FLOAT * peak


def _peaks(spec: NetSpec, planned: Plan, batch: int) -> NDArray[np.int64]:
    """As :func:`_peak_of`, for a batch: what is written is held until its last reader is through.

    Row k + 1 of the arrays belongs to step k, row 0 to the image.
    """
    steps = len(planned.steps)
    held = np.zeros((steps + 1, batch), np.int64)
    last = np.zeros((steps + 1, batch), np.int64)
    held[0] = math.prod(spec.input_shape)
    everyone = np.arange(batch)
    for place, step in enumerate(planned.steps, 1):
        held[place] = number(step.live, math.prod(step.shape), 0)
        last[place] = place  # held while it is written, even if nobody reads it
        for flow, mask in step.inputs:
            _touch(last, flow.source, mask, step.live, place, everyone)
    last[at_output(planned), everyone] = steps
    # freed after its last reader: one row further down
    freed = np.zeros((steps + 2, batch), np.int64)
    np.add.at(freed, (last + 1, np.broadcast_to(everyone, last.shape)), held)
    alive = np.cumsum(held - freed[: steps + 1], axis=0)
    peaks: NDArray[np.int64] = FLOAT * alive.max(axis=0)
    return peaks


def at_output(planned: Plan) -> Size:
    """Row of the step that writes the logits."""
    return planned.output.source + 1


def _touch(
    last: NDArray[np.int64],
    source: Size,
    mask: Mask,
    live: Mask,
    place: int,
    everyone: NDArray[np.int64],
) -> None:
    """Note that a step reads what another wrote, where both stand."""
    if live is True and mask is True:
        last[source + 1, everyone] = place
        return
    where = everyone
    for condition in (live, mask):
        if condition is not True:
            where = where[np.broadcast_to(condition, everyone.shape)[where]]
    rows = source + 1 if isinstance(source, int) else source[where] + 1
    last[rows, where] = place
