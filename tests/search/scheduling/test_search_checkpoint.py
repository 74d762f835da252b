"""A search that goes on from its memory proposes what it would have proposed from its ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.job.events import CandidateDone
from search.ledger.ledger import Record
from search.samplers import SAMPLERS, Sampler
from search.scheduling.search_checkpoint import SearchCheckpoint, State
from search.space.space import Actions, Space
from tests.search.evaluators import FakeEvaluator, Recorder, Stopped, learner, play

BUDGET, BATCH, SLOTS = 12, 3, 4
MODES = ("synchronous", "streaming")


class Faulty(SearchCheckpoint):
    """Kept after every move; the process ends before or after one of the writings."""

    def __init__(self, path: Path, stop: int | None = None, after: bool = False) -> None:
        super().__init__(path, "job", every=0)
        self.stop, self.after, self.written = stop, after, 0

    def keep(self, sampler: Sampler, state: Callable[[], State]) -> bool:
        if self.written == self.stop and not self.after:
            raise Stopped
        super().keep(sampler, state)
        self.written += 1
        if self.written == self.stop and self.after:
            raise Stopped
        return True


def order_of(records: list[Record]) -> Callable[[FakeEvaluator], Callable[[int], int]]:
    """Candidates finish in the order in which they finished before."""
    places = {record.actions: place for place, record in enumerate(records)}

    def pick(evaluator: FakeEvaluator) -> Callable[[int], int]:
        def first(count: int) -> int:
            out = [places[job.actions] for job in evaluator.out[:count]]
            return out.index(min(out))

        return first

    return pick


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=6, deadline=None)
@given(
    stops=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 6), st.booleans()), min_size=1, max_size=3
    ),
    seed=st.integers(0, 2**31),
)
def test_stopped_anywhere_it_goes_on_as_if_never_stopped(
    space: Space, mode: str, stops: list[tuple[int, int, bool]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = Recorder(learner(space))
        anyhow = FakeEvaluator(pick=lambda count: int(rng.integers(count)), slots=SLOTS)
        _, straight = play(space, folder / "a", anyhow, whole, BUDGET, BATCH, mode=mode)
        pick = order_of(straight)
        finished: list[Actions] = []
        for evaluations, writings, after in (*stops, (None, None, False)):
            evaluator = FakeEvaluator(slots=SLOTS, stop_after=evaluations)
            evaluator.pick = pick(evaluator)
            again = Recorder(learner(space))
            memory = Faulty(folder / "memory", writings, after)
            events, records = play(
                space, folder / "b", evaluator, again, BUDGET, BATCH, mode=mode, memory=memory
            )
            finished += evaluator.finished
        # nothing was distilled twice, and the rest is as in the search that nothing stopped
        assert len(finished) == len(set(finished)) == BUDGET
        assert {(r.actions, r.accuracy, r.proposed) for r in records} == {
            (r.actions, r.accuracy, r.proposed) for r in straight
        }
        assert again.save().to_bytes() == whole.save().to_bytes()
        done = [event for event in events if isinstance(event, CandidateDone)]
        assert [event.number for event in done] == list(range(1, BUDGET + 1))
        # what the file holds need not be proposed again
        made = len(whole.proposals) - len(again.proposals)
        assert again.proposals == whole.proposals[made:]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["evolution", "tpe"])
def test_a_larger_budget_goes_on_from_memory_as_from_the_ledger(
    space: Space, tmp_path: Path, mode: str, name: str
) -> None:
    def go(path: Path, budget: int, memory: SearchCheckpoint | None) -> Recorder:
        sampler = Recorder(SAMPLERS[name](space, 3))
        evaluator = FakeEvaluator(slots=2)
        play(space, path, evaluator, sampler, budget, BATCH, mode=mode, memory=memory)
        return sampler

    # the last batch of the small budget is cut short
    go(tmp_path / "a", 14, Faulty(tmp_path / "memory"))
    remembered = go(tmp_path / "a", 18, Faulty(tmp_path / "memory"))
    go(tmp_path / "b", 14, None)
    replayed = go(tmp_path / "b", 18, None)
    assert len(remembered.proposals) < 8
    assert remembered.proposals == replayed.proposals[-len(remembered.proposals) :]
    assert remembered.save().to_bytes() == replayed.save().to_bytes()


class TestWhatIsNotUsed:
    """Without a file that can be trusted everything is proposed again, to the same end."""

    @pytest.fixture
    def stopped(self, space: Space, tmp_path: Path) -> Path:
        evaluator = FakeEvaluator(slots=SLOTS, stop_after=8)
        play(space, tmp_path / "ledger", evaluator, budget=BUDGET, batch=BATCH, memory=Faulty(
            tmp_path / "memory"))  # fmt: skip
        return tmp_path

    def proposals_after(self, space: Space, folder: Path, memory: SearchCheckpoint) -> int:
        sampler = Recorder(learner(space))
        play(space, folder / "ledger", FakeEvaluator(), sampler, BUDGET, BATCH, memory=memory)
        assert sampler.save().to_bytes() == self.undisturbed(space, folder)
        return len(sampler.proposals)

    def undisturbed(self, space: Space, folder: Path) -> bytes:
        sampler = learner(space)
        play(space, folder / "undisturbed", FakeEvaluator(), sampler, BUDGET, BATCH)
        return sampler.save().to_bytes()

    def test_a_whole_one_is_used(self, space: Space, stopped: Path) -> None:
        assert self.proposals_after(space, stopped, Faulty(stopped / "memory")) < BUDGET

    def test_a_torn_one(self, space: Space, stopped: Path) -> None:
        path = stopped / "memory"
        path.write_bytes(path.read_bytes()[:-9])
        assert self.proposals_after(space, stopped, Faulty(path)) >= BUDGET

    def test_one_of_another_job(self, space: Space, stopped: Path) -> None:
        memory = SearchCheckpoint(stopped / "memory", "another job")
        assert self.proposals_after(space, stopped, memory) >= BUDGET

    def test_one_that_knows_more_than_the_ledger(self, space: Space, stopped: Path) -> None:
        (stopped / "ledger").unlink()
        assert self.proposals_after(space, stopped, Faulty(stopped / "memory")) >= BUDGET

    def test_one_of_another_sampler(self, space: Space, stopped: Path) -> None:
        play(
            space, stopped / "other", FakeEvaluator(), SAMPLERS["evolution"](space, 0),
            BUDGET, BATCH, memory=Faulty(stopped / "memory"),
        )  # fmt: skip
        (stopped / "ledger").unlink()
        (stopped / "other").rename(stopped / "ledger")
        sampler = Recorder(learner(space))
        play(space, stopped / "ledger", FakeEvaluator(), sampler, BUDGET, BATCH, memory=Faulty(
            stopped / "memory"))  # fmt: skip
        fresh = learner(space).propose(BATCH)
        assert sampler.proposals[:BATCH] == fresh


def test_it_is_not_written_more_often_than_asked(space: Space, tmp_path: Path) -> None:
    memory = SearchCheckpoint(tmp_path / "memory", "job", every=60)
    sampler = learner(space)
    assert memory.keep(sampler, lambda: State((), {}))
    assert not memory.keep(sampler, lambda: State((), {}))
