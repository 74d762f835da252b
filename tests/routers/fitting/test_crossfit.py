"""Nothing is scored by a fit that has seen it, and what is scored errs as often as nature does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from routers.fitting import crossfit
from routers.fitting.crossfit import out_of_fold, plan
from routers.models.families import FittedRouter
from routers.onnx.features import FEATURES, Feature
from routers.selection.qbc import SAMPLING

# Row i is described by i alone; rows 0, 10, 20, … are wrong.
NUMBERED = np.arange(200, dtype=np.float32)[:, None]
TENTH_WRONG = (np.arange(200) % 10 != 0).astype(np.int64)


@pytest.mark.parametrize("sampling", sorted(SAMPLING))
def test_every_row_is_held_once_by_a_fold_that_is_not_fitted_on_it(sampling: str) -> None:
    made = plan(NUMBERED, TENTH_WRONG, 0, sampling=sampling, committee="linear")
    assert len(made.folds) == crossfit.FOLDS
    held = np.concatenate([fold.held for fold in made.folds])
    assert sorted(held.tolist()) == list(range(200))
    for fold in made.folds:
        assert not set(fold.fitted.tolist()) & set(fold.held.tolist())
        # 20 wrong rows in five folds: 4 of 40 are held, 16 of 160 are left.
        assert np.bincount(TENTH_WRONG[fold.held]).tolist() == [4, 36]
        chosen = np.bincount(TENTH_WRONG[fold.fitted]).tolist()
        assert chosen == ([16, 144] if sampling == "all" else [16, 16])


def test_a_plan_knows_both_shares_of_right_rows() -> None:
    made = plan(NUMBERED, TENTH_WRONG, 0, sampling="random")
    assert (made.natural, made.fitted) == (0.9, 0.5)
    assert len(made.rows) == 40
    assert plan(NUMBERED, TENTH_WRONG, 0, sampling="all").fitted == 0.9


class Remembers:
    """Scores 1 what it was fitted on, and 0 what is new to it."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.seen = set(features[:, 0].tolist())

    def score(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        return np.array([float(x) in self.seen for x in features[:, 0]], dtype=np.float64)

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        raise NotImplementedError


def remember(features: NDArray[np.float32], right: NDArray[np.int64], seed: int) -> FittedRouter:
    assert right.tolist() == TENTH_WRONG[features[:, 0].astype(int)].tolist()
    return Remembers(features)


@pytest.mark.parametrize("sampling", sorted(SAMPLING))
def test_scores_come_from_fits_that_have_not_seen_the_row(sampling: str) -> None:
    made = plan(NUMBERED, TENTH_WRONG, 0, sampling=sampling, committee="linear")
    judged = out_of_fold(remember, NUMBERED, TENTH_WRONG, made, 0)
    assert judged.score.tolist() == [0.0] * 200
    assert judged.right.mean() == 0.9
    assert Remembers(NUMBERED).score(NUMBERED).min() == 1.0


def test_scored_rows_are_capped_at_their_natural_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossfit, "SCORED_ROWS", 50)
    made = plan(NUMBERED, TENTH_WRONG, 0, sampling="random")
    judged = out_of_fold(remember, NUMBERED, TENTH_WRONG, made, 0)
    assert np.bincount(judged.right).tolist() == [5, 45]


def test_the_committee_is_passed_on() -> None:
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    default, linear = (
        plan(features, TENTH_WRONG, 0, committee=name, count=2) for name in ("default", "linear")
    )
    assert default.rows.tolist() != linear.rows.tolist()


@pytest.mark.parametrize(("wrong", "folds"), [(2, 0), (3, 3), (4, 4), (9, 5)])
def test_folds_are_no_more_than_a_kind_has_rows(wrong: int, folds: int) -> None:
    right = np.repeat(np.array([0, 1], dtype=np.int64), [wrong, 30])
    made = plan(NUMBERED[: len(right)], right, 0, sampling="random")
    assert len(made.folds) == folds
    for fold in made.folds:
        assert np.bincount(right[fold.fitted], minlength=2).min() >= 2
    if not folds:
        assert out_of_fold(remember, NUMBERED, TENTH_WRONG, made, 0).score.shape == (0,)


@pytest.mark.parametrize("kind", [0, 1])
def test_rows_of_one_kind_are_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="all 12 are of one kind"):
        plan(NUMBERED[:12], np.full(12, kind), 0)


def test_an_unknown_sampling_is_refused() -> None:
    with pytest.raises(BadInput, match="one of all, qbc, random"):
        plan(NUMBERED, TENTH_WRONG, 0, sampling="some")
