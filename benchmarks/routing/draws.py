"""The parts of a job, drawn anew from a pair: as if somebody else had split the same data.

Rows that the student learnt from are learnt from; all others may change places. The router part is
a draw of the withheld rows, of the size that a job would choose. Validation, calibration and test
are a split of the rows that neither network has learnt from, each of the size that it had. (The
student's best epoch was chosen on those that were first called validation.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing.pairs import UNSEEN, WITHHELD, Pair
from routers.ranking.ranking import RouterData

Rows = NDArray[np.int64]
#: of the router part: a job's for these teachers (:func:`teachers.data.splits.withhold_router`)
ROUTER_ROWS = {"mnist": 9_091, "cifar10": 4_500}


@dataclass(frozen=True, eq=False)
class Draw:
    """A pair with its parts; each attribute from ``router`` on holds places of rows in the pair."""

    pair: Pair
    seed: int
    router: Rows
    validation: Rows
    calibration: Rows
    test: Rows

    def places(self, part: str) -> Rows:
        """Of a part's rows."""
        found: Rows = getattr(self, part)
        return found

    def logits(self, part: str) -> NDArray[np.float32]:
        """Of the student."""
        return self.pair.logits[self.places(part)]

    def labels(self, part: str) -> Rows:
        """Of the data."""
        return self.pair.labels[self.places(part)]

    def right(self, part: str) -> tuple[Rows, Rows]:
        """Whether the student is right, and whether the teacher is: N of 0 and 1 each."""
        rows = self.places(part)
        return self.pair.student_right[rows], self.pair.teacher_right[rows]

    def data(self) -> RouterData:
        """What a job's ranking is given: nothing of calibration and test."""
        return RouterData(
            self.logits("router"),
            self.labels("router"),
            self.logits("validation"),
            self.labels("validation"),
            self.right("validation")[1],
        )


def draw(pair: Pair, seed: int) -> Draw:
    """The parts of a seed, every class in its own share."""
    rng = np.random.default_rng([seed, 5])
    withheld, unseen = pair.of(WITHHELD), pair.of(*UNSEEN)
    size = min(ROUTER_ROWS.get(pair.about["data"], len(withheld)), len(withheld))
    router = _cut(withheld, pair.labels, [size], rng)[0]
    sizes = [len(pair.of(part)) for part in UNSEEN]
    validation, calibration, test = _cut(unseen, pair.labels, sizes, rng)
    return Draw(pair, seed, router, validation, calibration, test)


def _cut(pool: Rows, labels: Rows, sizes: list[int], rng: np.random.Generator) -> list[Rows]:
    """Parts of these sizes, sorted, whose classes have the shares that they have in the pool."""
    shuffled = rng.permutation(pool)
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[grouped], return_index=True, return_counts=True)
    # row i of a class of n stands at (i + u)/n of the way, u drawn for each class
    rank = np.arange(len(grouped)) - np.repeat(starts, counts)
    place = (rank + np.repeat(rng.random(len(counts)), counts)) / np.repeat(counts, counts)
    spread = grouped[np.argsort(place, kind="stable")]
    return [np.sort(part) for part in np.split(spread, np.cumsum(sizes))[: len(sizes)]]
