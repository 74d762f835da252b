"""The last round: who takes part, who wins, and what happens when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from edge.errors import BadInput
from envs.compression.resolve import compress
from envs.compression.surgery import build, load
from search.execution.worker import Step
from search.finalists import finalists
from search.finalists.finalists import (
    LastRound,
    accuracies_of,
    train_baselines,
    train_finalists,
)
from search.finalists.likelihood import cross_entropy_of
from search.finalists.train import Course, Trained
from search.job.events import Event, Note, Progress
from search.job.run_folder import RunFolder
from search.ledger.ledger import Record
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.scheduling.trial_state import ranked
from search.space.thresholds import judged, reward_of
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.training import predict
from tests.search import jobs
from tests.search.preparation.test_prepare import prepared

EPOCHS = 2
Value = TypeVar("Value")


def record(prepared: Prepared, action: int, reward: float, **changes: Any) -> Record:
    """A candidate whose layers all have the same coefficient."""
    legal = [np.flatnonzero(mask) for mask in prepared.space.masks]
    actions = tuple(int(choices[min(action, len(choices) - 1)]) for choices in legal)
    spent = prepared.space.cost(actions)
    values: dict[str, Any] = {
        "key": f"candidate{action}",
        "actions": actions,
        "accuracy": 0.5,
        "reward": reward,
        "parameters": spent.parameters,
        "bytes": spent.bytes,
        "macs": spent.macs,
        "seconds": 1.0,
    }
    return Record(**values | changes)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    spec = jobs.small_job(tmp_path_factory.mktemp("last") / "run", final_epochs=EPOCHS)
    found, _ = prepared(spec)
    return found


def pretend(
    accuracies: dict[tuple[int, ...], float], begun: list[tuple[int, ...]]
) -> Callable[..., Course]:
    """Trainings that end with the accuracy that is said here, or fail where none is."""

    def train_fully(
        room: Any, opener: Any, actions: tuple[int, ...], checkpoint: Path, resources: Any
    ) -> Course:
        begun.append(actions)
        for epoch in (1, 2):
            if actions not in accuracies:
                raise BadInput("it failed", value="nan", bound="finite", remedy="Lower the rate.")
            yield Step(
                epoch=epoch,
                epochs=EPOCHS,
                loss=1.0,
                accuracy=0.1,
                samples_per_second=1.0,
                done=epoch == EPOCHS,
            )
        yield Trained(accuracies[actions], {"w": np.full(2, accuracies[actions])})

    return train_fully


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.finalists.finalists.ray.put", lambda value: value)
    monkeypatch.setattr(finalists, "cross_entropy_of", lambda job, actions, weights: 0.25)


def play(
    job: Prepared, chosen: list[Record], folder: Path, threads: int = 2
) -> tuple[LastRound, list[Event]]:
    return heard(train_finalists(job, chosen, RunFolder(folder), threads))


def heard(steps: Telling[Value]) -> tuple[Value, list[Event]]:
    told: list[Event] = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return end.value, told


def test_the_best_take_part_and_no_one_who_was_stopped(job: Prepared) -> None:
    low, high, same = (record(job, action, reward) for action, reward in ((1, 1), (2, 3), (3, 3)))
    failed = record(job, 4, 0.0, reason="it raised")
    stopped = record(job, 5, 9.0, pruned=True)
    assert ranked([low, high, failed, stopped, same])[:2] == [high, same]
    assert ranked([failed, stopped])[:2] == []
    assert ranked([low, high])[:5] == [high, low]


def test_the_full_training_decides(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    one, two = record(job, 1, 2.0), record(job, 2, 1.0)
    begun: list[tuple[int, ...]] = []
    accuracies = {one.actions: 0.2, two.actions: 0.9}
    monkeypatch.setattr(finalists, "train_fully", pretend(accuracies, begun))
    last, told = play(job, [one, two], tmp_path)
    assert last.winner == two
    assert last.ranked == ((two, 0.9), (one, 0.2))
    np.testing.assert_array_equal(last.weights["w"], [0.9, 0.9])
    progress = [event for event in told if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == 2 * EPOCHS
    # both are put away: who goes on after a stop, or asks for another winner, trains neither again
    again, _ = play(job, [one, two], tmp_path)
    assert len(begun) == 2
    assert again.ranked == last.ranked
    np.testing.assert_array_equal(again.weights["w"], last.weights["w"])


def aiming(job: Prepared, target: str) -> Prepared:
    """The same job with another target."""
    spec = job.spec.model_copy(update={"target": target})
    space = copy(job.space)
    space.reward = reward_of(spec, space.teacher_cost.kb, job.teacher_accuracy)
    return replace(job, spec=spec, space=space, reward=space.reward)


def test_the_target_decides_whom_accuracies_are_held_against(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    large, small = record(job, 9, 2.0), record(job, 4, 1.0)
    assert large.bytes > 2 * small.bytes
    # both lose less than the point that the smallest may
    best = job.teacher_accuracy
    accuracies = {large.actions: best, small.actions: best - 0.005}
    monkeypatch.setattr(finalists, "train_fully", pretend(accuracies, []))
    for target, winner in (("accurate", large), ("smallest", small)):
        last, _ = play(aiming(job, target), [large, small], tmp_path / target)
        assert last.winner == winner
    # of equally good ones the smaller, whoever was ahead
    accuracies[small.actions] = best
    for order in ([large, small], [small, large]):
        last, _ = play(job, order, tmp_path / f"tie, {order[0].key} first")
        assert last.winner == small


@pytest.mark.parametrize(("entropy", "winner"), [(0.25, 0), (0.3, 0), (0.2, 1), (0.1, 1)])
def test_of_nearly_as_accurate_ones_the_surer_wins(
    job: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_ray: None,
    entropy: float,
    winner: int,
) -> None:
    large, small = record(job, 9, 2.0), record(job, 4, 1.0)
    # less accurate by what .04 nats are worth
    worth = -judged(0.0, 0.04, len(job.parts.validation))
    accuracies = {large.actions: 0.9, small.actions: 0.9 - worth}
    entropies = {large.actions: 0.25, small.actions: entropy}
    monkeypatch.setattr(finalists, "train_fully", pretend(accuracies, []))
    monkeypatch.setattr(
        finalists, "cross_entropy_of", lambda job, actions, weights: entropies[actions]
    )
    last, _ = play(job, [large, small], tmp_path)
    assert last.winner == [large, small][winner]
    # kept beside the weights, for readers and for who goes on
    stored = Checkpoint.meta_of(RunFolder(tmp_path).trained / f"{small.key}.safetensors")
    assert stored == {"accuracy": accuracies[small.actions], "cross_entropy": entropy}
    monkeypatch.setattr(finalists, "cross_entropy_of", None)
    assert play(job, [large, small], tmp_path)[0].winner == last.winner


def test_the_cross_entropy_is_of_the_student_on_the_validation_part(job: Prepared) -> None:
    one = record(job, 5, 1.0)
    student = compress(job.network, job.moves, one.actions).spec
    weights = {name: w.numpy() for name, w in build(student).state_dict().items()}
    rows = job.parts.validation
    module = load(student, {name: torch.from_numpy(w) for name, w in weights.items()}).eval()
    look = job.teacher.manifest.preprocess
    logits = torch.from_numpy(predict(module, job.data.images[rows], look).logits)
    labels = torch.from_numpy(job.data.labels[rows])
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert cross_entropy_of(job, one.actions, weights) == pytest.approx(expected, rel=1e-5)


def test_plain_students_are_trained_before_the_search_and_found_trained_after_it(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    even, most, other = (record(job, action, 1.0) for action in (1, 2, 3))
    begun: list[tuple[int, ...]] = []
    accuracies = {even.actions: 0.7, other.actions: 0.6}
    monkeypatch.setattr(finalists, "train_fully", pretend(accuracies, begun))
    folder = RunFolder(tmp_path)
    found, _ = heard(train_baselines(job, [even, most], folder, 2))
    # one of them failed
    assert found == {even.key: 0.7}
    assert accuracies_of(folder, [even.key, most.key, other.key]) == {even.key: 0.7}
    begun.clear()
    origins = {even.key: "uniform", most.key: "largest"}
    last, _ = heard(train_finalists(job, [other, even], folder, 2, origins))
    assert begun == [other.actions]
    assert last.winner == even
    assert [last.origin(each) for each, _ in last.ranked] == ["uniform", "search"]


def test_origins_as_users_read_them(job: Prepared) -> None:
    names = ("uniform", "largest", "tapered", "smaller")
    records = [record(job, action, 1.0) for action in range(1, 6)]
    origins = {each.key: name for each, name in zip(records, names, strict=False)}
    last = LastRound(records[0], {}, (), origins)
    assert [last.origin(each) for each in records] == [
        "uniform", "largest", "pilot", "pilot", "search",
    ]  # fmt: skip
    # of a run by an earlier version all were found
    assert LastRound(records[0], {}, ()).origin(records[0]) == "search"


def test_one_that_fails_leaves_the_field_to_the_others(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    one, two = record(job, 1, 2.0), record(job, 2, 1.0)
    monkeypatch.setattr(finalists, "train_fully", pretend({two.actions: 0.9}, []))
    last, told = play(job, [one, two], tmp_path)
    assert last.winner == two
    (warning,) = [note.text for note in told if isinstance(note, Note) and note.warning]
    assert warning.startswith(f"{one.kb:,.0f} KB: it failed")


def test_where_all_fail_the_job_says_why(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    monkeypatch.setattr(finalists, "train_fully", pretend({}, []))
    with pytest.raises(BadInput, match="it failed"):
        play(job, [record(job, 1, 2.0), record(job, 2, 1.0)], tmp_path)


def test_processors_are_shared_out(
    job: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    threads: list[int] = []

    def train_fully(*args: Any) -> Iterator[Any]:
        threads.append(args[4].threads)
        yield Trained(0.5, {"w": np.zeros(1)})

    monkeypatch.setattr(finalists, "train_fully", train_fully)
    chosen = [record(job, action, 1.0) for action in (1, 2, 3)]
    play(job, chosen[:2], tmp_path / "two", threads=5)
    play(job, chosen, tmp_path / "three", threads=2)
    assert threads == [2, 2, 1, 1, 1]
