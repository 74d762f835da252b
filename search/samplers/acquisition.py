"""What is expected of candidates: the surrogate's accuracy, the exact cost, the reward of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from search.samplers.base import Observation
from search.samplers.features import Batch, Features, Seen
from search.samplers.surrogate import MOST, Surrogate, accuracy_of, halvings
from search.samplers.zero_cost_proxy import SPREAD, ZeroCostProxy
from search.space.space import Actions, Space

Values = NDArray[np.float64]

#: nodes and weights of a mean over a normal distribution
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
#: outcomes that the surrogate's parameters are tuned to; more tell them no better
MOST_TUNED = 200
#: smoothing of the expected improvement, as a share of what the best so far differ by in log R
SMOOTH, LEAST_SMOOTH, MOST_SMOOTH = 0.1, 0.003, 0.01
#: candidates that count as the best so far
BEST = 12
#: a teacher errs on so many inputs at least, and how often its error doubles per halving of size;
#: only where the first candidates lie depends on them (chosen as docs/search_quality.md says)
LEAST_ERROR, GROWTH = 0.005, 0.3
#: and in how many halvings of their error two candidates differ whose promises differ by one
#: standard deviation; for the first candidates too
PROMISED = 0.2


class Acquisition:
    """Judges candidates by the outcomes that it was given.

    Attributes:
        surrogate: fitted to them.
        features: what it sees.
        promises: of candidates; None where nobody can say.
        fitted: :meth:`fit` was called, and nothing else was learnt since.
    """

    def __init__(self, space: Space, probing: bool = True) -> None:
        """Know nothing yet; ``probing`` says whether the space's probe may be asked."""
        self.space = space
        self.features, self.surrogate = Features(space), Surrogate()
        probe = space.probe if probing else None
        self.zero_cost = None if probe is None else ZeroCostProxy(probe, self.features)
        self.fitted = False

    def seen(self, actions: Batch) -> Seen:
        """Candidates as the surrogate sees them."""
        seen = self.features(actions)
        if self.zero_cost is None:
            return seen
        return replace(seen, promise=self.zero_cost(actions, seen)[:, None])

    def fit(self, observations: Sequence[Observation], tune: bool = True) -> None:
        """Take in what was distilled; what failed has an accuracy of 0.

        Args:
            outcomes: at least one.
            tune: the surrogate's parameters; else they stay what they are.
        """
        told = kept(observations)
        self.actions = np.array([observation.actions for observation in told])
        seen = self.seen(self.actions)
        accuracies = np.clip([observation.accuracy for observation in told], 0.0, 1.0)
        if tune and len(told) > MOST_TUNED:
            few = kept(told, MOST_TUNED)
            spread = halvings(np.clip([observation.accuracy for observation in few], 0.0, 1.0))
            actions = np.array([observation.actions for observation in few])
            self.surrogate.fit(self.seen(actions), spread)
            tune = False
        self.surrogate.fit(seen, halvings(accuracies), tune)
        self.rewards = self._log_rewards(accuracies, seen)
        # what is predicted of a candidate that was distilled holds less luck than what it reached
        mean, _ = self.surrogate.predict(seen)
        self._smoothed = self._log_rewards(accuracy_of(mean), seen)
        keeps = self.excess(self.actions) <= 0
        if keeps.any():  # what an earlier job found beyond our limits is nothing to be improved on
            self._smoothed = np.where(keeps, self._smoothed, -np.inf)
        self._incumbent = float(self._smoothed.max())
        top = np.sort(self._smoothed[np.isfinite(self._smoothed)])[-BEST:]
        self._tau = float(np.clip(SMOOTH * (top[-1] - top[0]), LEAST_SMOOTH, MOST_SMOOTH))
        self.fitted = True

    def condition_on_pending(self, pending: Sequence[Actions]) -> None:
        """Take candidates under way for what they are predicted to be, and these alone."""
        self.surrogate.forget()
        if pending:
            self.surrogate.condition_on(self.seen(np.array(pending)))

    def best(self, count: int) -> tuple[Batch, Values]:
        """Candidates of highest predicted reward among the outcomes that keep the limits (among
        all of them, if none does), best first, and the logarithms of their true rewards."""
        order = np.argsort(-self._smoothed, kind="stable")[:count]
        order = order[np.isfinite(self._smoothed[order])]
        return self.actions[order], self.rewards[order]

    def log_ei(self, actions: Batch) -> Values:
        """log E[max(0, log R − the best so far)], smoothed so that it is never log 0.

        Over the normal distribution of z, by quadrature: the reward bends at its thresholds.
        """
        seen = self.seen(actions)
        mean, spread = self.surrogate.predict(seen)
        total = np.zeros(len(seen))
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            gain = self._log_rewards(accuracy_of(mean + node * spread), seen) - self._incumbent
            total += weight * self._tau * np.logaddexp(0, gain / self._tau)
        found: Values = np.log(np.maximum(total, 1e-300))
        return found

    def upper_confidence(self, actions: Batch, deviations: float) -> Values:
        """Accuracies that lie so many standard deviations above the predicted ones."""
        mean, spread = self.surrogate.predict(self.seen(actions))
        return accuracy_of(mean + deviations * spread)

    def prior_mean(self, actions: Batch) -> Values:
        """log R as far as costs and promises tell, before anything is distilled: with every halving
        of the size the teacher's error grows by the same factor."""
        seen = self.features(actions)
        halved = np.log2(self.space.teacher_cost.bytes / seen.costs.bytes)
        expectation = self.space.expectation
        teacher = 1.0 if expectation is None else expectation.teacher
        errors = max(1 - teacher, LEAST_ERROR) * 2.0 ** (GROWTH * halved)
        if self.zero_cost is not None and self.zero_cost.learnt:
            errors = errors * 2.0 ** (-PROMISED / SPREAD * self.zero_cost(actions, seen))
        return self._log_rewards(1 - np.minimum(errors, 1.0), seen)

    def excess(self, actions: Batch) -> Values:
        """How far candidates break the limits: the sum, over those that are broken, of the log of
        what they measure over what they may."""
        limits = self.space.limits
        if not limits.on_cost or not len(actions):
            return np.zeros(len(actions))
        over = limits.ratios(self.space.figures(actions))
        found: Values = np.log(np.maximum(over, 1.0)).sum(axis=0)
        return found

    def _log_rewards(self, accuracies: Values, seen: Seen) -> Values:
        ratio = 1 - seen.costs.bytes / self.space.teacher_cost.bytes
        return self.space.reward.log(accuracies, ratio, seen.ms)


def kept(observations: Sequence[Observation], most: int = MOST) -> Sequence[Observation]:
    """At most ``most``: half of them the best, the others the last."""
    if len(observations) <= most:
        return observations
    ranked = sorted(range(len(observations)), key=lambda place: -observations[place].reward)
    best = set(ranked[: most // 2])
    last = [place for place in range(len(observations)) if place not in best][len(best) - most :]
    return [observations[place] for place in sorted(best | set(last))]
