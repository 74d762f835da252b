"""Every legal action alike: the rival that a learner has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.samplers.base import Outcome
from search.space import Actions, Space
from teachers.checkpoint import Checkpoint


class RandomSampler:
    """Draws each layer's coefficient evenly from the legal ones."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.legal = [np.flatnonzero(mask) for mask in space.masks]

    def propose(self, count: int) -> list[Actions]:
        return [self.space.within_limit(self._draw) for _ in range(count)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing is learnt."""

    def warm(self, evidence: Sequence[Outcome]) -> int:
        """Nothing is learnt."""
        return 0

    def save(self) -> Checkpoint:
        return Checkpoint({}, {"generator": self.rng.bit_generator.state})

    def restore(self, checkpoint: Checkpoint) -> None:
        self.rng.bit_generator.state = checkpoint.meta["generator"]

    def _draw(self) -> Actions:
        return tuple(int(self.rng.choice(choices)) for choices in self.legal)
