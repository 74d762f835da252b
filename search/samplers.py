"""Who proposes candidates: an open set with one contract.

A sampler is asked for a batch of action vectors and later told their rewards, in the order of
proposal. Given the same seed and the same rewards it makes the same proposals, which is what
resuming rests on: the ledger is replayed through a fresh sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from envs.compression import CompressionEnv
from search.space import Actions, Space


class Sampler(Protocol):
    """What the search loop asks of a sampler."""

    def propose(self, count: int) -> list[Actions]:
        """``count`` legal action vectors within the limits."""

    def tell(self, proposals: Sequence[Actions], rewards: Sequence[float]) -> None:
        """The rewards of what was proposed last, in the order of proposal."""


class RandomSampler:
    """Every legal action alike: the rival that a learner has to beat."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)

    def propose(self, count: int) -> list[Actions]:
        return [self.space.within_limit(self._draw) for _ in range(count)]

    def tell(self, proposals: Sequence[Actions], rewards: Sequence[float]) -> None:
        """Nothing is learnt."""

    def _draw(self) -> Actions:
        env: CompressionEnv = self.space.env
        _, info = env.reset()
        taken: list[int] = []
        for _ in env.layers:
            taken.append(int(self.rng.choice(np.flatnonzero(info["action_mask"]))))
            *_, info = env.step(taken[-1])
        return tuple(taken)


SamplerFactory = Callable[..., Sampler]


def _reinforce(space: Space, seed: int, **options: float) -> Sampler:
    from search.reinforce import Reinforce

    return Reinforce(
        space,
        seed,
        learning_rate=options["agent_rate"],
        units=int(options["agent_units"]),
        baseline_decay=options["baseline_decay"],
    )


SAMPLERS: dict[str, SamplerFactory] = {
    "reinforce": _reinforce,
    "random": lambda space, seed, **_: RandomSampler(space, seed),
}
