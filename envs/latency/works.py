"""What work students do, operator by operator, read from the plan of thousands at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.kit import Work
from envs.compression.flow import Mask, at
from envs.compression.moves import Moves
from envs.compression.plan import plan
from envs.graph.netspec import NetSpec
from envs.graph.ops.base import Size, Sizes
from envs.graph.ops.weighted import CONVOLUTIONS


@dataclass(frozen=True)
class Batch:
    """Operators of many students.

    Attributes:
        size: students.
        works: in execution order; a number is an array where it is not the same for all.
        live: in which students each operator stands.
    """

    size: int
    works: tuple[Work, ...]
    live: tuple[Mask, ...]

    def of(self, student: int) -> tuple[Work, ...]:
        """The operators of one of them, in plain numbers."""
        return tuple(
            Work(**{name: at(value, student) for name, value in vars(work).items()})
            for work, live in zip(self.works, self.live, strict=True)
            if at(live, student)
        )


def works_of(spec: NetSpec, moves: Moves, actions: NDArray[np.integer[Any]]) -> Batch:
    """The operators of the students of legal action vectors, shape (batch, layers)."""
    planned, batch = plan(spec, moves, actions), len(actions)
    everyone = np.arange(batch)
    # row k + 1: whether step k ends in a convolution, with what is fused to it so far
    convolved = np.zeros((len(planned.steps) + 1, batch), bool)
    works = []
    for place, step in enumerate(planned.steps, 1):
        after = convolved[step.inputs[0][0].source + 1, everyone]
        fused = after if after.any() and not after.all() else bool(after.all())
        if step.op in CONVOLUTIONS:
            convolved[place] = True
        elif step.op == "batch_norm":
            convolved[place] = after
        works.append(
            work_of(step.op, step.attrs, [flow.shape for flow, _ in step.inputs], step.shape, fused)
        )
    live = tuple(_folded(work, step.live) for work, step in zip(works, planned.steps, strict=True))
    return Batch(batch, tuple(works), live)


def work_of(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[Sizes], output: Sizes, fused: Mask
) -> Work:
    """The work of one operator."""
    read: Size = 0
    for shape in inputs:
        read = read + math.prod(shape)
    return Work(
        op=op,
        inputs=inputs[0][0],
        outputs=output[0],
        area=math.prod(attrs["kernel"]) if "kernel" in attrs else 1,
        stride=math.prod(attrs["stride"]) if "stride" in attrs else 1,
        groups=attrs["groups"] if op in CONVOLUTIONS else 1,
        read=read,
        wrote=math.prod(output),
        fused=fused,  # type: ignore[arg-type]
    )


def _folded(work: Work, live: Mask) -> Mask:
    """A norm after a convolution goes into its weights when the student is exported."""
    if work.op != "batch_norm":
        return live
    left = np.logical_not(work.fused)
    found: Mask = np.logical_and(live, left)
    return bool(found) if np.ndim(found) == 0 else found
