"""The finalists keep every limit on cost, by measurement where it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.graph.netspec import NetSpec
from envs.reward import ThresholdReward
from search.finalists.select import choose
from search.job.events import Event, Note
from search.ledger.ledger import Record
from search.space.limits import Limits
from search.space.space import Actions, Space
from tests.search.conftest import HALVES

#: the first layer kept, halved, removed; the others kept
FULL, HALF, NONE = ((first, 2, 2, 2, 2) for first in (2, 1, 0))


def record(actions: Actions, accuracy: float, reward: float, reason: str = "") -> Record:
    return Record(
        key=str(actions),
        actions=actions,
        accuracy=accuracy,
        reward=reward,
        parameters=1,
        bytes=1,
        macs=1,
        seconds=1.0,
        reason=reason,
    )


def by_first(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predicted: 1, 2 and 3 ms."""
    return np.asarray(1 + rows[:, 0], np.float64)


def chosen(
    space: Space,
    records: Sequence[Record],
    times: dict[Actions, float] | None = None,
    count: int = 1,
    plain: Mapping[Any, str] | None = None,
) -> tuple[list[Record], list[Event]]:
    told: list[Event] = []
    origins = {str(actions): name for actions, name in (plain or {}).items()}
    steps = choose(space, records, count, None if times is None else times.__getitem__, origins)
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            found: list[Record] = end.value
            return found, told


def limited(toy: NetSpec, limits: Limits) -> Space:
    return Space(toy, HALVES, ThresholdReward(), limits, by_first)


RECORDS = [record(FULL, 0.97, 3.0), record(HALF, 0.95, 2.0), record(NONE, 0.90, 1.0)]


def test_without_limits_the_reward_decides(space: Space) -> None:
    assert chosen(space, RECORDS[::-1]) == (RECORDS[:1], [])
    assert chosen(space, RECORDS[::-1], count=2) == (RECORDS[:2], [])
    assert chosen(space, RECORDS, count=9) == (RECORDS, [])


def test_who_failed_or_was_stopped_takes_no_part(space: Space) -> None:
    failed = record(FULL, 0.0, 0.0, "it raised")
    stopped = replace(record(HALF, 0.9, 9.0), pruned=True)
    assert chosen(space, [failed, stopped, RECORDS[2]], count=3) == ([RECORDS[2]], [])


def test_candidates_of_a_run_with_other_limits_may_break_these(toy: NetSpec) -> None:
    sizes = [Space(toy, HALVES, ThresholdReward()).cost(r.actions).kb for r in RECORDS]
    assert sizes[0] > sizes[1]
    space = limited(toy, Limits(max_kb=sizes[1]))
    assert chosen(space, RECORDS) == (RECORDS[1:2], [])
    with pytest.raises(BadInput, match="no candidate keeps the limits on cost: got 1 candidates"):
        chosen(space, RECORDS[:1])


def test_where_accuracy_has_a_limit_the_most_accurate_takes_part(toy: NetSpec) -> None:
    """Rewards the other way round: the least accurate is the best by reward."""
    upside = [record(r.actions, r.accuracy, 4 - r.reward) for r in RECORDS]
    space = limited(toy, Limits(min_accuracy=0.5))
    assert chosen(space, upside) == ([upside[2], upside[0]], [])
    assert chosen(space, upside, count=3) == (upside[::-1], [])


def test_the_best_that_is_fast_enough_when_it_is_timed(toy: NetSpec) -> None:
    space = limited(toy, Limits(max_ms=3.0))
    winner, told = chosen(space, RECORDS, {FULL: 2.9})
    assert winner == RECORDS[:1]
    assert "predicted 3 ms, measured 2.9 ms: within --max-ms 3" in str(told[-1])


def test_what_was_measured_corrects_the_prediction(toy: NetSpec) -> None:
    # FULL takes 6 ms instead of 3: twice as long. So HALF is expected to take 4 and is not even
    # timed; NONE, expected to take 2, is
    winner, told = chosen(limited(toy, Limits(max_ms=3.0)), RECORDS, {FULL: 6.0, NONE: 2.2})
    assert winner == [RECORDS[2]]
    notes = [event.text for event in told if isinstance(event, Note)]
    assert "measured 6 ms, more than --max-ms 3 with a margin of 3%" in notes[0]
    assert "predictions count 2.00 times" in notes[0]
    assert "predicted 1 ms, measured 2.2 ms: within" in notes[1]


def test_more_than_one_is_timed_where_more_are_wanted(toy: NetSpec) -> None:
    space = limited(toy, Limits(max_ms=3.0))
    found, _ = chosen(space, RECORDS, {FULL: 3.3, HALF: 2.2, NONE: 1.1}, count=2)
    assert found == RECORDS[1:]


