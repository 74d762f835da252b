"""Committees for Algorithm 2 (Zhang V-B): classifiers whose doubt chooses rows.

The paper asks for L classifiers, uses L = 3, and does not say which. A member of
:data:`COMMITTEES` is a function of a seed and the number of rows that will be fitted; it gives
unfitted classifiers. To ask them about millions of rows in seconds, members whose cost grows with
the rows of the fit see a stratified draw of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from routers.selection.draws import at_most

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

# Rows that a member is fitted on at most. Neighbours and support vectors pay for each of them in
# every prediction; a tree of 64 leaves does not change much beyond.
NEIGHBOUR_ROWS, VECTOR_ROWS, TREE_ROWS = 2_000, 1_000, 20_000
TREES, DEPTH, NEIGHBOURS = 50, 6, 15


class Classifier(Protocol):
    """What Algorithm 2 asks of a member of the committee; every scikit-learn classifier has it."""

    def fit(self, features: Features, right: Rows, /) -> object: ...

    def predict_proba(self, features: Features, /) -> NDArray[np.floating[Any]]: ...


# From a seed and the number of rows that will be fitted, the unfitted members.
Committee = Callable[[int, int], Sequence[Classifier]]


class Capped:
    """A classifier that is fitted on at most ``limit`` of the rows it is given."""

    def __init__(self, model: Classifier, limit: int, seed: int) -> None:
        self.model, self.limit, self.seed = model, limit, seed

    def fit(self, features: Features, right: Rows, /) -> object:
        kept = at_most(self.limit, right, self.seed)
        self.model.fit(features[kept], right[kept])
        return self

    def predict_proba(self, features: Features, /) -> NDArray[np.floating[Any]]:
        return self.model.predict_proba(features)


class Resampled:
    """A classifier fitted on rows drawn with replacement, as many of each kind as there are."""

    def __init__(self, model: Classifier, seed: int) -> None:
        self.model, self.seed = model, seed

    def fit(self, features: Features, right: Rows, /) -> object:
        rng = np.random.default_rng(self.seed)
        kinds = [np.flatnonzero(right == kind) for kind in (0, 1)]
        drawn = np.concatenate([rng.choice(kind, size=len(kind)) for kind in kinds])
        self.model.fit(features[drawn], right[drawn])
        return self

    def predict_proba(self, features: Features, /) -> NDArray[np.floating[Any]]:
        return self.model.predict_proba(features)


class _Vectors:
    """An SVM with probabilities; of too few rows for Platt's folds, it knows their share alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.share = 0.5
        self.model: Any = None

    def fit(self, features: Features, right: Rows, /) -> object:
        self.share = float(right.mean())
        folds = min(5, int(np.bincount(right, minlength=2).min()))
        if folds >= 2:
            cut = StratifiedKFold(folds, shuffle=True, random_state=self.seed)
            probable = CalibratedClassifierCV(SVC(), cv=cut, ensemble=False, n_jobs=1)
            self.model = make_pipeline(StandardScaler(), probable).fit(features, right)
        return self

    def predict_proba(self, features: Features, /) -> NDArray[np.floating[Any]]:
        if self.model is None:
            return np.tile([1 - self.share, self.share], (len(features), 1))
        found: NDArray[np.floating[Any]] = self.model.predict_proba(features)
        return found


def _line() -> Classifier:
    line: Classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return line


def _forest(seed: int) -> Classifier:
    return Capped(
        RandomForestClassifier(TREES, max_depth=DEPTH, random_state=seed, n_jobs=1), TREE_ROWS, seed
    )


def _neighbours(seed: int, rows: int) -> Classifier:
    count = min(NEIGHBOURS, rows, NEIGHBOUR_ROWS)
    return Capped(KNeighborsClassifier(count, algorithm="brute", n_jobs=1), NEIGHBOUR_ROWS, seed)


def default_committee(seed: int, rows: int) -> Sequence[Classifier]:
    """L = 3 kinds: a line, a forest and neighbours differ where three copies would agree."""
    return _line(), _forest(seed), _neighbours(seed, rows)


def paper(seed: int, rows: int) -> Sequence[Classifier]:
    """SVM, RF and KNN: the three that Zhang V-A names first, and as close as the paper gets."""
    return Capped(_Vectors(seed), VECTOR_ROWS, seed), _forest(seed), _neighbours(seed, rows)


def linear(seed: int, rows: int) -> Sequence[Classifier]:
    """Three lines, each fitted on its own resample (query by bagging): the quickest."""
    return tuple(Resampled(_line(), seed + i) for i in range(3))


def trees(seed: int, rows: int) -> Sequence[Classifier]:
    """Three ensembles of trees: a random forest, an extremely random one, and boosting."""
    extreme = ExtraTreesClassifier(TREES, max_depth=DEPTH, random_state=seed, n_jobs=1)
    boosted = GradientBoostingClassifier(n_estimators=TREES, max_depth=3, random_state=seed)
    return (
        _forest(seed),
        Capped(extreme, TREE_ROWS, seed),
        Capped(boosted, TREE_ROWS, seed),
    )


DEFAULT = "default"
COMMITTEES: dict[str, Committee] = {
    DEFAULT: default_committee,
    "paper": paper,
    "linear": linear,
    "trees": trees,
}
