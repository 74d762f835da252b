"""Every legal action alike: the rival that a learner has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.samplers.base import Observation
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint


class RandomSampler:
    """Draws each layer's coefficient evenly from the legal ones."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.legal = [np.flatnonzero(mask) for mask in space.masks]
        self.queue: list[Actions] = []

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        self.queue += candidates

    def propose(self, count: int) -> list[Actions]:
        first, self.queue = self.queue[:count], self.queue[count:]
        own = count - len(first)
        return first + [self.space.within_limit(self._draw) for _ in range(own)]

    def tell(self, observations: Sequence[Observation]) -> None:
        """Nothing is learnt."""

    def warm(self, evidence: Sequence[Observation]) -> int:
        """Nothing is learnt."""
        return 0

    def save(self) -> Checkpoint:
        return Checkpoint({}, {"generator": self.rng.bit_generator.state, "queue": self.queue})

    def restore(self, checkpoint: Checkpoint) -> None:
        self.rng.bit_generator.state = checkpoint.meta["generator"]
        self.queue = [tuple(actions) for actions in checkpoint.meta.get("queue", [])]

    def _draw(self) -> Actions:
        return tuple(int(self.rng.choice(choices)) for choices in self.legal)