def test_one_that_keeps_the_limit_by_a_hair_wins_only_where_no_other_does(toy: NetSpec) -> None:
    # 2.95 of 3 ms could be 3.05 at the next measurement; HALF has room
    space = limited(toy, Limits(max_ms=3.0))
    assert chosen(space, RECORDS, {FULL: 2.95, HALF: 2.0})[0] == [RECORDS[1]]
    winner, told = chosen(space, RECORDS, {FULL: 2.95, HALF: 3.1, NONE: 3.2})
    assert winner == RECORDS[:1]
    assert "without the margin" in str(told[-1])


def test_the_most_accurate_that_is_fast_enough_takes_part_where_accuracy_has_a_limit(
    toy: NetSpec,
) -> None:
    upside = [record(r.actions, r.accuracy, 4 - r.reward) for r in RECORDS]
    space = limited(toy, Limits(max_ms=3.0, min_accuracy=0.5))
    # FULL, the most accurate, is too slow; HALF is not
    found, _ = chosen(space, upside, {FULL: 3.3, HALF: 2.2, NONE: 1.0})
    assert found == [upside[2], upside[1]]
    # nobody else is: those that the reward chose are finalists all the same
    assert chosen(space, upside, {FULL: 9.0, HALF: 9.0, NONE: 1.0})[0] == [upside[2]]


def test_none_that_is_fast_enough(toy: NetSpec) -> None:
    space = limited(toy, Limits(max_ms=3.0))
    with pytest.raises(BadInput, match=r"--max-ms 3; measured 3\.3, 3\.2, 3\.1 ms") as caught:
        chosen(space, RECORDS, {FULL: 3.3, HALF: 3.2, NONE: 3.1})
    assert "Search anew with --max-ms 3.3 or more" in caught.value.remedy


def test_a_device_that_is_not_here_is_predicted(toy: NetSpec) -> None:
    assert chosen(limited(toy, Limits(max_ms=3.0)), RECORDS) == (RECORDS[:1], [])


def test_plain_students_take_part_beside_what_the_search_found(space: Space) -> None:
    # the uniform and the largest one always, of the others the best
    for name in ("uniform", "largest"):
        assert chosen(space, RECORDS, plain={NONE: name})[0] == [RECORDS[0], RECORDS[2]]
    others = {HALF: "tapered", NONE: "smaller"}
    assert chosen(space, RECORDS, plain=others)[0] == RECORDS[:2]
    both = {HALF: "smaller", NONE: "uniform"}
    assert chosen(space, RECORDS, plain=both)[0] == [RECORDS[0], RECORDS[2], RECORDS[1]]
    # they take no candidate's place, even where they are the best by reward
    ahead = {FULL: "uniform"}
    assert chosen(space, RECORDS, plain=ahead, count=2)[0] == [*RECORDS[1:], RECORDS[0]]
    # where the search found nothing else, they are all there is
    every = {FULL: "uniform", HALF: "largest", NONE: "smaller"}
    assert chosen(space, RECORDS, plain=every)[0] == RECORDS


def test_plain_students_keep_the_limits_as_well(toy: NetSpec) -> None:
    sizes = [Space(toy, HALVES, ThresholdReward()).cost(r.actions).kb for r in RECORDS]
    small = limited(toy, Limits(max_kb=sizes[1]))
    assert chosen(small, RECORDS, plain={FULL: "largest"})[0] == RECORDS[1:2]
    # one that keeps the limit on latency by a hair does not win, and one that breaks it neither
    fast = limited(toy, Limits(max_ms=3.0))
    plain = {HALF: "uniform", NONE: "largest"}
    for ms, expected in ((2.95, 2), (3.5, 2), (2.0, 3)):
        found, _ = chosen(fast, RECORDS, {FULL: 2.0, HALF: ms, NONE: 1.0}, plain=plain)
        assert len(found) == expected
        assert (RECORDS[1] in found) == (ms == 2.0)


def test_every_candidate_failed(space: Space) -> None:
    failed = [record(FULL, 0.0, 0.0, "the loss is nan")]
    with pytest.raises(BadInput, match="got the loss is nan"):
        chosen(space, failed)


def test_the_made_up_device_is_what_these_tests_say(toy: NetSpec) -> None:
    space = limited(toy, Limits())
    assert [space.ms(actions) for actions in (FULL, HALF, NONE)] == [3.0, 2.0, 1.0]
    assert all(np.isfinite(space.ms(tuple(a))) for a in product((1, 2), repeat=5))
