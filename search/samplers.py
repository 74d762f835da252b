"""Who proposes candidates: an open set with one contract.

A sampler is asked for action vectors and later told their rewards: a batch at a time and in the
order of proposal, or in streaming mode one at a time and in the order of arrival. Given the same
seed and the same questions and answers in the same order it makes the same proposals, which is
what resuming rests on: the ledger is replayed through a fresh sampler.
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
        """Rewards of what was proposed before, each of them once.

        In synchronous mode all that was proposed last, in that order; in streaming mode a group
        as it arrived, while other proposals are still out.
        """


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
