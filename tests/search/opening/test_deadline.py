"""What still fits before the end of a job's time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from envs.graph.netspec import NetSpec
from search.job.spec import make_spec
from search.ledger.ledger import Record
from search.opening.deadline import Deadline, FullTrainings, proxies_of_finalists
from search.space.training_plan import training_plan
from tests.search.schools import pretended

PLAN = replace(
    training_plan(make_spec({"teacher": "t", "data": "digits", "out": "x"}), 1000, 10),
    rows=1000,
    proxy_rows=500,
    proxy_epochs=4,
    final_epochs=20,
)


def record(key: str, accuracy: float = 0.9, seconds: float = 3.0) -> Record:
    return Record(key, (0,), accuracy, accuracy, 1, 4, 1, seconds)


def at(second: float, minutes: float | None = 1.0) -> Deadline:
    return Deadline(minutes, 100.0, clock=lambda: 100.0 + second)


def test_a_deadline_allows_what_ends_before_it() -> None:
    assert at(50).left == 10
    assert at(50).allows(10)
    assert not at(50).allows(10.1)
    assert at(70).left == -10
    assert at(1e9, minutes=None).left == math.inf


def test_a_full_training_takes_as_many_times_as_long_as_it_sees_images() -> None:
    # 20 · 1000 images against 4 · 500
    one_by_one, pairs = FullTrainings(PLAN, 1), FullTrainings(PLAN, 2)
    assert one_by_one.seconds([3.0]) == 30
    assert one_by_one.seconds([3.0, 1.0, 2.0]) == 90
    assert pairs.seconds([3.0, 1.0, 2.0]) == 60
    assert pairs.seconds([]) == 0


@pytest.mark.parametrize(
    ("second", "chosen"),
    # two run together, so b costs nothing beside a, and d would have to wait for them
    [(0, ["a", "b", "c", "d"]), (29, ["a", "b", "c"]), (59, ["c", "d"]), (59.5, ["c"])],
)
def test_those_that_are_trained_take_part_and_others_while_there_is_time(
    second: float, chosen: list[str]
) -> None:
    # a and b take 30 s, d takes 1 s; c was trained before
    finalists = [record("a"), record("b"), record("c"), record("d", seconds=0.1)]
    found = FullTrainings(PLAN, 2).in_time(finalists, {"c"}, at(second))
    assert [one.key for one in found] == chosen


def test_one_student_is_trained_however_late_it_is() -> None:
    finalists = [record("a"), record("b")]
    assert FullTrainings(PLAN, 2).in_time(finalists, (), at(1e6)) == finalists[:1]


def test_who_would_be_trained_if_the_search_ended_now(toy: NetSpec) -> None:
    job = pretended(toy, finalists=2)
    searched = [record(f"s{i}", 0.9 - i / 100, seconds=10.0 + i) for i in range(4)]
    plain = [record(f"p{i}", 0.5 - i / 100, seconds=20.0 + i) for i in range(4)]
    records, names = [*plain, *searched], {one.key for one in plain}
    assert proxies_of_finalists(records, job, names) == [10.0, 11.0, 20.0, 21.0, 22.0]
    # two of them are trained already, as is one of the search
    job.space.reached |= {"p0": 0.9, "p1": 0.9, "s0": 0.9}
    assert proxies_of_finalists(records, job, names) == [11.0, 22.0]
    careful = pretended(toy, finalists=2, max_drop=0.1)
    assert proxies_of_finalists(records[4:], careful, names) == [10.0, 11.0, 10.0]
    assert proxies_of_finalists([], careful, names) == []
