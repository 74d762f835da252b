"""The front of size and accuracy, and what it covers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.space.pareto import hypervolume, pareto_front


def test_the_pareto_front_by_hand() -> None:
    """In ascending KB: b (100, .90) leads; d (150, .90) is larger and no better; a (200, .95)
    leads; e (200, .94) has the same size and less; c (300, .93) is beaten by a; f (400, .96)
    leads; g repeats f, and the first is kept.
    """
    a, b, c, d = (200, 0.95), (100, 0.90), (300, 0.93), (150, 0.90)
    e, f, g = (200, 0.94), (400, 0.96), (400, 0.96)
    assert pareto_front([a, b, c, d, e, f, g]) == [1, 0, 5]
    assert pareto_front([]) == []


@given(st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(0, 9).map(float)), max_size=12))
@settings(max_examples=100, deadline=None)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    def beats(p: tuple[float, float], q: tuple[float, float]) -> bool:
        return p != q and p[0] <= q[0] and p[1] >= q[1]

    front = pareto_front(points)
    assert len({points[i] for i in front}) == len(front)
    expected = {q for q in points if not any(beats(p, q) for p in points)}
    assert {points[i] for i in front} == expected


def test_the_hypervolume_by_hand() -> None:
    """A teacher of 100 KB, ten classes: both axes from (100 KB, 10 %) to (0 KB, 100 %).

    (50 KB, 55 %) covers ½ × ½ = ¼. (25 KB, 28 %) covers ¾ × .2 = .15, of which ½ × .2 = .1 was
    covered: .30. (60 KB, 50 %) adds nothing. (75 KB, 100 %) covers ¼ × 1, and new is what lies
    above ½: ¼ × ½ = .125.
    """
    kb, accuracy = [50, 25, 60, 75], [0.55, 0.28, 0.5, 1.0]
    assert hypervolume(kb, accuracy, 100, 0.1) == pytest.approx([0.25, 0.30, 0.30, 0.425])


def test_what_is_worse_than_the_reference_covers_nothing() -> None:
    assert hypervolume([150, 50], [0.9, 0.05], 100, 0.1).tolist() == [0, 0]
    assert hypervolume([], [], 100, 0.1).tolist() == []


POINTS = st.lists(st.tuples(st.floats(0, 120), st.floats(0, 1)), min_size=1, max_size=8)


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_the_hypervolume_is_the_area_of_the_union(points: list[tuple[float, float]]) -> None:
    kb, accuracy = np.array(points).T
    found = hypervolume(kb, accuracy, 100, 0.1)
    assert np.all(np.diff(found) >= -1e-12)
    assert 0 <= found[-1] <= 1
    # counted on the cells between all coordinates
    x = np.clip(1 - kb / 100, 0, 1)
    y = np.clip((accuracy - 0.1) / 0.9, 0, 1)
    xs, ys = np.unique([0, *x]), np.unique([0, *y])
    area = 0.0
    for low_x, high_x in itertools.pairwise(xs):
        for low_y, high_y in itertools.pairwise(ys):
            covered = bool(((x >= high_x) & (y >= high_y)).any())
            area += covered * (high_x - low_x) * (high_y - low_y)
    assert found[-1] == pytest.approx(area, abs=1e-9)
