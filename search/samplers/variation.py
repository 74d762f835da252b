"""Candidates to choose from without a policy: drawn over all sizes, and elites that are varied."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.samplers.features import Batch
from search.space.space import Space


class Variation:
    """Draws and varies legal action vectors. ``legal[step]`` are a layer's choices in order."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.legal = [np.flatnonzero(mask) for mask in space.masks]
        self.counts = np.array([len(choices) for choices in self.legal])
        self.free = np.flatnonzero(self.counts > 1)
        removable = np.array([space.moves.removes(int(choices[0])) for choices in self.legal])
        #: the lowest place of a layer that stays
        self._narrowest = np.where(removable & (self.counts > 1), 1, 0)
        self._table = np.zeros((len(self.legal), self.counts.max()), int)
        self._place = np.zeros(space.masks.shape, int)
        for step, choices in enumerate(self.legal):
            self._table[step, : len(choices)] = choices
            self._place[step, choices] = np.arange(len(choices))

    def drawn(self, count: int, rng: Generator, widest: float = 0.35) -> Batch:
        """Each candidate has a level of width, and every layer its own draw around it.

        Layers drawn evenly and alone would all make students of nearly one size.

        Args:
            count: candidates.
            rng: draws.
            widest: most that a layer goes from the level, as a standard deviation; the whole range
                of coefficients is 1.
        """
        level, spread = rng.uniform(0, 1, (count, 1)), rng.uniform(0.02, widest, (count, 1))
        places = (level + spread * rng.normal(size=(count, len(self.counts)))) * self.counts
        return self._actions(np.floor(places).astype(int))

    def varied(self, parents: Batch, count: int, rng: Generator) -> Batch:
        """Children of the parents, the first ones most often: one layer or a few changed, some of
        them after a crossing with another parent."""
        order = np.minimum(rng.geometric(min(0.5, 3 / (len(parents) + 3)), count), len(parents)) - 1
        places = self._places(parents[order])
        mates = self._places(parents[rng.integers(0, len(parents), count)])
        cross = (rng.random((count, 1)) < 0.3) & (rng.random(places.shape) < 0.5)
        places = np.where(cross, mates, places)
        changes = np.minimum(rng.geometric(0.5, count), len(self.free))
        rank = np.argsort(np.argsort(rng.random((count, len(self.free))), 1), 1)
        chosen = np.zeros(places.shape, bool)
        chosen[:, self.free] = rank < changes[:, None]
        step = rng.choice([-2, -1, 1, 2], places.shape, p=[0.1, 0.4, 0.4, 0.1])
        anew = np.floor(rng.random(places.shape) * self.counts).astype(int)
        moved = np.where(rng.random(places.shape) < 0.7, places + step, anew)
        return self._actions(np.where(chosen, moved, places))

    def filled(self, actions: Batch) -> Batch:
        """Candidates of the same shapes that are as wide as the limits allow.

        All layers that stay go up or down by equally many coefficients, and after that one by one,
        the cheapest first, where there is room left; a candidate that breaks the limits even at its
        narrowest stays as it is.
        """
        if not len(actions):
            return actions
        start = self._places(actions)
        stays = start >= self._narrowest
        found, open_ = actions.copy(), np.ones(len(actions), bool)
        most = int(self.counts.max()) - 1
        for shift in range(most, -most - 1, -1):
            rows = np.flatnonzero(open_)
            if not len(rows):
                break
            places = np.clip(start[rows] + shift, self._narrowest, self.counts - 1)
            shifted = self._actions(np.where(stays[rows], places, start[rows]))
            fits = self.space.spent(shifted) <= 1
            found[rows[fits]] = shifted[fits]
            open_[rows[fits]] = False
        for step in self._cheapest:
            places = self._places(found)
            grows = (places[:, step] >= self._narrowest[step]) & ~open_
            rows = np.flatnonzero(grows & (places[:, step] + 1 < self.counts[step]))
            if len(rows):
                wider = places[rows]
                wider[:, step] += 1
                wider = self._actions(wider)
                fits = self.space.spent(wider) <= 1
                found[rows[fits]] = wider[fits]
        return found

    @cached_property
    def _cheapest(self) -> NDArray[np.int64]:
        """Layers with a choice, by the bytes of a coefficient more in the middle of the pool."""
        middle = self.counts // 2
        rows = np.tile(middle, (len(self.free) + 1, 1))
        rows[np.arange(len(self.free)), self.free] += 1
        kb = self.space.figures(self._actions(rows))["max_kb"]
        found: NDArray[np.int64] = self.free[np.argsort(kb[:-1] - kb[-1], kind="stable")]
        return found

    def near(self, candidates: Batch, centres: Batch, radius: float) -> Batch:
        """Candidates drawn to the nearest of the centres until no layer is further than the radius.

        A layer that a centre keeps is kept, and one that it removes is removed.

        Args:
            candidates: of shape (batch, layers).
            centres: at least one.
            radius: as a share of the coefficients of a layer; one coefficient at least.
        """
        if not len(candidates):
            return candidates
        places, middles = self._places(candidates), self._places(centres)
        apart = np.abs(places[:, None] - middles[None]) / self.counts
        middle = middles[apart.sum(2).argmin(1)]
        reach = np.maximum(1, np.rint(radius * self.counts)).astype(int)
        least = np.maximum(middle - reach, self._narrowest)
        drawn = np.clip(places, least, middle + reach)
        return self._actions(np.where(middle < self._narrowest, middle, drawn))

    def tilted(self, parents: Batch, count: int, rng: Generator) -> Batch:
        """Children of the parents that are wider at one end of the network and narrower at the
        other, by up to a third of the coefficients."""
        places = self._places(parents[rng.integers(0, len(parents), count)])
        along = np.linspace(-1, 1, places.shape[1])
        slope = rng.uniform(-1 / 3, 1 / 3, (count, 1)) * self.counts
        stays = places >= self._narrowest
        moved = np.maximum(places + np.rint(slope * along).astype(int), self._narrowest)
        return self._actions(np.where(stays, moved, places))

    def neighbours(self, actions: NDArray[np.int64]) -> Batch:
        """All candidates that differ in one layer by one coefficient, or by its removal."""
        places = self._places(actions[None])[0]
        found = []
        for step in self.free:
            for place in {places[step] - 1, places[step] + 1, 0} - {places[step]}:
                if 0 <= place < self.counts[step]:
                    other = places.copy()
                    other[step] = place
                    found.append(other)
        return self._actions(np.array(found))

    def _places(self, actions: Batch) -> Batch:
        found: Batch = self._place[np.arange(actions.shape[1]), actions]
        return found

    def _actions(self, places: Batch) -> Batch:
        places = np.clip(places, 0, self.counts - 1)
        found: Batch = self._table[np.arange(places.shape[1]), places]
        return found
