"""The search loop against an evaluator whose order and faults the test decides."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.graph.netspec import NetSpec
from envs.reward import ThresholdReward
from search.job.events import CandidateDone, Note
from search.ledger.ledger import Record
from search.scheduling.loop import best
from search.scheduling.trial_state import MAX_REPEATS
from search.space.space import Actions, Space
from tests.search.conftest import FINE, HALVES
from tests.search.evaluators import FakeEvaluator, Listener, accuracy, play

BUDGET, BATCH = 10, 3


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ledger.journal"


def facts(records: Sequence[Record]) -> list[tuple[str, Actions, float, float]]:
    return [(r.key, r.actions, r.accuracy, r.reward) for r in records]


def test_the_budget_counts_distinct_candidates(space: Space, journal: Path) -> None:
    events, records = play(space, journal, FakeEvaluator())
    assert len(records) == BUDGET
    assert len({record.key for record in records}) == BUDGET
    done = [event for event in events if isinstance(event, CandidateDone)]
    assert [event.number for event in done] == list(range(1, BUDGET + 1))
    assert all(event.budget == BUDGET and not event.replayed for event in done)


def test_events_carry_the_best_so_far(space: Space, journal: Path) -> None:
    events, records = play(space, journal, FakeEvaluator())
    rewards = [record.reward for record in records]
    told = [event.best_reward for event in events if isinstance(event, CandidateDone)]
    assert told == np.maximum.accumulate(rewards).tolist()
    winner = best(records)
    assert winner is not None
    assert winner.reward == max(rewards)


def test_a_record_holds_exact_cost_and_reward(space: Space, journal: Path) -> None:
    _, records = play(space, journal, FakeEvaluator(), budget=3)
    for record in records:
        spent = space.cost(record.actions)
        assert (record.parameters, record.bytes, record.macs) == (
            spent.parameters,
            spent.bytes,
            spent.macs,
        )
        assert record.accuracy == accuracy(record.actions)
        assert record.reward == space.reward_of(record.actions, record.accuracy)


def test_duplicates_cost_nothing_and_are_told_all_the_same(toy: NetSpec, journal: Path) -> None:
    space = Space(toy, FINE, ThresholdReward())
    one, same = (1, 7, 7, 7, 7), (2, 7, 7, 7, 7)  # .05 and .1 of 10 outputs are both 1
    other, third = (7, 1, 7, 7, 7), (7, 2, 7, 7, 7)
    sampler = Listener([one, same, other, one, third, other])
    evaluator = FakeEvaluator()
    _, records = play(space, journal, evaluator, sampler, budget=3, batch=3)
    # a twin within the batch and a repeat in the next one are both answered for nothing
    assert evaluator.asked == [one, other, third]
    assert [record.actions for record in records] == [one, other, third]
    assert len(records) == 3
    assert sampler.told[0][0] == [one, same, other]
    assert sampler.told[0][1][0] == sampler.told[0][1][1] == records[0].reward
    # the budget lacked one candidate, so one was asked for: the repeat, and then the third
    assert sampler.told[1] == ([one], [records[0].reward])
    assert sampler.told[2] == ([third], [records[2].reward])


@settings(max_examples=15, deadline=None)
@given(shuffles=st.integers(0, 2**31))
def test_the_order_of_arrival_changes_no_proposal(space: Space, shuffles: int) -> None:
    rng = np.random.default_rng(shuffles)
    with tempfile.TemporaryDirectory() as folder:
        _, straight = play(space, Path(folder) / "a.journal", FakeEvaluator())
        _, mixed = play(
            space,
            Path(folder) / "b.journal",
            FakeEvaluator(pick=lambda count: int(rng.integers(count))),
        )
    assert sorted(facts(mixed)) == sorted(facts(straight))


@settings(max_examples=15, deadline=None)
@given(stops=st.lists(st.integers(0, 4), min_size=1, max_size=3), backwards=st.booleans())
def test_stopped_and_resumed_is_as_if_never_stopped(
    space: Space, stops: list[int], backwards: bool
) -> None:
    def order(count: int) -> int:
        return count - 1 if backwards else 0

    with tempfile.TemporaryDirectory() as folder:
        _, whole = play(space, Path(folder) / "whole.journal", FakeEvaluator(order))
        path = Path(folder) / "stopped.journal"
        asked: list[Actions] = []
        for stop in (*stops, None):
            evaluator = FakeEvaluator(order, stop_after=stop)
            before = len(asked)
            events, records = play(space, path, evaluator)
            asked += evaluator.finished
            replayed = [e for e in events if isinstance(e, CandidateDone) and e.replayed]
            # what was finished is met again, never distilled again
            assert len(replayed) <= before
        assert sorted(facts(records)) == sorted(facts(whole))
        assert len(asked) == len(set(asked)) == BUDGET


def test_resuming_with_a_larger_budget_goes_on(space: Space, journal: Path) -> None:
    play(space, journal, FakeEvaluator(), budget=4, batch=2)
    evaluator = FakeEvaluator()
    events, records = play(space, journal, evaluator, budget=8, batch=2)
    done = [event for event in events if isinstance(event, CandidateDone)]
    assert [event.replayed for event in done] == [True] * 4 + [False] * 4
    assert len(evaluator.asked) == 4
    assert len(records) == 8


def test_a_failure_is_a_candidate_with_reward_0_and_a_reason(space: Space, journal: Path) -> None:
    def reasons(actions: Actions) -> str:
        return "Diverged: nan after 3 steps" if actions[0] == 0 else ""

    events, records = play(space, journal, FakeEvaluator(reasons=reasons))
    failed = [record for record in records if record.failed]
    assert failed
    assert all(record.actions[0] == 0 for record in failed)
    assert {(r.accuracy, r.reward, r.reason) for r in failed} == {
        (0.0, 0.0, "Diverged: nan after 3 steps")
    }
    told = [event for event in events if isinstance(event, CandidateDone) and event.reason]
    assert len(told) == len(failed)
    winner = best(records)
    assert winner is not None
    assert not winner.failed


def test_where_all_fail_there_is_no_best(space: Space, journal: Path) -> None:
    _, records = play(space, journal, FakeEvaluator(reasons=lambda actions: "no"), budget=3)
    assert len(records) == 3
    assert best(records) is None


def test_of_equals_the_first_is_the_best() -> None:
    made = [Record(f"k{i}", (2,), 0.5, reward, 1, 1, 1, 0.1) for i, reward in enumerate([1, 3, 3])]
    winner = best(made)
    assert winner is not None
    assert winner.key == "k1"


def test_a_space_smaller_than_the_budget_ends_with_a_note(toy: NetSpec, journal: Path) -> None:
    space = Space(toy, HALVES, ThresholdReward())
    # two candidates, again and again
    one, other = (1, 2, 2, 2, 2), (2, 1, 2, 2, 2)
    sampler = Listener([one, other] * (2 * MAX_REPEATS))
    events, records = play(space, journal, FakeEvaluator(), sampler, budget=5, batch=2)
    assert len(records) == 2
    assert isinstance(events[-1], Note)
    assert events[-1].warning
    assert "the search ends at 2" in events[-1].text
    # the batch that was new, then MAX_REPEATS proposals that were not
    assert len(sampler.told) == 1 + MAX_REPEATS // 2


def test_the_deadline_ends_it_between_batches(space: Space, journal: Path) -> None:
    asked = iter([False, False, True])
    events, records = play(space, journal, FakeEvaluator(), deadline=lambda: next(asked))
    assert isinstance(events[-1], Note)
    assert f"the time is up after {len(records)} of {BUDGET} candidates" in events[-1].text
    assert 0 < len(records) <= 2 * BATCH
