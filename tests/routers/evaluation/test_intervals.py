from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import BadInput
from routers.evaluation import intervals
from routers.evaluation.intervals import (
    FIGURES,
    Interval,
    bootstrap,
    figures_of,
    interval,
    share_upper_bound,
)
from routers.evaluation.metrics import (
    accuracy_at,
    appeals_for_acc_i,
    area_under,
    aurc,
    auroc,
    deferral_curve,
    excess_aurc,
)

Rows = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def some_rows(rows: int, seed: int, levels: int) -> Rows:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, levels, rows) / levels,
        rng.integers(0, 2, rows),
        rng.integers(0, 2, rows),
    )


def _rate(share: float) -> Callable[[Rows], float]:
    def found(rows: Rows) -> float:
        rate = appeals_for_acc_i(deferral_curve(*rows), share)
        return math.nan if rate is None else rate

    return found


# The plain function of every figure.
PLAIN: dict[str, Callable[[Rows], float]] = {
    "area": lambda rows: area_under(deferral_curve(*rows)),
    "auroc": lambda rows: auroc(*rows[:2]),
    "aurc": lambda rows: aurc(*rows[:2]),
    "excess_aurc": lambda rows: excess_aurc(*rows[:2]),
    "accuracy_at_5": lambda rows: accuracy_at(deferral_curve(*rows), 0.05),
    "accuracy_at_10": lambda rows: accuracy_at(deferral_curve(*rows), 0.1),
    "accuracy_at_20": lambda rows: accuracy_at(deferral_curve(*rows), 0.2),
    "appeals_for_acc_i_50": _rate(0.5),
    "appeals_for_acc_i_75": _rate(0.75),
    "appeals_for_acc_i_90": _rate(0.9),
    "appeals_for_acc_i_95": _rate(0.95),
}


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    @given(rows=st.integers(1, 30), seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 99]))
    @settings(max_examples=30, deadline=None)
    def test_a_resample_has_the_figure_of_the_rows_it_repeats(
        self, name: str, rows: int, seed: int, levels: int
    ) -> None:
        data = some_rows(rows, seed, levels)
        found = bootstrap([data[0]], data[1], data[2], [name], resamples=4, seed=seed)[name]
        counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=4)
        for value, count in zip(found[0], counts, strict=True):
            drawn = np.repeat(np.arange(rows), count)
            expected = PLAIN[name]((data[0][drawn], data[1][drawn], data[2][drawn]))
            assert value == pytest.approx(expected, nan_ok=True)

    def test_on_the_rows_themselves_it_is_the_plain_figure(self, name: str) -> None:
        data = some_rows(200, 3, 20)
        expected = PLAIN[name](data)
        assert figures_of(*data, [name])[name] == pytest.approx(expected, nan_ok=True)

    def test_one_row_is_enough(self, name: str) -> None:
        data = np.array([0.5]), np.array([0]), np.array([1])
        found = bootstrap([data[0]], *data[1:], [name], resamples=2, seed=0)[name]
        assert found == pytest.approx(np.full((1, 2), PLAIN[name](data)), nan_ok=True)


def test_routers_share_their_draws_so_that_differences_are_paired() -> None:
    score, student, teacher = some_rows(50, 0, 1000)
    # The second router says the same on another scale; the third is another one.
    other = some_rows(50, 1, 1000)[0]
    found = bootstrap([score, 2 * score, other], student, teacher, ["area"], seed=0)["area"]
    assert found.shape == (3, 1000)
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_draws_follow_the_seed_and_not_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    score, student, teacher = some_rows(40, 0, 7)
    names = ["aurc", "accuracy_at_10"]
    once = bootstrap([score], student, teacher, names, resamples=30, seed=1)
    monkeypatch.setattr(intervals, "_BLOCK", 40 * 7)
    again = bootstrap([score], student, teacher, names, resamples=30, seed=1)
    other = bootstrap([score], student, teacher, names, resamples=30, seed=2)
    for name in names:
        assert np.array_equal(once[name], again[name])
        assert not np.array_equal(once[name], other[name])


def test_memory_is_bounded_whatever_the_number_of_resamples() -> None:
    data = some_rows(10_000, 0, 10**6)
    tracemalloc.start()
    bootstrap([data[0]], *data[1:], list(FIGURES), resamples=200, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 2**20  # in one piece 130 MB


@pytest.mark.parametrize(
    ("score", "student", "teacher"), [(3, 4, 4), (4, 3, 4), (4, 4, 3), (0, 0, 0)]
)
def test_rows_must_match(score: int, student: int, teacher: int) -> None:
    with pytest.raises(ValueError, match="same rows, at least one"):
        figures_of(np.zeros(score), np.zeros(student, int), np.zeros(teacher, int), ["area"])


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(BadInput, match="figure of the pair: got 'f1'; expected one of accuracy_at"):
        bootstrap([np.zeros(2)], np.zeros(2, int), np.ones(2, int), ["f1"], seed=0)


def test_an_interval_by_hand() -> None:
    # 0, 1, …, 100: 95 % lie between 2.5 and 97.5, 80 % between 10 and 90.
    values = np.random.default_rng(0).permutation(101).astype(float)
    assert interval(values) == pytest.approx(Interval(2.5, 97.5))
    assert interval(values, confidence=0.8) == pytest.approx(Interval(10, 90))


def test_resamples_without_the_figure_are_left_out_unless_they_are_half() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    assert interval(values, confidence=0.5) == pytest.approx(Interval(1.5, 2.5))
    assert all(math.isnan(end) for end in interval(values[1:]))


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    # AUROC of scores whose order is right with a chance of .8: 40 sets of 200 rows, 90 % intervals.
    # 36 are expected; fewer than 31 have a chance below 2 %.
    rng, covered = np.random.default_rng(0), 0
    for seed in range(40):
        right = rng.integers(0, 2, 200)
        # N(0, 1) against N(1.19, 1): Φ(1.19/√2) = Φ(.8415) = .80.
        score = rng.normal(size=200) + 1.19 * right
        values = bootstrap([score], right, right, ["auroc"], resamples=200, seed=seed)["auroc"]
        low, high = interval(values[0], confidence=0.9)
        covered += low <= 0.80 <= high
    assert covered >= 31


@pytest.mark.parametrize(
    ("errors", "rows", "bound"),
    [
        (0, 10, 1 - 0.05**0.1),  # without an error (1 − p)^n = δ
        (9, 10, 0.95**0.1),  # one right answer: 1 − p^n = δ
        (10, 10, 1.0),
        (0, 0, 1.0),  # nothing seen, nothing known
    ],
)
def test_clopper_and_pearson_by_hand(errors: int, rows: int, bound: float) -> None:
    assert share_upper_bound(errors, rows, 0.95) == pytest.approx(bound)


@given(rows=st.integers(1, 60), data=st.data(), confidence=st.sampled_from([0.5, 0.9, 0.99]))
@settings(max_examples=60, deadline=None)
def test_at_the_bound_so_few_errors_have_the_probability_delta(
    rows: int, data: st.DataObject, confidence: float
) -> None:
    errors = data.draw(st.integers(0, rows - 1))
    p = share_upper_bound(errors, rows, confidence)
    tail = sum(math.comb(rows, k) * p**k * (1 - p) ** (rows - k) for k in range(errors + 1))
    assert tail == pytest.approx(1 - confidence)
