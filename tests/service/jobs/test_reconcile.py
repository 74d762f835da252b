"""What a run's own files say about its job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.job.events import (
    CandidateDone,
    Finished,
    Logged,
    Note,
    Progress,
    Stage,
    Started,
    Stopped,
    to_dict,
)
from service.jobs.model import State
from service.jobs.reconcile import POINTS, RunView, thinned


class Run:
    """A run's folder that tells what we want it to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.time = 100.0

    def tell(self, *events: Logged, every: float = 1.0) -> None:
        with (self.folder / "events.ndjson").open("a") as file:
            for event in events:
                self.time += every
                file.write(json.dumps({"time": self.time} | to_dict(event)) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def candidate(number: int, budget: int = 10, replayed: bool = False) -> CandidateDone:
    return CandidateDone(
        number=number, budget=budget, reward=0.1, accuracy=0.9, kb=20.0,
        best_reward=number / 10, best_accuracy=0.95, best_kb=18.0, replayed=replayed, reason="",
    )  # fmt: skip


#: stages in the order of a real run, and the state of its job after each
WALK = [
    (Stage("prepare", "teacher"), State.CHECKING),
    (Stage("pilots", "3 plain students"), State.SEARCHING),
    (Stage("train", "the best 2 for 92 epochs"), State.SEARCHING),  # plain ones
    (Stage("search", "16 candidates"), State.SEARCHING),
    (Stage("train", "the best 5 for 92 epochs"), State.TRAINING),
    (Stage("latency", "timed as they would ship"), State.TRAINING),
    (Stage("package", "export to ONNX"), State.ROUTING),
    (Stage("routers", "fit and rank"), State.ROUTING),
    (Stage("test", "360 rows, seen once"), State.PACKAGING),
]


def test_states_follow_the_stages_and_never_go_back(run: Run) -> None:
    view = RunView(run.folder)
    run.tell(Started(1))
    for stage, state in WALK:
        run.tell(stage)
        assert view.read()
        assert (view.state, view.stage) == (state, f"{stage.name}: {stage.detail}")
    assert not view.finished
    run.tell(Finished({"candidates": 16}))
    view.read()
    assert view.finished


def test_a_run_of_another_ones_candidates_only_trains(run: Run) -> None:
    (run.folder / "origin.json").write_text("{}")
    view = RunView(run.folder)
    run.tell(Started(1), Stage("prepare"), Stage("train", "the best 2 for 92 epochs"))
    view.read()
    assert view.state is State.TRAINING


def test_a_process_that_takes_up_the_run_begins_anew(run: Run) -> None:
    view = RunView(run.folder)
    run.tell(Started(1), Stage("search"), candidate(1), candidate(2))
    view.read()
    assert (view.state, view.progressed) == (State.SEARCHING, True)
    run.tell(Stopped(), Started(2), Stage("prepare"), candidate(1, replayed=True))
    view.read()
    assert (view.state, view.progressed, view.candidates) == (State.CHECKING, False, 2)
    run.tell(Stage("search"))
    view.read()
    assert not view.progressed  # it was there before
    run.tell(candidate(3))
    view.read()
    assert view.progressed


def test_what_was_read_is_never_read_again(run: Run) -> None:
    view = RunView(run.folder)
    run.tell(Started(1), Stage("search"), *(candidate(number) for number in range(1, 6)))
    view.read()
    path = run.folder / "events.ndjson"
    with path.open("r+b") as file:  # what stands there now would break whoever looked
        file.write(b"\0" * (path.stat().st_size - 1))
    run.tell(candidate(6))
    assert view.read()
    assert view.candidates == 6
    assert not view.read()


def test_a_line_that_is_being_written_waits(run: Run) -> None:
    view = RunView(run.folder)
    run.tell(Started(1), Stage("search"), candidate(1))
    path = run.folder / "events.ndjson"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    view.read()
    assert view.candidates == 0
    path.write_bytes(whole)
    view.read()
    assert view.candidates == 1


class TestSummary:
    def test_of_a_search_under_way(self, run: Run) -> None:
        view = RunView(run.folder)
        run.tell(
            Started(1), Stage("search"), Note("odd teacher", True, "teacher-near-chance"),
            Note("merely told"), *(candidate(number) for number in range(1, 5)), every=2.0,
        )  # fmt: skip
        view.read()
        found = view.summary(run.time, kb_limit=22.0)
        assert found == {
            "candidates": 4,
            "budget": 10,
            "best_reward": 0.4,
            "best_rewards": [0.1, 0.2, 0.3, 0.4],
            "best_kb": 18.0,
            "best_accuracy": 0.95,
            "warnings": [{"name": "teacher-near-chance", "text": "odd teacher"}],
            "eta_seconds": 12.0,  # six to come, two seconds each
            "kb_limit": 22.0,
        }
        assert view.summary(run.time + 5)["eta_seconds"] == 7.0

    def test_replayed_candidates_say_nothing_about_the_pace(self, run: Run) -> None:
        view = RunView(run.folder)
        run.tell(Started(1), Stage("search"))
        run.tell(*(candidate(number, replayed=True) for number in range(1, 4)), every=0.001)
        run.tell(candidate(4), candidate(5), every=3.0)
        view.read()
        assert view.summary(run.time)["eta_seconds"] == 15.0

    def test_of_a_training(self, run: Run) -> None:
        view = RunView(run.folder)
        run.tell(Started(1), Stage("search"), Stage("train"))
        run.tell(*(Progress(done, 10) for done in (2, 4)), every=4.0)
        view.read()
        assert view.summary(run.time)["eta_seconds"] == 12.0

    def test_of_a_finished_run_is_its_results(self, run: Run) -> None:
        view = RunView(run.folder)
        result = {
            "verdict": "A student of 21.8 KB …",
            "student": {"kb": 21.8, "accuracy": 0.96, "ms": 0.03},
            "teacher": {"kb": 440.9, "accuracy": 0.975},
            "router": {"name": "margin"},
            "pair": {"accuracy": 0.972, "appeals": 0.128, "kb": 22.2},
            "goal": {"met": True},
            "warnings": [{"name": "few-errors", "text": "…"}],
            "candidates": 16,
        }
        run.tell(Started(1), Stage("search"), candidate(1), Finished(result))
        (run.folder / "result.json").write_text(json.dumps(result))
        view.read()
        found = view.summary(run.time)
        assert {name: found[name] for name in ("student_kb", "pair_accuracy", "appeals")} == {
            "student_kb": 21.8, "pair_accuracy": 0.972, "appeals": 0.128,
        }  # fmt: skip
        assert (found["verdict"], found["warnings"], found["goal_met"], found["candidates"]) == (
            result["verdict"], result["warnings"], True, 16,
        )  # fmt: skip
        assert found["eta_seconds"] is None


def test_a_sparkline_keeps_its_ends() -> None:
    values = [float(number) for number in range(10_000)]
    found = thinned(values)
    assert len(found) == POINTS
    assert (found[0], found[-1]) == (0.0, 9999.0)
    assert found == sorted(found)
    assert thinned(values[:7]) == values[:7]
