"""Model-based search: what distillation taught is fitted, and the fit is searched at leisure.

Before every batch a surrogate of accuracy is fitted to the ledger. The GRU agent is trained by
REINFORCE on imagined episodes against it, and proposes candidates; so do mutation and crossing of
the best so far, and chance. Of all these the ones of highest expected improvement of log R are
distilled, one after the other, each chosen as if the one before had turned out as predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.samplers.base import Outcome
from search.samplers.features import Batch, Features, Seen
from search.samplers.imagination import Imagination, Imagining
from search.samplers.novel import Known
from search.samplers.surrogate import MOST, Surrogate, accuracy_of, halvings
from search.samplers.variation import Variation
from search.space import Actions, Space
from teachers.checkpoint import Checkpoint

Values = NDArray[np.float64]

#: nodes and weights of a mean over a normal distribution
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
#: candidates that are climbed from in every round
CLIMBERS = 3
#: of the pool's best, how many may be known before something is drawn instead
MOST_KNOWN = 200


@dataclass(frozen=True)
class Settings:
    """Of the search on the surrogate.

    Attributes:
        agent: whether the policy proposes.
        mutation: whether the best so far are varied.
        start: candidates spread over the space before anything is fitted.
        pool: candidates from each source to choose from.
        elites: candidates that are varied, and that the policy hears the true rewards of.
        climbs: rounds in which the best of the pool are improved one layer at a time.
        hope: standard deviations above the mean that the policy's imagined accuracies lie.
        smooth: of the expected improvement; in units of log R.
        imagining: of the policy.
    """

    agent: bool = True
    mutation: bool = True
    start: int = 8
    pool: int = 256
    elites: int = 12
    climbs: int = 3
    hope: float = 1.0
    smooth: float = 0.01
    imagining: Imagining = field(default_factory=Imagining)


class ModelBased:
    """A sampler; see the module."""

    def __init__(self, space: Space, seed: int, settings: Settings | None = None) -> None:
        self.space = space
        self.settings = settings or Settings()
        self.rng = np.random.default_rng(seed)
        self.features, self.variation = Features(space), Variation(space)
        self.surrogate = Surrogate()
        self.imagination = (
            Imagination(space, seed, self.settings.imagining) if self.settings.agent else None
        )
        self.known = Known(space)
        self.outcomes: list[Outcome] = []
        self.evidence: list[Outcome] = []
        self.pending: list[Actions] = []
        self._first: list[Actions] | None = None
        # nothing was told since the last fit
        self._fresh = False

    def propose(self, count: int) -> list[Actions]:
        """Those of highest expected improvement; at first, a few that lie far apart."""
        found: list[Actions] = []
        while len(found) < count and self._early(len(found)):
            found.append(self._spread())
        if len(found) < count:
            found += self._improving(count - len(found), found)
        self.pending += found
        for actions in found:
            self.known.add(actions)
        return found

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Keep what was found; it is fitted before the next proposal."""
        for outcome in outcomes:
            self.pending.remove(outcome.actions)
            self.outcomes.append(outcome)
        self._fresh = False

    def warm(self, evidence: Sequence[Outcome]) -> int:
        """Fitted along, from the first proposal on.

        What an earlier job found best may be proposed again: only what this job trains can ship.
        """
        self.evidence += evidence
        return len(evidence)

    def save(self) -> Checkpoint:
        """What was told, what is out, and the state of policy, surrogate and generators."""
        arrays = {
            "known": self.known.to_array(),
            "surrogate": self.surrogate.parameters,
            **_table("outcomes", self.outcomes, len(self.space.masks)),
            **_table("evidence", self.evidence, len(self.space.masks)),
        }
        if self.imagination is not None:
            arrays |= self.imagination.arrays()
        meta = {
            "rng": self.rng.bit_generator.state,
            "pending": self.pending,
            "first": self._first,
            "fresh": self._fresh,
        }
        return Checkpoint(arrays, meta)

    def restore(self, checkpoint: Checkpoint) -> None:
        arrays, meta = checkpoint.arrays, checkpoint.meta
        self.known.from_array(arrays["known"])
        self.surrogate.parameters = arrays["surrogate"]
        self.outcomes = _rows("outcomes", arrays)
        self.evidence = _rows("evidence", arrays)
        self.rng.bit_generator.state = meta["rng"]
        self.pending = [tuple(actions) for actions in meta["pending"]]
        first = meta["first"]
        self._first = None if first is None else [tuple(actions) for actions in first]
        if self.imagination is not None:
            self.imagination.take(arrays)
        self._fresh = bool(meta["fresh"])
        if self._fresh:
            self._fit(tune=False)

    def diagnose(self) -> dict[str, float]:
        """What a look inside tells: entropy of the policy, and the surrogate's noise."""
        found = {} if not self._fresh else {"noise": self.surrogate.noise}
        if self.imagination is not None:
            found["entropy"] = self.imagination.entropy()
        return found

    def _early(self, more: int) -> bool:
        known = len(self.evidence) + len(self.outcomes) + len(self.pending) + more
        return known < self.settings.start or not (self.outcomes or self.evidence)

    # --- before anything is known

    def _spread(self) -> Actions:
        """The next of a few candidates that lie far from each other, where rewards can be high."""
        if self._first is None:
            self._first = self._apart(self.settings.start)
        return self._first.pop(0) if self._first else self._at_random()

    def _apart(self, count: int) -> list[Actions]:
        drawn = self._allowed(self.variation.drawn(40 * count, self.rng))
        if not len(drawn):
            return []
        seen = self.features(drawn)
        promise = self._log_rewards(np.ones(len(drawn)), seen)
        good = np.argsort(-promise)[: max(count, len(drawn) // 2)]
        points = np.concatenate([seen.layers, seen.whole / 4], 1)[good]
        chosen = [0]
        while len(chosen) < min(count, len(good)):
            gaps = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(1)
            chosen.append(int(gaps.argmax()))
        return [as_tuple(drawn[good[place]]) for place in chosen]

    def _at_random(self) -> Actions:
        return self.space.within_limit(lambda: as_tuple(self.variation.drawn(1, self.rng)[0]))

    # --- the search on the surrogate

    def _improving(self, count: int, others: Sequence[Actions]) -> list[Actions]:
        if self._fresh:
            self.surrogate.forget()
        else:
            self._fit()
            self._dream()
            self._fresh = True
        self._believe([*self.pending, *others])
        pool = self._allowed(self._pool())
        found: list[Actions] = []
        for _ in range(count):
            chosen = self._best(pool, found) or self._at_random()
            found.append(chosen)
            self._believe([chosen])
        return found

    def _pool(self) -> Batch:
        size = self.settings.pool
        sources = [self.variation.drawn(size, self.rng)]
        if self.settings.mutation:
            sources.append(self.variation.varied(self._elites(), 2 * size, self.rng))
        if self.imagination is not None:
            sources.append(self.imagination.sample(size))
        return np.unique(np.concatenate(sources), axis=0)

    def _dream(self) -> None:
        if self.imagination is None:
            return

        def hopeful(actions: Batch) -> Values:
            mean, spread = self.surrogate.predict(self.features(actions))
            return accuracy_of(mean + self.settings.hope * spread)

        best = np.argsort(-self._smoothed)[: self.settings.elites]
        true = self._log_rewards(self._accuracies[best], self._seen.part(best))
        self.imagination.learn(hopeful, self._excess, self._actions[best], true)

    def _best(self, pool: Batch, others: Sequence[Actions]) -> Actions | None:
        """The new candidate of highest expected improvement, climbed to from the pool."""
        if not len(pool):
            return None
        scores = self._improvement(self.features(pool))
        for _ in range(self.settings.climbs if self.settings.mutation else 0):
            top = pool[np.argsort(-scores)[:CLIMBERS]]
            around = np.concatenate([self.variation.neighbours(one) for one in top])
            around = self._allowed(np.unique(around, axis=0))
            if not len(around):
                break
            before = scores.max()
            pool = np.concatenate([pool, around])
            scores = np.concatenate([scores, self._improvement(self.features(around))])
            if scores.max() <= before:
                break
        for place in np.argsort(-scores)[:MOST_KNOWN]:
            actions = as_tuple(pool[place])
            if actions not in self.known and actions not in others:
                return actions
        return None

    def _improvement(self, seen: Seen) -> Values:
        """log E[max(0, log R − the best so far)], smoothed so that it is never log 0.

        Over the normal distribution of z, by quadrature: the reward bends at its thresholds.
        """
        mean, spread = self.surrogate.predict(seen)
        tau = self.settings.smooth
        total = np.zeros(len(seen))
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            gain = self._log_rewards(accuracy_of(mean + node * spread), seen) - self._incumbent
            total += weight * tau * np.logaddexp(0, gain / tau)
        return np.log(np.maximum(total, 1e-300))

    # --- what is known

    def _fit(self, tune: bool = True) -> None:
        """The surrogate, to all that is known; or, with its present parameters, to hold it."""
        told = _kept([*self.evidence, *self.outcomes])
        self._actions = np.array([outcome.actions for outcome in told])
        self._accuracies = np.clip([outcome.accuracy for outcome in told], 0.0, 1.0)
        self._seen = self.features(self._actions)
        self.surrogate.fit(self._seen, halvings(self._accuracies), tune)
        mean, _ = self.surrogate.predict(self._seen)
        # what is predicted of a candidate that was distilled: less luck in it than in its accuracy
        self._smoothed = self._log_rewards(accuracy_of(mean), self._seen)
        own = {outcome.actions for outcome in self.outcomes}
        mine = np.array([as_tuple(row) in own for row in self._actions])
        self._incumbent = float(self._smoothed[mine].max() if mine.any() else -np.inf)
        if not mine.any():
            self._incumbent = float(self._smoothed.max()) - 1.0

    def _believe(self, pending: Sequence[Actions]) -> None:
        """Take candidates that are under way for what they are predicted to be."""
        if pending:
            self.surrogate.believe(self.features(np.array(pending)))

    def _elites(self) -> Batch:
        found: Batch = self._actions[np.argsort(-self._smoothed)[: self.settings.elites]]
        return found

    def _log_rewards(self, accuracies: Values, seen: Seen) -> Values:
        ratio = 1 - seen.costs.bytes / self.space.teacher_cost.bytes
        return self.space.reward.log(accuracies, ratio)

    def _excess(self, actions: Batch) -> Values:
        """What the policy is charged for breaking the limit."""
        if self.space.max_kb is None:
            return np.zeros(len(actions))
        over = self.features(actions).costs.kb / self.space.max_kb
        return 5 * np.log(np.maximum(over, 1.0)) + (over > 1)

    def _allowed(self, actions: Batch) -> Batch:
        if self.space.max_kb is None or not len(actions):
            return actions
        return actions[self.features(actions).costs.kb <= self.space.max_kb]


def _kept(outcomes: list[Outcome]) -> list[Outcome]:
    """At most :data:`MOST`: half of them the best, the others the last."""
    if len(outcomes) <= MOST:
        return outcomes
    ranked = sorted(range(len(outcomes)), key=lambda place: -outcomes[place].reward)
    best = set(ranked[: MOST // 2])
    last = [place for place in range(len(outcomes)) if place not in best][len(best) - MOST :]
    return [outcomes[place] for place in sorted(best | set(last))]


def as_tuple(actions: NDArray[np.int64]) -> Actions:
    """A row as the search knows it."""
    return tuple(int(action) for action in actions)


def _table(name: str, outcomes: Sequence[Outcome], layers: int) -> dict[str, NDArray[Any]]:
    """Outcomes as arrays of a checkpoint."""
    actions = np.array([outcome.actions for outcome in outcomes], np.int16).reshape(-1, layers)
    rows = [[o.accuracy, o.reward, o.failed, o.pruned] for o in outcomes]
    return {f"{name}.actions": actions, f"{name}.figures": np.array(rows, float).reshape(-1, 4)}


def _rows(name: str, arrays: Mapping[str, NDArray[Any]]) -> list[Outcome]:
    """The inverse of :func:`_table`."""
    return [
        Outcome(as_tuple(actions), float(accuracy), float(reward), bool(failed), bool(pruned))
        for actions, (accuracy, reward, failed, pruned) in zip(
            arrays[f"{name}.actions"], arrays[f"{name}.figures"], strict=True
        )
    ]
