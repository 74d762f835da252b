"""Streaming mode: the order of arrival counts, and the ledger keeps it."""

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
from search.job.events import CandidateDone, CandidateRunning, Note
from search.ledger.ledger import Record
from search.scheduling.trial_state import MAX_REPEATS
from search.space.space import Actions, Space
from tests.search.conftest import FINE, HALVES
from tests.search.evaluators import FakeEvaluator, Listener, Recorder, learner, play

BUDGET, BATCH, SLOTS = 12, 3, 4


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ledger.journal"


class InOrder(FakeEvaluator):
    """Candidates finish in an order that was recorded before."""

    def __init__(self, order: Sequence[Actions], **options: int | None) -> None:
        super().__init__(pick=self._next, slots=SLOTS, **options)  # type: ignore[arg-type]
        self.order = {actions: place for place, actions in enumerate(order)}

    def _next(self, count: int) -> int:
        places = [self.order[job.actions] for job in self.out]
        return places.index(min(places))


def facts(records: Sequence[Record]) -> list[tuple[Actions, float, float, int]]:
    return [(r.actions, r.accuracy, r.reward, r.proposed) for r in records]


def test_slots_are_kept_full_and_never_more_is_handed_out(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(slots=SLOTS)
    _, records = play(space, journal, evaluator, budget=BUDGET, batch=BATCH, mode="streaming")
    assert len(records) == len(evaluator.asked) == len(set(evaluator.asked)) == BUDGET
    assert evaluator.most == SLOTS


def test_slots_that_come_and_go_are_followed(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(slots=1)

    def grow(count: int) -> int:
        evaluator.slots = 3
        return 0

    evaluator.pick = grow
    play(space, journal, evaluator, budget=BUDGET, batch=BATCH, mode="streaming")
    assert evaluator.most == 3


def test_rewards_are_told_in_the_order_of_arrival_in_groups(toy: NetSpec, journal: Path) -> None:
    space = Space(toy, FINE, ThresholdReward())
    a, b, c, d = ((width, 7, 7, 7, 7) for width in (3, 4, 5, 6))
    sampler = Listener([a, b, c, d])
    # the last of two under way is always the first to finish: b, then c, then d; a at the end
    evaluator = FakeEvaluator(pick=lambda count: count - 1, slots=2)
    _, records = play(space, journal, evaluator, sampler, budget=4, batch=2, mode="streaming")
    assert [record.actions for record in records] == [b, c, d, a]
    # two proposals had been made when b arrived, three when c did
    assert [record.proposed for record in records] == [2, 3, 4, 4]
    assert [proposals for proposals, _ in sampler.told] == [[b, c], [d, a]]
    assert sampler.told[0][1] == [records[0].reward, records[1].reward]


def test_duplicates_cost_nothing(toy: NetSpec, journal: Path) -> None:
    space = Space(toy, FINE, ThresholdReward())
    one, same = (1, 7, 7, 7, 7), (2, 7, 7, 7, 7)  # .05 and .1 of 10 outputs are both 1
    other, third = (7, 1, 7, 7, 7), (7, 2, 7, 7, 7)
    sampler = Listener([one, same, other, one, third])
    evaluator = FakeEvaluator(slots=2)
    _, records = play(space, journal, evaluator, sampler, budget=3, batch=2, mode="streaming")
    assert evaluator.asked == [one, other, third]
    # the twin of a pending candidate arrives with it; a finished one is answered at once
    assert [proposals for proposals, _ in sampler.told] == [[one, same], [one, other]]
    assert sampler.told[0][1] == [records[0].reward] * 2


@settings(max_examples=6, deadline=None)
@given(
    stops=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_stopped_and_resumed_proposes_as_if_never_stopped(
    space: Space, stops: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Recorder(learner(space))
        anyhow = FakeEvaluator(pick=lambda count: int(rng.integers(count)), slots=SLOTS)
        _, straight = play(
            space, Path(folder) / "a", anyhow, whole, BUDGET, BATCH, mode="streaming"
        )
        order = [record.actions for record in straight]
        finished: list[Actions] = []
        for stop in (*stops, None):
            evaluator = InOrder(order, stop_after=stop)
            again = Recorder(learner(space))
            events, records = play(
                space, Path(folder) / "b", evaluator, again, BUDGET, BATCH, mode="streaming"
            )
            done = [event for event in events if isinstance(event, CandidateDone)]
            assert sum(event.replayed for event in done) == len(finished)
            finished += evaluator.finished
        assert facts(records) == facts(straight)
        assert again.proposals == whole.proposals
        assert len(finished) == len(set(finished)) == BUDGET


def test_what_was_pending_is_handed_out_first(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(slots=SLOTS, stop_after=3)
    play(space, journal, evaluator, budget=BUDGET, batch=BATCH, mode="streaming")
    pending = [job.actions for job in evaluator.out]
    assert len(pending) == SLOTS
    # even where there are fewer slots than before
    resumed = FakeEvaluator(slots=2)
    play(space, journal, resumed, budget=BUDGET, batch=BATCH, mode="streaming")
    assert resumed.asked[: SLOTS - 1] == pending[: SLOTS - 1]
    assert resumed.most == 2


def test_a_ledger_that_nobody_can_walk_through_is_used_all_the_same(
    space: Space, journal: Path
) -> None:
    # records of the synchronous mode stand in for those of another version of the sampler
    _, before = play(space, journal, FakeEvaluator(), learner(space, seed=1), budget=4, batch=2)
    backwards = Listener([record.actions for record in reversed(before)])
    evaluator = FakeEvaluator()
    events, records = play(
        space, journal, evaluator, backwards, budget=4, batch=2, mode="streaming"
    )
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].startswith("the ledger cannot be walked through from candidate 1 on")
    assert [proposals for proposals, _ in backwards.told] == [
        [r.actions for r in reversed(before[2:])],
        [r.actions for r in reversed(before[:2])],
    ]
    assert records == before
    assert evaluator.asked == []


def test_a_larger_budget_goes_on(space: Space, journal: Path) -> None:
    play(space, journal, FakeEvaluator(), budget=4, batch=BATCH, mode="streaming")
    evaluator = FakeEvaluator()
    _, records = play(space, journal, evaluator, budget=8, batch=BATCH, mode="streaming")
    assert len(evaluator.asked) == 4
    assert len({record.key for record in records}) == 8


def test_when_the_time_is_up_what_is_under_way_still_counts(space: Space, journal: Path) -> None:
    asked = iter([False] * 5 + [True])
    events, records = play(
        space, journal, FakeEvaluator(slots=SLOTS), budget=BUDGET, batch=BATCH, mode="streaming",
        deadline=lambda: next(asked),
    )  # fmt: skip
    note = events[-1]
    assert isinstance(note, Note)
    assert note.text == f"the time is up after {len(records)} of {BUDGET} candidates"
    assert 0 < len(records) < BUDGET


def test_a_space_smaller_than_the_budget_ends_with_a_note(toy: NetSpec, journal: Path) -> None:
    space = Space(toy, HALVES, ThresholdReward())
    one, other = (1, 2, 2, 2, 2), (2, 1, 2, 2, 2)
    sampler = Listener([one, other] * (2 * MAX_REPEATS))
    events, records = play(
        space, journal, FakeEvaluator(), sampler, budget=5, batch=2, mode="streaming"
    )
    assert len(records) == 2
    note = events[-1]
    assert isinstance(note, Note)
    assert "the search ends at 2" in note.text


def test_news_of_candidates_under_way_are_passed_on(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(talks=True)
    events, records = play(space, journal, evaluator, budget=BUDGET, batch=BATCH, mode="streaming")
    news = [event for event in events if isinstance(event, CandidateRunning)]
    assert [event.number for event in news] == list(range(1, BUDGET + 1))
    assert {event.key for event in news} == {record.key for record in records}
