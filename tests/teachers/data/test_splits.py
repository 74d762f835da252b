from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.splits import HeldOut, hold_out, parse_unseen, withhold_router


@pytest.mark.parametrize(
    ("text", "first", "last", "rows"),
    [
        ("last 5000 rows of train.parquet", 55_000, 59_999, 5_000),
        ("last 5000", 55_000, 59_999, 5_000),
        ("Last 5,000 rows", 55_000, 59_999, 5_000),
        ("first 10", 0, 9, 10),
        ("100:200", 100, 199, 100),
        (" all ", 0, 59_999, 60_000),
    ],
)
def test_the_ways_to_name_unseen_rows(text: str, first: int, last: int, rows: int) -> None:
    unseen = parse_unseen(text, 60_000)
    assert unseen is not None
    assert (unseen[0], unseen[-1], len(unseen)) == (first, last, rows)


@pytest.mark.parametrize("text", [None, "none", "None", ""])
def test_nobody_may_know_the_unseen_rows(text: str | None) -> None:
    assert parse_unseen(text, 10) is None


@pytest.mark.parametrize(
    "text", ["some", "last", "last -3", "3:", "a:b", "last 5 rows of", "last ,", "1:2:3"]
)
def test_other_texts_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(BadInput, match="unseen"):
        parse_unseen(text, 10)


@pytest.mark.parametrize("text", ["last 11", "first 11", "5:11", "5:5", "6:5", "last 0"])
def test_rows_outside_the_table_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="outside the training table"):
        parse_unseen(text, 10)


def _labels(rows: int, classes: int = 10) -> NDArray[np.int64]:
    return np.arange(rows, dtype=np.int64) % classes


def test_with_a_test_table_the_unseen_rows_are_halved() -> None:
    # 1,000 training rows, 200 test rows; the teacher never saw rows 800..999.
    held = hold_out(_labels(1_200), 1_000, unseen=np.arange(800, 1_000), seed=0)
    assert held.teacher_unseen
    assert len(held.validation) == len(held.calibration) == 100
    assert held.test.tolist() == list(range(1_000, 1_200))
    assert held.rest.tolist() == list(range(800))
    # Ten classes, so ten rows of each in either half.
    assert np.bincount(_labels(1_200)[held.validation]).tolist() == [10] * 10


def test_without_a_test_table_test_too_comes_from_unseen_rows() -> None:
    held = hold_out(_labels(1_000), 1_000, unseen=np.arange(800, 1_000), seed=0)
    assert (len(held.validation), len(held.calibration), len(held.test)) == (60, 60, 80)
    assert held.rest.tolist() == list(range(800))


@pytest.mark.parametrize(("test_rows", "sizes"), [(0, (100, 100, 200)), (50, (100, 100, 50))])
def test_where_nobody_knows_parts_are_cut_at_random(
    test_rows: int, sizes: tuple[int, int, int]
) -> None:
    held = hold_out(_labels(1_000 + test_rows), 1_000, unseen=None, seed=0)
    assert not held.teacher_unseen
    assert (len(held.validation), len(held.calibration), len(held.test)) == sizes
    assert held.validation.tolist() != list(range(100))


def test_a_teacher_that_saw_nothing_leaves_rows_to_learn_from() -> None:
    held = hold_out(_labels(1_000), 1_000, unseen=np.arange(1_000), seed=0)
    assert held.teacher_unseen
    assert (len(held.validation), len(held.test), len(held.rest)) == (100, 200, 600)


def test_the_seed_decides() -> None:
    one, same, other = (hold_out(_labels(500), 500, unseen=None, seed=s) for s in (1, 1, 2))
    assert one.validation.tolist() == same.validation.tolist()
    assert one.validation.tolist() != other.validation.tolist()


def _held(rows: int) -> HeldOut:
    labels = _labels(rows + 30)
    return hold_out(labels, rows + 20, unseen=np.arange(rows, rows + 20), seed=0)


@pytest.mark.parametrize(
    ("rows", "error_rate", "size"),
    [
        (10_000, 0.05, 2_000),  # 100 errors / .05
        (10_000, 0.5, 1_000),  # 200 rows would do, but a tenth is the least
        (10_000, 0.01, 3_333),  # 10,000 rows wanted, a third is the most
        (10_000, 0.0, 3_333),  # a student without errors: as many rows as allowed
        (300, 0.9, 100),  # 112 rows wanted, a third is the most
        (400, 2.0, 50),  # 50 rows wanted, more than a tenth
    ],
)
def test_the_router_part_is_sized_for_its_errors(rows: int, error_rate: float, size: int) -> None:
    parts = withhold_router(_held(rows), _labels(rows + 30), error_rate=error_rate, seed=0)
    assert len(parts.router) == size
    assert parts.counts() == {
        "distillation": rows - size,
        "router": size,
        "validation": 10,
        "calibration": 10,
        "test": 10,
    }


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(BadInput, match="too few rows"):
        hold_out(_labels(4, 2), 4, unseen=None, seed=0)
    with pytest.raises(BadInput, match="calibration"):
        hold_out(_labels(10, 2), 9, unseen=np.array([8]), seed=0)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=60, max_size=300),
    test_rows=st.integers(0, 20),
    unseen=st.one_of(st.none(), st.integers(10, 40)),
    error_rate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_five_parts_share_no_row_and_cover_all(
    labels: list[int], test_rows: int, unseen: int | None, error_rate: float, seed: int
) -> None:
    """Whatever the labels (classes of one row, missing classes), sizes and seed."""
    array = np.array(labels, dtype=np.int64)
    train_rows = len(array) - test_rows
    rows = None if unseen is None else np.arange(train_rows - unseen, train_rows)
    held = hold_out(array, train_rows, unseen=rows, seed=seed)
    parts = withhold_router(held, array, error_rate=error_rate, seed=seed)
    five = [
        parts.distillation, parts.router, parts.validation, parts.calibration, parts.test
    ]  # fmt: skip
    assert sorted(np.concatenate(five).tolist()) == list(range(len(array)))
    assert all(len(part) > 0 and (np.diff(part) > 0).all() for part in five)
    assert sum(parts.counts().values()) == len(array)
    if rows is not None:
        learnt = np.concatenate([parts.distillation, parts.router])
        assert not np.isin(rows, learnt).any()
        assert np.isin(np.concatenate([parts.validation, parts.calibration]), rows).all()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 80), min_size=2, max_size=6),
    seed=st.integers(0, 1000),
)
def test_every_part_has_its_share_of_every_class(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if len(labels) < 20:
        return
    held = hold_out(labels, len(labels), unseen=None, seed=seed)
    for part in (held.validation, held.calibration, held.test, held.rest):
        counts = np.bincount(labels[part], minlength=len(sizes))
        expected = np.array(sizes) * len(part) / len(labels)
        # Each class is spread evenly, so a part is off by its two ends and by rounding.
        assert (np.abs(counts - expected) <= 1 + len(sizes)).all()
