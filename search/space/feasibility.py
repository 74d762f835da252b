"""Which limits on cost any candidate can keep, found from costs alone before anything is trained.

Costs do not fall with every coefficient (without a strided layer the maps stay large, and a
repair can cost more than it saves), so the least is searched for: extremes, random candidates, and
greedy descents one layer at a time. Nothing is drawn but from a fixed seed, and which candidates
are looked at first does not depend on the limits. So what is named as reachable is also accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.moves import Moves
from search.space.limits import MEASURES, Limits

Rows = NDArray[np.int64]
Figures = Mapping[str, NDArray[np.float64]]
#: candidates, shape (batch, layers) → key of MEASURES → one number per candidate
Measuring = Callable[[Rows], Figures]

#: candidates drawn at random
DRAWN = 2000
#: steps of a descent; each tries every other coefficient of every layer
STEPS = 64


class Reach:
    """Looks for candidates that keep limits.

    Attributes:
        extremes: candidates with every layer as low as it goes, in three ways, then the teacher.
    """

    def __init__(
        self, masks: NDArray[np.int8], moves: Moves, sets_width: list[bool], measure: Measuring
    ) -> None:
        """Set up the search.

        Args:
            masks: legal actions of every layer, shape (layers, pool).
            moves: of the space.
            sets_width: of every layer, whether it sets the width of what it writes.
            measure: what candidates cost, many at once.
        """
        self.masks, self.moves, self.measure = masks, moves, measure
        self.extremes = self._extremes(sets_width)
        self._pools: dict[tuple[str, ...], Rows] = {}

    def keeping(self, limits: Limits) -> Rows:
        """Candidates that keep the limits on cost, shape (at least 1, layers).

        Raises:
            BadInput: none was found; names the nearest limits that some candidate keeps.
        """
        found, nearest = self._look(limits)
        if len(found):
            return found
        raise self._refusal(limits, nearest)

    def least(self, name: str) -> float:
        """The least of one measure that any candidate reached."""
        pool = self._pool((name,))
        return float(self.measure(pool)[name].min())

    def _extremes(self, sets_width: list[bool]) -> Rows:
        """Lowered with removal, without it, and without it where a layer sets a width."""
        lowest, narrow = [], []
        for mask in self.masks:
            legal = np.flatnonzero(mask)
            lowest.append(int(legal[0]))
            removes = self.moves.removes(int(legal[0])) and len(legal) > 1
            narrow.append(int(legal[1 if removes else 0]))
        mixed = np.where(sets_width, narrow, lowest)
        keep = np.full(len(self.masks), self.moves.keep)
        return np.stack([lowest, narrow, mixed, keep]).astype(np.int64)

    def _look(self, limits: Limits) -> tuple[Rows, Rows]:
        """Candidates that keep the limits; without any, those that come nearest, best first."""
        looked = self.extremes
        kept = self._kept(looked, limits)
        if not kept.any():
            looked = self._pool(tuple(limits.on_cost))
            kept = self._kept(looked, limits)
        if not kept.any():
            excess = self._ratios(looked, limits).max(axis=0)
            start = looked[int(excess.argmin())]
            end = self._descend(start, lambda rows: self._ratios(rows, limits).max(axis=0))
            looked = np.stack([end, start])
            kept = self._kept(looked, limits)
        return looked[kept], looked

    def _ratios(self, rows: Rows, limits: Limits) -> NDArray[np.float64]:
        return limits.ratios(self.measure(rows))

    def _kept(self, rows: Rows, limits: Limits) -> NDArray[np.bool_]:
        return np.asarray((self._ratios(rows, limits) <= 1).all(axis=0))

    def _pool(self, names: tuple[str, ...]) -> Rows:
        """Where limits on these measures are looked for: it knows nothing of their numbers."""
        if names not in self._pools:
            drawn = self._drawn()
            figures = {name: np.log(values) for name, values in self.measure(drawn).items()}
            rows = [drawn]
            for weights in _mixtures(len(names)):
                blend = sum(w * figures[name] for w, name in zip(weights, names, strict=True))
                best = drawn[int(np.argmin(blend))]
                rows.append(self._descend(best, self._blended(names, weights))[None])
            self._pools[names] = np.concatenate(rows)
        return self._pools[names]

    def _drawn(self) -> Rows:
        """The extremes, and random candidates of which many are low."""
        rng = np.random.default_rng(0)
        lean = rng.uniform(0.2, 4, DRAWN)
        columns = []
        for mask in self.masks:
            legal = np.flatnonzero(mask)
            # a power of a uniform number: the larger the exponent, the lower the coefficient
            place = (rng.random(DRAWN) ** lean * len(legal)).astype(np.int64)
            columns.append(legal[np.minimum(place, len(legal) - 1)])
        return np.concatenate([self.extremes, np.stack(columns, axis=1)])

    def _blended(
        self, names: tuple[str, ...], weights: tuple[float, ...]
    ) -> Callable[[Rows], NDArray[np.float64]]:
        def blend(rows: Rows) -> NDArray[np.float64]:
            figures = self.measure(rows)
            parts = [w * np.log(figures[name]) for w, name in zip(weights, names, strict=True)]
            total: NDArray[np.float64] = np.sum(parts, axis=0)
            return total

        return blend

    def _descend(self, start: Rows, value: Callable[[Rows], NDArray[np.float64]]) -> Rows:
        """``start``, with the one change that lowers ``value`` most, again and again."""
        here, least = start, float(value(start[None])[0])
        for _ in range(STEPS):
            layers, actions = np.nonzero(self.masks)
            rows = np.repeat(here[None], len(layers), axis=0)
            rows[np.arange(len(layers)), layers] = actions
            values = value(rows)
            place = int(values.argmin())
            if values[place] >= least:
                break
            here, least = rows[place], float(values[place])
        return here

    def _refusal(self, limits: Limits, nearest: Rows) -> BadInput:
        for row in nearest:
            named = self._named(limits, row)
            if len(self._look(named)[0]):
                break
        teacher = self.measure(self.extremes[-1:])
        if len(limits.on_cost) == 1:
            return _alone(limits, named, teacher)
        return BadInput(
            "no student keeps these limits together",
            value=limits.options(),
            bound=f"limits that go together; the nearest are {named.options()}",
            remedy="Raise one of them, or leave one out.",
        )

    def _named(self, limits: Limits, row: Rows) -> Limits:
        """``limits``, raised to what a candidate needs."""
        figures: dict[str, Any] = {
            name: max(limit, MEASURES[name].up(float(self.measure(row[None])[name][0])))
            for name, limit in limits.on_cost.items()
        }
        return replace(limits, **figures)


def _alone(limits: Limits, named: Limits, teacher: Figures) -> BadInput:
    ((name, limit),) = limits.on_cost.items()
    about, least = MEASURES[name], named.on_cost[name]
    advised = math.ceil(least * 1.5) if least > 1 else about.up(least * 1.5)
    return BadInput(
        f"no student can {about.wish}",
        value=f"{about.option} {limit:g}",
        bound=f"{about.text(least)} {about.unit} or more "
        f"(the teacher has {teacher[name][0]:,.{0 if least > 1 else about.digits}f})",
        remedy=f"Set {about.option} {about.text(advised)} or more.",
    )


def _mixtures(count: int) -> list[tuple[float, ...]]:
    """Weights under which several measures are lowered together: each alone, and blends."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    grid = np.array(np.meshgrid(*[shares] * count)).reshape(count, -1).T
    return [tuple(map(float, row)) for row in grid if row.sum() == 1]
