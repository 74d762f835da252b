"""Regularised evolution (Real et al. 2019, arXiv 1802.01548): parents die of age, not of rank."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from edge.errors import BadInput
from search.samplers.base import Observation
from search.samplers.dedup import DedupSampler, changed, uniform
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint


class Evolution(DedupSampler):
    """A child is the winner of a tournament with one layer changed.

    The population is the ``population`` outcomes that were told last. As long as it is not full,
    proposals are drawn evenly. Then ``tournament`` of its members are drawn, and the one of highest
    reward becomes a parent: one of its layers gets another legal coefficient. Who joins the
    population pushes its oldest member out, however good that is; so what was lucky once has to be
    good again in its children to stay.

    Real et al. work with 100 and 25 over 20,000 evaluations; the sizes here are for 25 to 100.
    Evidence of earlier jobs seeds the population with its best.
    """

    def __init__(
        self, space: Space, seed: int, *, population: int = 12, tournament: int = 4, draws: int = 20
    ) -> None:
        """Set up.

        Args:
            space: of candidates.
            seed: of all draws.
            population: members at a time.
            tournament: members that compete to be a parent.
            draws: children beyond the limits, or known already, before one is mended.

        Raises:
            BadInput: a tournament larger than the population, or without anyone.
        """
        super().__init__(space, seed, draws)
        if not 1 <= tournament <= population:
            raise BadInput(
                "the tournament does not suit the population",
                value=f"{tournament} of {population}",
                bound="from 1 member to the whole population",
                remedy="Set `tournament` and `population`.",
            )
        self.tournament = tournament
        self.population: deque[tuple[Actions, float]] = deque(maxlen=population)

    def tell(self, observations: Sequence[Observation]) -> None:
        """They join the population; what failed has the reward 0 and never wins."""
        self.population.extend(
            (observation.actions, observation.reward) for observation in observations
        )

    def warm(self, evidence: Sequence[Observation]) -> int:
        """The best seed the population, the very best as its youngest."""
        self._know(evidence)
        self.tell(sorted(evidence, key=lambda observation: observation.reward))
        return len(evidence)

    def _draw(self, rng: np.random.Generator) -> Actions:
        members = list(self.population)
        if len(members) != self.population.maxlen:
            return uniform(self.space, self.legal, rng)
        drawn = rng.choice(len(members), self.tournament, replace=False)
        parent, _ = max((members[place] for place in drawn), key=lambda member: member[1])
        return changed(parent, self.legal, rng)

    def save(self) -> Checkpoint:
        members = list(self.population)
        return Checkpoint(
            {
                "population": np.array([actions for actions, _ in members], np.int64),
                "rewards": np.array([reward for _, reward in members], np.float64),
                "known": self.known.to_array(),
            },
            {"drawn": self.drawn, "queue": self.queue, "stale": self.stale},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        arrays, meta = checkpoint.arrays, checkpoint.meta
        members = [tuple(map(int, row)) for row in arrays["population"]]
        self.population.clear()
        self.population.extend(zip(members, arrays["rewards"].tolist(), strict=True))
        self.known.from_array(arrays["known"])
        self.drawn, self.stale = meta["drawn"], meta["stale"]
        self.queue = [tuple(actions) for actions in meta["queue"]]
