"""What candidates promise untrained: probed for a few of them, predicted for the others from these.

A probe (:mod:`search.scheduling.probe`) costs a hundredth of a distillation, but a pool holds a
thousand candidates. So a Gaussian process of its own predicts promises from those that were probed,
and the best by that prediction are probed next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.samplers.features import Batch, Features, Seen
from search.samplers.surrogate import MOST, Surrogate
from search.space.space import Actions, Probe

Values = NDArray[np.float64]

#: standard deviation of promises as the surrogate of accuracies sees them: a cost's, in halvings
SPREAD = 2.0
#: promises that the parameters are tuned to
MOST_TUNED = 150
#: promises that differ by less are alike
LEAST_SCALE = 0.01


class ZeroCostProxy:
    """Promises of the candidates of one space.

    Attributes:
        known: what was probed, in that order.
        surrogate: fitted to it.
        middle, scale: of the promises that were fitted first; all are seen in these units. Where
            these were alike, of the first ones that were not.
    """

    def __init__(self, probe: Probe, features: Features) -> None:
        self._probe, self._features = probe, features
        self.known: dict[Actions, float] = {}
        self.surrogate = Surrogate()
        self.middle, self.scale = 0.0, 1.0
        self.learnt = 0

    def probe(self, candidates: Sequence[Actions]) -> None:
        """Probe those of them that have not been."""
        asked = [actions for actions in dict.fromkeys(candidates) if actions not in self.known]
        if asked:
            found = self._probe(np.array(asked))
            self.known |= dict(zip(asked, map(float, found), strict=True))

    def learn(self, tune: bool) -> None:
        """Fit what was probed so far, the parameters too if ``tune`` or for the first time."""
        first = not self.learnt
        if not self.known or not (first or tune or len(self.known) > self.learnt):
            return
        if first or self.scale <= LEAST_SCALE:
            values = np.array(list(self.known.values()))
            self.middle = float(values.mean())
            self.scale = max(float(values.std()), LEAST_SCALE)
        self._fit(len(self.known), tune or first)

    def _fit(self, count: int, tune: bool) -> None:
        actions = np.array(list(self.known)[:count][-MOST:])
        values = np.array(list(self.known.values())[:count][-MOST:])
        if tune and len(values) > MOST_TUNED:
            few = np.linspace(0, len(values) - 1, MOST_TUNED).astype(int)
            self.surrogate.fit(self._features(actions[few]), values[few])
            tune = False
        self.surrogate.fit(self._features(actions), values, tune)
        self.learnt = count

    def __call__(self, actions: Batch, seen: Seen) -> Values:
        """Promises, shape (batch,), in units of :data:`SPREAD`; predicted where nobody probed.

        Before anything was learnt all of them are alike.

        Args:
            actions: candidates.
            seen: the same, as their features have it.
        """
        if not self.learnt:
            return np.zeros(len(actions))
        known = [self.known.get(tuple(map(int, row)), np.nan) for row in actions]
        found = np.array(known, np.float64)
        missing = np.isnan(found)
        if missing.any():
            asked = replace(seen, layers=seen.layers[missing], whole=seen.whole[missing])
            found[missing], _ = self.surrogate.predict(asked)
        scaled: Values = (found - self.middle) / self.scale * SPREAD
        return scaled

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it knows, for a checkpoint."""
        layers = len(self._features.space.masks)
        return {
            "promised": np.array(list(self.known), np.int16).reshape(-1, layers),
            "promises": np.array(list(self.known.values()), np.float64),
            "promising": self.surrogate.parameters,
            "units": np.array([self.middle, self.scale, self.learnt]),
        }

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The inverse of :meth:`arrays`."""
        rows = (tuple(map(int, row)) for row in arrays["promised"])
        self.known = dict(zip(rows, map(float, arrays["promises"]), strict=True))
        self.surrogate.parameters = arrays["promising"]
        self.middle, self.scale, learnt = map(float, arrays["units"])
        self.learnt = int(learnt)
        if self.learnt:
            self._fit(self.learnt, tune=False)
