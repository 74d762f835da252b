"""The contract of a tuned family: within caps, no worse than its defaults, the same each run."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import optuna
import pytest
from numpy.typing import NDArray
from onnx import helper
from optuna.trial import FixedTrial

from edge.errors import BadInput
from routers.fitting import crossfit, tuning
from routers.fitting.spaces import SPACES, Space
from routers.fitting.tuning import TunedRouter, log_loss, tuned
from routers.models.families import FAMILIES, FittedRouter
from routers.onnx import caps, export
from routers.onnx.caps import Caps
from routers.onnx.features import FEATURES, Feature
from routers.selection.labels import student_right
from tests.routers.rows import crooked, student

ROWS = crooked(400, seed=1)
RIGHT = student_right(ROWS.logits, ROWS.labels)
PLAN = crossfit.plan(ROWS.logits, RIGHT, 0, committee="linear", count=2)
TIGHT = Caps(bytes=16 * 1024, microseconds=40.0)


@cache
def search(name: str, trials: int) -> TunedRouter:
    return tuned(name, ROWS.logits, RIGHT, 0, trials=trials, caps=TIGHT, plan=PLAN)


@cache
def file(name: str) -> onnx.ModelProto:
    return search(name, 2).to_onnx(4)


@pytest.mark.parametrize("name", sorted(FAMILIES))
class TestEveryTunedFamily:
    def test_its_file_keeps_the_caps(self, name: str) -> None:
        router, model = search(name, 2), file(name)
        assert len(model.SerializeToString()) == router.cost.bytes <= TIGHT.bytes
        assert caps.counted_microseconds(model) == router.cost.microseconds <= TIGHT.microseconds

    def test_its_file_gives_its_probabilities(self, name: str) -> None:
        router, fresh = search(name, 2), crooked(1000, seed=2).logits
        found = export.run(file(name).SerializeToString(), fresh)
        assert np.abs(found - router.score(fresh)).max() <= 1e-5

    def test_it_is_no_worse_than_its_defaults(self, name: str) -> None:
        defaults, best = search(name, 1), search(name, 2)
        assert best.log_loss <= defaults.log_loss < 0.5
        assert (defaults.trials, best.trials) == (1, 2)
        started = SPACES[name].start
        assert {key: defaults.parameters[key] for key in started} == started

    def test_the_same_seed_gives_the_same_router(self, name: str) -> None:
        first = search(name, 2)
        again = tuned(name, ROWS.logits, RIGHT, 0, trials=2, caps=TIGHT, plan=PLAN)
        assert again.parameters == first.parameters
        assert again.to_onnx(4) == file(name)

    def test_what_is_searched_is_what_the_family_takes(self, name: str) -> None:
        trial = FixedTrial(SPACES[name].start)
        for width in (4, 100, 1000):
            parameters = SPACES[name].suggest(trial, Caps(), width)
            assert set(SPACES[name].start) <= set(parameters)
        router = SPACES[name].fit(ROWS.logits, RIGHT, 0, **parameters)
        assert router.score(ROWS.logits[:3]).shape == (3,)


def test_every_family_has_a_space() -> None:
    assert set(SPACES) == set(FAMILIES)


def test_wide_features_leave_room_for_fewer_rows() -> None:
    """A row of 100 features takes 4·100 + 16 bytes in the file of neighbours, 5·101 in the SVM's.

    (262,144 − 4,096)/416 = 620.3, /505 = 510.98; at width 4 other limits bind.
    """
    for name, rows, narrow in (("knn", 620, 2000), ("svm", 510, 3000)):
        trial = FixedTrial(SPACES[name].start)
        assert SPACES[name].suggest(trial, Caps(), 100)["rows"] == rows
        assert SPACES[name].suggest(trial, Caps(), 4)["rows"] == narrow


def test_a_log_loss_by_hand() -> None:
    # −(ln .8 + ln(1 − .4) + ln .5)/3 = (.22314 + .51083 + .69315)/3
    found = log_loss(np.array([0.8, 0.4, 0.5]), np.array([1, 0, 1]))
    assert found == pytest.approx(0.4757, abs=1e-4)
    assert np.isnan(log_loss(np.empty(0), np.empty(0, dtype=np.int64)))


class Invented:
    """Expects errors above 1 + ``off``, where they begin at 1, in a file padded by ``size`` bytes.

    Liars say something else in Python.
    """

    def __init__(self, off: float = 0.0, size: int = 0, lies: bool = False) -> None:
        self.off, self.size, self.lies = off, size, lies

    def score(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        expected = np.where(features[:, 0] > np.float32(1 + self.off), 0.125, 0.875)
        return expected + self.lies * 0.1

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        return export.build(
            [
                helper.make_node("Gather", ["logits", "first"], ["column"], axis=1),
                helper.make_node("Greater", ["column", "limit"], ["wrong"]),
                helper.make_node("Where", ["wrong", "low", "high"], ["spread"]),
                helper.make_node("ReduceMax", ["padding"], ["nothing"], keepdims=0),
                helper.make_node("Add", ["spread", "nothing"], ["score"]),
            ],
            classes,
            {
                "first": np.array(0),
                "limit": np.array(1 + self.off, dtype=np.float32),
                "low": np.array(0.125, dtype=np.float32),
                "high": np.array(0.875, dtype=np.float32),
                "padding": np.zeros(self.size // 4 + 1, np.float32),
            },
        )


def invent(monkeypatch: pytest.MonkeyPatch, *tried: dict[str, Any]) -> None:
    """A family ``invented`` whose trials are ``tried``, in this order."""
    coming = iter(tried)

    def fit(features: Any, right: Any, seed: int, **parameters: Any) -> FittedRouter:
        return Invented(**parameters)

    monkeypatch.setitem(FAMILIES, "invented", fit)
    space = Space(fit, {}, lambda trial, caps, width: next(coming))
    monkeypatch.setitem(SPACES, "invented", space)


def found(trials: int, **options: Any) -> TunedRouter:
    return tuned("invented", ROWS.logits, RIGHT, 0, trials=trials, plan=PLAN, **options)


def test_the_best_that_keeps_the_caps_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    invent(
        monkeypatch,
        {"off": 0.6, "size": 100},
        {"off": 0.1, "size": 9000},  # too large
        {"off": 0.3, "size": 5000},
        {"off": 0.2, "lies": True},  # its file says something else
        {"off": 0.5},
    )
    best = found(5, caps=Caps(bytes=8000))
    assert best.parameters == {"off": 0.3, "size": 5000}
    assert best.trials == 5
    assert 5000 < best.cost.bytes < 8000


def test_nothing_within_the_caps_is_refused_with_what_came_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invent(monkeypatch, {"size": 10_000}, {"size": 20_000})
    with pytest.raises(BadInput, match=r"got 1\d{4} bytes .*expected at most 8000 bytes"):
        found(2, caps=Caps(bytes=8000))


def test_a_file_that_is_too_slow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    invent(monkeypatch, {})
    with pytest.raises(BadInput, match=r"and 9 µs at the least; .*and 6 µs"):
        found(1, caps=Caps(microseconds=6.0))


def test_a_family_whose_files_say_something_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invent(monkeypatch, {"lies": True})
    with pytest.raises(export.ExportMismatch, match="no file of invented"):
        found(1)


def test_out_of_time_the_first_trial_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    invent(monkeypatch, {"off": 0.5}, {"off": 0.1})
    best = found(2, seconds=0.0)
    assert (best.parameters["off"], best.trials) == (0.5, 1)


def test_out_of_time_a_trial_stops_at_its_next_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock strikes in the second trial's first fold, and its second is not fitted."""
    fits, now = [0], [0.0]

    def fit(features: Any, right: Any, seed: int) -> FittedRouter:
        fits[0] += 1
        now[0] = 99.0 if fits[0] > 3 else 0.0
        return Invented()

    monkeypatch.setattr(tuning, "monotonic", lambda: now[0])
    monkeypatch.setitem(FAMILIES, "invented", fit)
    monkeypatch.setitem(SPACES, "invented", Space(fit, {}, lambda trial, caps, width: {}))
    # Two folds and the router itself for the first trial, one fold of the second, no third.
    assert found(3, seconds=50.0).trials == 1
    assert fits == [4]


