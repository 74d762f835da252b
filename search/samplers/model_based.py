"""Model-based search: what distillation taught is fitted, and the fit is searched at leisure.

After every batch a surrogate of accuracy is fitted to all outcomes. The GRU agent is trained by
REINFORCE on imagined episodes against it, and proposes candidates; so do mutation and crossing of
the best so far, and chance. Of all these the one of highest expected improvement of log R is
distilled; those that are under way count as if they turned out as predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.samplers.acquisition import Acquisition
from search.samplers.base import Observation
from search.samplers.dedup import DedupSampler
from search.samplers.features import Batch
from search.samplers.policy_trainer import PolicyTrainer, PolicyTraining
from search.samplers.variation import Variation
from search.samplers.zero_cost_proxy import ZeroCostProxy
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint

#: draws for each of the first candidates, from which the ones that lie apart are chosen
FIRST_DRAWS = 40
#: as far as a layer goes from the others' width in a network of so few layers or fewer
FIRST_SPREAD, FIRST_LAYERS = 0.35, 5
#: times as many candidates as otherwise are probed before the first proposal; and so few are spread
#: over the space where they are chosen by what they promise
FIRST_LOOK, FIRST_PROBED = 8, 6
#: candidates given to begin with after which none need be spread over the space
LEAST_GIVEN = 2
#: new outcomes after which the surrogate's parameters and the policy learn again; until then what
#: is new is only taken in
FRESH = 4
#: share of the limits that a student uses at least where nothing but accuracy is sought
LEAST_SPENT = 0.5
#: where nothing but accuracy is sought, the plain students are hard to beat, and a few outcomes say
#: little of what lies far from them: at first a layer goes no further from one of the best so many
#: than this share of its coefficients, and twice as far after every so many outcomes
CENTRES, REGION, DOUBLED = 4, 0.15, 24
#: candidates that are climbed from in every round
CLIMBERS = 3
#: of the best of the pool, how many may be known before one of them is mended
MOST_KNOWN = 200


@dataclass(frozen=True)
class Settings:
    """Of the search on the surrogate.

    Attributes:
        agent: whether the policy proposes.
        mutation: whether the best so far are varied, and the best of the pool improved.
        start: candidates spread over the space before anything is fitted.
        pool: candidates from each source to choose from.
        elites: candidates that are varied, and whose true rewards the policy hears.
        climbs: rounds in which the best of the pool are improved, one layer at a time.
        probes: candidates that are probed before one of them is proposed, where a space has a
            probe; 0 does without.
        hope: standard deviations above the mean at which the policy's accuracies are imagined.
        imagining: of the policy.
    """

    agent: bool = True
    mutation: bool = True
    start: int = 8
    pool: int = 256
    elites: int = 12
    climbs: int = 3
    probes: int = 8
    hope: float = 1.0
    policy_training: PolicyTraining = field(default_factory=PolicyTraining)


class ModelBased(DedupSampler):
    """A sampler; see the module."""

    def __init__(self, space: Space, seed: int, settings: Settings | None = None) -> None:
        """Set up; nothing is known yet."""
        super().__init__(space, seed, draws=2)
        self.settings = settings or Settings()
        self.acquisition = Acquisition(space, probing=self.settings.probes > 0)
        self.variation = Variation(space)
        self.policy_trainer = (
            PolicyTrainer(space, seed, self.settings.policy_training)
            if self.settings.agent
            else None
        )
        start = self.settings.start
        self.start = start if self.acquisition.zero_cost is None else min(start, FIRST_PROBED)
        self.observations: list[Observation] = []
        self.pending: list[Actions] = []
        #: outcomes when parameters and policy learnt last
        self.learnt = 0

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        """They show enough to begin the model with: what follows varies them."""
        super().begin_with(candidates)
        if len(candidates) >= LEAST_GIVEN:
            self.start = min(self.start, len(candidates))

    def tell(self, observations: Sequence[Observation]) -> None:
        """Keep what was found; it is fitted before the next proposal."""
        for observation in observations:
            self.pending.remove(observation.actions)
        self.observations += observations
        self.acquisition.fitted = False

    def warm(self, evidence: Sequence[Observation]) -> int:
        """All of it is fitted along, from the first proposal on."""
        self._know(evidence)
        self.observations += evidence
        return len(evidence)

    def _proposed(self, actions: Actions) -> None:
        self.pending.append(actions)
        if self.acquisition.zero_cost is not None:
            self.acquisition.zero_cost.probe([actions])

    def _draw(self, rng: Generator) -> Actions:
        known = len(self.observations) + len(self.pending)
        if known < self.start or not self.observations:
            return self._apart(rng)
        if not self.acquisition.fitted:
            learns = not self.learnt or len(self.observations) - self.learnt >= FRESH
            zero_cost = self.acquisition.zero_cost
            if zero_cost is not None:
                if not zero_cost.learnt:  # earlier jobs' outcomes were enough to begin with
                    drawn = self.variation.drawn(self.settings.pool, rng)
                    self._look(zero_cost, self._allowed(drawn))
                zero_cost.learn(tune=learns)
            self.acquisition.fit(self.observations, tune=learns)
            if learns:
                self._train_policy()
                self.learnt = len(self.observations)
        self.acquisition.condition_on_pending(self.pending)
        return self._best(self._pool(rng), rng)

    def _apart(self, rng: Generator) -> Actions:
        """One of the first: of a size that may pay, and unlike those that are known."""
        count = FIRST_DRAWS * self.settings.start
        # a student is as weak as its weakest layer: where there are many, none may fall far behind
        widest = FIRST_SPREAD * min(1.0, (FIRST_LAYERS / max(1, len(self.variation.free))) ** 0.5)
        drawn = self._allowed(self._filled(self.variation.drawn(count, rng, widest)))
        if not len(drawn):
            return as_actions(self.variation.drawn(1, rng, widest)[0])
        prior_mean = self.acquisition.prior_mean(drawn)
        good = drawn[np.argsort(-prior_mean, kind="stable")[: (len(drawn) + 1) // 2]]
        good = self._best_by_proxy(good)
        there = [observation.actions for observation in self.observations] + self.pending
        if not there:
            return as_actions(good[0])
        gaps = np.linalg.norm(self._points(good)[:, None] - self._points(np.array(there)), axis=2)
        return as_actions(good[gaps.min(1).argmax()])

    def _best_by_proxy(self, good: Batch) -> Batch:
        """Of the first, those that promise most, where there is a probe."""
        zero_cost = self.acquisition.zero_cost
        if zero_cost is None:
            return good
        if not zero_cost.learnt:
            self._look(zero_cost, good)
        prior_mean = self.acquisition.prior_mean(good)
        return good[np.argsort(-prior_mean, kind="stable")[: (len(good) + 1) // 2]]

    def _look(self, zero_cost: ZeroCostProxy, some: Batch) -> None:
        """The first look: probe candidates all over these."""
        if len(some):
            few = some[np.linspace(0, len(some) - 1, FIRST_LOOK * self.settings.probes).astype(int)]
            zero_cost.probe([as_actions(row) for row in few])
            zero_cost.learn(tune=True)

    def _points(self, actions: Batch) -> NDArray[np.float64]:
        seen = self.acquisition.features(actions)
        return np.concatenate([seen.layers, seen.whole / 4], 1)

    def _train_policy(self) -> None:
        """The policy learns against the surrogate as it is now."""
        if self.policy_trainer is not None:
            acquisition, hope = self.acquisition, self.settings.hope
            real, rewards = acquisition.best(self.settings.elites)
            self.policy_trainer.learn(
                lambda actions: acquisition.upper_confidence(actions, hope),
                acquisition.excess,
                real,
                rewards,
            )

    def _pool(self, rng: Generator) -> Batch:
        size = self.settings.pool
        sources = [self._filled(self.variation.drawn(size, rng))]
        if self.settings.mutation:
            elites, _ = self.acquisition.best(self.settings.elites)
            sources.append(self.variation.varied(elites, 2 * size, rng))
            if self.space.accuracy_alone:
                sources.append(self.variation.tilted(elites[:CENTRES], size, rng))
        if self.policy_trainer is not None:
            sources.append(self._filled(self.policy_trainer.sample(size)))
        pool = self._near(np.concatenate(sources))
        return self._worthy(self._allowed(np.unique(pool, axis=0)))

    def _near(self, candidates: Batch) -> Batch:
        """Those that lie in the region that is searched by now, as wide as may be, where nothing
        but accuracy is sought; as they are elsewhere."""
        radius = REGION * 2.0 ** (len(self.observations) // DOUBLED)
        if not self.space.accuracy_alone or radius >= 1:
            return candidates
        centres, _ = self.acquisition.best(CENTRES)
        return self.variation.filled(self.variation.near(candidates, centres, radius))

    def _filled(self, candidates: Batch) -> Batch:
        """As wide as the limits allow, where nothing but accuracy is sought: what is left to search
        for is how to spread the width."""
        if not self.space.accuracy_alone:
            return candidates
        return self._worthy(self.variation.filled(candidates))

    def _worthy(self, candidates: Batch) -> Batch:
        """Those that are large enough to be worth a look, where nothing but accuracy is sought:
        what cannot be filled any more has lost too many layers."""
        if not self.space.accuracy_alone or not len(candidates):
            return candidates
        return candidates[self.space.spent(candidates) >= LEAST_SPENT]

    def _best(self, pool: Batch, rng: Generator) -> Actions:
        """The new candidate of highest expected improvement, climbed to from the pool."""
        if not len(pool):
            return as_actions(self.variation.drawn(1, rng)[0])
        scores = self.acquisition.log_ei(pool)
        for _ in range(self.settings.climbs if self.settings.mutation else 0):
            top = pool[np.argsort(-scores, kind="stable")[:CLIMBERS]]
            around = self._near(np.concatenate([self.variation.neighbours(one) for one in top]))
            around = self._worthy(self._allowed(np.unique(around, axis=0)))
            if not len(around):
                break
            before = scores.max()
            pool = np.concatenate([pool, around])
            scores = np.concatenate([scores, self.acquisition.log_ei(around)])
            if scores.max() <= before:
                break
        scores = self._probed(pool, scores)
        order = np.argsort(-scores, kind="stable")
        ranked = [as_actions(pool[place]) for place in order[:MOST_KNOWN]]
        return next((actions for actions in ranked if actions not in self.known), ranked[0])

    def _probed(self, pool: Batch, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores by what the best were found to promise in place of what they should; those that
        nobody probed come last."""
        zero_cost = self.acquisition.zero_cost
        if zero_cost is None:
            return scores
        order = np.argsort(-scores, kind="stable")[:MOST_KNOWN]
        # whether one is known takes as long as to build it, so no more are looked up than needed
        fresh = (row for row in order if as_actions(pool[row]) not in self.known)
        asked = np.array(list(islice(fresh, self.settings.probes)), int)
        if not len(asked):
            return scores
        zero_cost.probe([as_actions(row) for row in pool[asked]])
        found = np.full(len(scores), -np.inf)
        found[asked] = self.acquisition.log_ei(pool[asked])
        return found

    def _allowed(self, actions: Batch) -> Batch:
        return actions[self.acquisition.excess(actions) <= 0] if len(actions) else actions

    def diagnose(self) -> dict[str, float]:
        """What a look inside tells: the policy's entropy, and the noise that the surrogate sees."""
        found = {"noise": self.acquisition.surrogate.noise} if self.acquisition.fitted else {}
        if self.policy_trainer is not None:
            found["entropy"] = self.policy_trainer.entropy()
        return found

    def predict(self, candidates: Sequence[Actions]) -> NDArray[np.float64]:
        """Accuracies that are expected of candidates, by all that was told; nothing is changed.

        Raises:
            ValueError: nothing has been told yet.
        """
        if not self.observations:
            raise ValueError("nothing was told yet, so nothing can be predicted")
        acquisition = Acquisition(self.space)
        acquisition.zero_cost = self.acquisition.zero_cost
        acquisition.surrogate.parameters = self.acquisition.surrogate.parameters
        acquisition.fit(self.observations)
        return acquisition.upper_confidence(np.array(candidates), 0.0)

    def save(self) -> Checkpoint:
        layers = len(self.legal)
        figures = [[o.accuracy, o.reward, o.failed, o.pruned] for o in self.observations]
        arrays: dict[str, NDArray[Any]] = {
            "actions": np.array([o.actions for o in self.observations], np.int16).reshape(
                -1, layers
            ),
            "figures": np.array(figures, np.float64).reshape(-1, 4),
            "known": self.known.to_array(),
            "surrogate": self.acquisition.surrogate.parameters,
        }
        if self.policy_trainer is not None:
            arrays |= self.policy_trainer.arrays()
        if self.acquisition.zero_cost is not None:
            arrays |= self.acquisition.zero_cost.arrays()
        return Checkpoint(
            arrays,
            {
                "drawn": self.drawn,
                "queue": self.queue,
                "stale": self.stale,
                "pending": self.pending,
                "fitted": self.acquisition.fitted,
                "learnt": self.learnt,
                "start": self.start,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        arrays, meta = checkpoint.arrays, checkpoint.meta
        self.known.from_array(arrays["known"])
        self.observations = _outcomes(arrays)
        self.drawn, self.stale, self.learnt = meta["drawn"], meta["stale"], meta["learnt"]
        self.start = meta.get("start", self.start)
        self.queue = [tuple(actions) for actions in meta["queue"]]
        self.pending = [tuple(actions) for actions in meta["pending"]]
        self.acquisition.surrogate.parameters = arrays["surrogate"]
        if self.policy_trainer is not None:
            self.policy_trainer.take(arrays)
        if self.acquisition.zero_cost is not None:
            self.acquisition.zero_cost.take(arrays)
        self.acquisition.fitted = False
        if meta["fitted"]:
            self.acquisition.fit(self.observations, tune=False)


def as_actions(row: NDArray[np.int64]) -> Actions:
    """A row of a batch as the search knows it."""
    return tuple(int(action) for action in row)


def _outcomes(arrays: Mapping[str, NDArray[Any]]) -> list[Observation]:
    return [
        Observation(as_actions(actions), float(accuracy), float(reward), bool(failed), bool(pruned))
        for actions, (accuracy, reward, failed, pruned) in zip(
            arrays["actions"], arrays["figures"], strict=True
        )
    ]
