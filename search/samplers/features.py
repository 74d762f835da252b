"""What a surrogate sees of a candidate: its coefficients, and what it costs.

A coefficient counts by its place among the legal ones of its layer, since pools are closer to a
geometric scale than to an even one. A removed layer is no very narrow one (its input is passed
on), so removal has a mark of its own. The costs are known exactly and say, in a few numbers, much
of what accuracy depends on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.compression.cost import Costs
from envs.compression.cost import costs as costs_of
from search.space.space import Space

Batch = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Candidates as a surrogate sees them.

    Attributes:
        layers: (batch, F) place of every free layer's coefficient in [0, 1], then a mark per
            layer that can be removed.
        whole: (batch, 4) log₂ of bytes, multiply-accumulates and peak of activations over the
            teacher's, and the share of layers that are left.
        costs: of the candidates.
        ms: predicted for one input, (batch,); None where nobody predicts them.
        promise: (batch, 1) of untrained students, by :mod:`search.samplers.zero_cost_proxy`; None
            where nobody can say.
    """

    layers: Values
    whole: Values
    costs: Costs
    ms: Values | None
    promise: Values | None = None

    def __len__(self) -> int:
        return len(self.layers)


class Features:
    """Turns action vectors into what a surrogate sees."""

    def __init__(self, space: Space) -> None:
        self.space = space
        legal = [np.flatnonzero(mask) for mask in space.masks]
        #: layers that have a choice
        self.free = np.array([step for step, choices in enumerate(legal) if len(choices) > 1], int)
        self.removable = np.array(
            [step for step in self.free if space.moves.removes(int(legal[step][0]))], int
        )
        self._place = np.zeros(space.masks.shape)
        for step in self.free:
            self._place[step, legal[step]] = np.linspace(0, 1, len(legal[step]))

    def __call__(self, actions: Batch) -> Seen:
        """Candidates, shape (batch, layers), as a surrogate sees them."""
        spent = costs_of(self.space.teacher, self.space.moves, actions)
        steps = np.arange(actions.shape[1])
        places = self._place[steps, actions]
        gone = self._removed(actions)
        layers = np.concatenate([places[:, self.free], gone[:, self.removable]], 1)
        teacher = self.space.teacher_cost
        ratios = [
            spent.bytes / teacher.bytes,
            spent.macs / max(1, teacher.macs),
            spent.peak / teacher.peak,
        ]
        left = 1 - gone.mean(1)
        whole = np.stack([*(np.log2(np.maximum(ratio, 2.0**-20)) for ratio in ratios), left], 1)
        ms = None if self.space.latency is None else self.space.latency(actions)
        return Seen(layers, whole, spent, ms)

    def _removed(self, actions: Batch) -> Values:
        removes = np.array([self.space.moves.removes(a) for a in range(len(self.space.moves.pool))])
        return removes[actions].astype(float)
