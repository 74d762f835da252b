"""Successive halving: who goes on, and what the ledger says of the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edge.errors import BadInput
from search.job.events import CandidateDone
from search.ledger.ledger import STUDY, Record
from search.scheduling.halving import Halving, Rung
from search.scheduling.loop import best
from search.space.space import Actions, Space
from tests.search.evaluators import EPOCHS, FakeEvaluator, accuracy, learner, play


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ledger.journal"


@pytest.mark.parametrize(
    ("epochs", "factor", "rungs"),
    [(3, 1, ()), (3, 2, (1, 2)), (8, 2, (1, 2, 4)), (9, 2, (1, 2, 4, 8)), (3, 3, (1,)), (1, 1, ())],
)
def test_rungs_are_the_powers_of_the_factor(
    epochs: int, factor: int, rungs: tuple[int, ...]
) -> None:
    halving = Halving(epochs, factor)
    assert halving.rungs == rungs
    assert halving.stops == (*rungs, epochs)
    assert [halving.after(stop) for stop in (0, *rungs)] == list(halving.stops)


def test_where_no_epoch_is_left_to_stop_at_it_is_refused() -> None:
    with pytest.raises(BadInput, match="there is nothing to halve") as caught:
        Halving(1, 2)
    assert caught.value.remedy == "Raise --proxy-epochs, or leave --halving at 1."


def test_one_in_factor_goes_on() -> None:
    at_rung = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2}
    # 4 // 2 = 2 places
    assert Halving(3, 2).survivors(at_rung) == {"b", "c"}
    # 4 // 3 = 1 place, and where 4 // 5 = 0, still one
    assert Halving(3, 3).survivors(at_rung) == {"b"}
    assert Halving(9, 5).survivors(at_rung) == {"b"}


def test_equals_share_their_fate() -> None:
    assert Halving(3, 2).survivors({"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.2}) == {"a", "b", "c"}
    assert Halving(3, 2).survivors({"a": 0.3}) == {"a"}


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    factor=st.integers(2, 4),
)
def test_survivors_are_the_best_whatever_the_order(values: list[int], factor: int) -> None:
    at_rung = {number: value / 30 for number, value in enumerate(values)}
    survivors = Halving(9, factor).survivors(at_rung)
    places = max(1, len(values) // factor)
    # the place-th best sets the bar, and whoever reaches it goes on
    bar = sorted(values)[-places] / 30
    assert survivors == {number for number, value in at_rung.items() if value >= bar}


def test_at_a_rung_each_is_compared_with_those_before() -> None:
    rung = Rung(2)
    # alone; worse than the one before; best of three; second of four, where two have a place
    assert [rung.enter(value) for value in (0.5, 0.4, 0.7, 0.6)] == [True, False, True, True]


def test_a_batch_is_halved_at_every_rung(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(pick=lambda count: count - 1)
    events, records = play(space, journal, evaluator, budget=4, batch=4, factor=2)

    # a candidate is judged by its reward, so a small one may be less accurate and go on
    def reward(actions: Actions, epoch: int) -> float:
        return space.reward_of(actions, accuracy(actions, epoch))

    first = sorted(evaluator.asked, key=lambda actions: reward(actions, 1), reverse=True)
    ranked = sorted(first[:2], key=lambda actions: reward(actions, 2), reverse=True) + first[2:]
    # rungs at 1 and 2 of 4 epochs: four train for one epoch, two for another, one to the end
    trained = {record.actions: record.epochs for record in records}
    assert [trained[actions] for actions in ranked] == [4, 2, 1, 1]
    assert [(job.epochs, job.state is None) for job in evaluator.jobs] == [
        *[(1, True)] * 4,
        *[(2, False)] * 2,
        (4, False),
    ]
    done = [event for event in events if isinstance(event, CandidateDone)]
    assert [event.pruned for event in done] == [True, True, True, False]


def test_what_was_stopped_stands_in_the_ledger_but_cannot_win(space: Space, journal: Path) -> None:
    _, records = play(space, journal, FakeEvaluator(), budget=4, batch=4, factor=2)
    stopped = [record for record in records if record.pruned]
    assert len(stopped) == 3
    for record in stopped:
        assert record.accuracy == accuracy(record.actions, record.epochs) == record.curve[-1]
        assert record.reward == space.reward_of(record.actions, record.accuracy)
        assert len(record.curve) == record.epochs
    (winner,) = (record for record in records if record.whole)
    assert best(records) == winner
    study = optuna.load_study(
        study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(journal)))
    )
    states = [trial.state.name for trial in study.trials]
    assert states == ["PRUNED"] * 3 + ["COMPLETE"]
    assert study.best_trial.number == 3
    assert study.trials[3].intermediate_values == dict(enumerate(winner.curve, 1))


def test_a_candidate_that_fails_after_a_rung_is_a_failure(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(fails_at=EPOCHS)
    _, records = play(space, journal, evaluator, budget=4, batch=4, factor=2)
    (failed,) = (record for record in records if record.failed)
    assert (failed.accuracy, failed.reward, failed.pruned) == (0.0, 0.0, False)
    # what is known of its first epochs is kept: it has competed with that
    assert failed.curve == (accuracy(failed.actions, 1), accuracy(failed.actions, 2))
    assert best(records) is None


def facts(records: list[Record]) -> list[tuple[Actions, float, float, int, bool]]:
    return sorted((r.actions, r.accuracy, r.reward, r.epochs, r.pruned) for r in records)


@settings(max_examples=6, deadline=None)
@given(
    stops=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    backwards=st.booleans(),
)
def test_halving_is_the_same_whatever_was_stopped_when(
    space: Space, stops: list[int], backwards: bool
) -> None:
    def pick(count: int) -> int:
        return count - 1 if backwards else 0

    with tempfile.TemporaryDirectory() as folder:
        _, straight = play(space, Path(folder) / "a", FakeEvaluator(), batch=4, factor=2)
        written = 0
        for stop in (*stops, None):
            evaluator = FakeEvaluator(pick, stop_after=stop)
            events, records = play(space, Path(folder) / "b", evaluator, batch=4, factor=2)
            fresh = [e for e in events if isinstance(e, CandidateDone) and not e.replayed]
            written += len(fresh)
        assert facts(records) == facts(straight)
        assert written == len(records) == 10


def test_streaming_halves_too(space: Space, journal: Path) -> None:
    evaluator = FakeEvaluator(slots=3, stop_after=9)
    play(space, journal, evaluator, budget=12, batch=3, mode="streaming", factor=2)
    again = FakeEvaluator(slots=3)
    _, records = play(space, journal, again, learner(space), 12, 3, mode="streaming", factor=2)
    assert len({record.key for record in records}) == len(records) == 12
    assert not set(evaluator.finished) & set(again.finished)
    assert evaluator.most <= 3
    # the first to reach a rung has nobody to lose against, and whoever is worse is stopped
    assert records[0].whole or records[0].pruned
    assert 0 < sum(record.pruned for record in records) < 12
