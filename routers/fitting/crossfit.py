"""Scores of rows at the natural rate of errors that the fit has not seen.

The router part is cut into folds. For each, the sampling chooses rows among the *other* folds, a
family is fitted on those, and scores the fold as it is, errors no more frequent than in nature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from edge.errors import check_member
from routers.models.families import Family
from routers.selection import committees
from routers.selection.draws import at_most
from routers.selection.qbc import SAMPLING

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

FOLDS = 5
# Two rows of each kind have to be left to a fit: an SVM's own folds need them.
LEAST_FOLDED = 3
# Rows that are scored, over all folds; more would only cost time.
SCORED_ROWS = 50_000


class Fold(NamedTuple):
    """``fitted``: row numbers that the sampling chose outside the fold; ``held``: in the fold."""

    fitted: Rows
    held: Rows


@dataclass(frozen=True)
class Plan:
    """Which rows are fitted, and which are scored by whom; one plan serves every family.

    ``rows``: what the sampling chose of the whole router part, for the router that ships.
    ``folds``: none where a kind has fewer than three rows. ``natural``: the share of right rows
    in the router part; ``fitted``: their share in ``rows``.
    """

    rows: Rows
    folds: tuple[Fold, ...]
    natural: float
    fitted: float


class Judged(NamedTuple):
    """Scores (float N) of rows that no fit has seen, and whether the student is right there."""

    score: NDArray[np.float64]
    right: Rows


def plan(
    features: Features,
    right: Rows,
    seed: int,
    *,
    sampling: str = "qbc",
    r: float = 0.5,
    committee: str = committees.DEFAULT,
    count: int = FOLDS,
) -> Plan:
    """Samplings of the router part (features float32 N×F, right int N) and of its folds.

    ``count`` ≥ 2 folds, fewer where a kind has fewer rows. ValueError where all rows are of one
    kind; BadInput for an unknown name and r out of range.
    """
    check_member("sampling of router rows", sampling, SAMPLING)

    sample = partial(SAMPLING[sampling], r=r, seed=seed, committee=committee)

    kinds = np.bincount(right, minlength=2)
    if kinds.min() == 0:
        raise ValueError(
            "a router needs rows that the student gets right and rows that it gets wrong; "
            f"all {len(right)} are of one kind"
        )
    rows = sample(features, right)
    folds: list[Fold] = []
    if kinds.min() >= LEAST_FOLDED:
        scored = at_most(SCORED_ROWS, right, seed)
        cut = StratifiedKFold(min(count, int(kinds.min())), shuffle=True, random_state=seed)
        for others, held in cut.split(right, right):
            fitted = others[sample(features[others], right[others])]
            folds.append(Fold(fitted, np.intersect1d(held, scored, assume_unique=True)))
    return Plan(rows, tuple(folds), float(right.mean()), float(right[rows].mean()))


def out_of_fold(fit: Family, features: Features, right: Rows, plan: Plan, seed: int) -> Judged:
    """The folds' rows, each scored by ``fit`` of what ``plan`` chose in the other folds."""
    scores = [
        fit(features[fold.fitted], right[fold.fitted], seed).score(features[fold.held])
        for fold in plan.folds
    ]
    held = [fold.held for fold in plan.folds]
    return Judged(
        np.concatenate([np.empty(0), *scores]),
        right[np.concatenate([np.empty(0, dtype=np.int64), *held])],
    )