def test_a_family_without_a_space_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "plain", lambda features, right, seed: Invented())
    best = tuned("plain", ROWS.logits, RIGHT, 0, trials=9, plan=PLAN)
    assert (best.trials, best.parameters) == (1, {})


def test_a_plan_of_ones_own_is_the_one_that_it_stands_for() -> None:
    made = crossfit.plan(ROWS.logits, RIGHT, 0, sampling="random")
    own = tuned("xgb", ROWS.logits, RIGHT, 0, trials=1, sampling="random")
    given = tuned("xgb", ROWS.logits, RIGHT, 0, trials=1, plan=made)
    assert own.score(ROWS.logits).tolist() == given.score(ROWS.logits).tolist()


def test_a_handful_of_rows_is_fitted_without_a_search() -> None:
    logits = student(6, 3, seed=8).logits
    router = tuned("svm", logits, np.array([0, 0, 1, 1, 1, 1]), 0, trials=5)
    assert router.trials == 1
    assert np.isnan(router.log_loss)
    assert np.isnan(router.calibration_error)
    assert router.line.method == "prior shift"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlp", {}, "router family: got 'mlp'"),
        ("xgb", {"trials": 0}, "at least 1"),
        ("xgb", {"sampling": "some"}, "one of all, qbc, random"),
        ("xgb", {"committee": "jury"}, "one of default, linear"),
    ],
)
def test_bad_input_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        tuned(name, ROWS.logits, RIGHT, 0, **options)


def test_rows_of_one_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="one kind"):
        tuned("knn", ROWS.logits, np.ones(400, dtype=np.int64), 0)


def test_the_bytes_are_those_of_the_file_that_ships() -> None:
    """With a derived feature in front, the file is larger than the fit's own."""

    def nodes(source: str) -> tuple[list[onnx.NodeProto], str]:
        return [helper.make_node("Neg", [source], ["minus"])], "minus"

    minus = Feature(compute=lambda z: -z.astype(np.float32), nodes=nodes)
    router = tuned("xgb", minus.compute(ROWS.logits), RIGHT, 0, trials=1, plan=PLAN, feature=minus)
    assert router.cost.bytes == len(router.to_onnx(4, minus).SerializeToString())
    assert router.cost.bytes > len(router.to_onnx(4).SerializeToString())


def test_no_study_is_left_talking(capfd: pytest.CaptureFixture[str]) -> None:
    search("knn", 2)
    assert "Trial" not in capfd.readouterr().err
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
