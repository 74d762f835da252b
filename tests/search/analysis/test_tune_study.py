"""Tuning by trial: what a trial is judged by, and that nothing is distilled twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from search.analysis.scored_trials import read_run
from search.analysis.tune_study import folder_of, space_of, train_thresholds
from search.analysis.tune_trial import Plan, merit
from search.execution.evaluation import Evaluation, Job
from search.execution.trial_cache import Evaluations, InProcess
from search.execution.worker import Step, Worker
from search.job.events import Event, Note
from search.job.spec import make_spec
from search.space.space import Space
from teachers.distillation.distill import Recipe
from tests.search import jobs
from tests.search.jobs import FinishedJob
from tests.search.runs import TEACHER, candidate

RECORDS = [candidate(1, 400, 0.90), candidate(2, 200, 0.88), candidate(3, 50, 0.78)]


def plan(about: str, reached: Mapping[str, float] | None = None, **changes: Any) -> Plan:
    values = {"teacher": "t.safetensors", "data": "digits", "out": "x", "proxy_gain": 0.0}
    spec, folder = make_spec(values | changes), Path("x-tune")
    return Plan(spec, about, TEACHER, Recipe(1), folder, "recipe", reached or {})


@pytest.mark.parametrize(
    ("target", "limits", "expected"),
    [
        ("smallest", {"max_drop": 0.02}, -200),
        ("smallest", {"max_drop": 0.2}, -50),
        # .22 over the teacher's .1, after 16 times the images: .1 · 2.2^¼ = .1218
        ("smallest", {"max_drop": 0.022, "proxy_gain": 0.5}, -50),
        ("accurate", {"max_kb": 300}, 0.88),
        ("accurate", {"max_kb": 10}, 0.0),
        # (400, .9) covers .6·.8889 = .5333; (200, .88) adds .2·.8667; (50, .78) adds .15·.7556
        ("hypervolume", {}, 0.82),
    ],
)
def test_the_merit_by_hand(target: str, limits: dict[str, Any], expected: float) -> None:
    assert merit(RECORDS, plan(target, **limits)) == pytest.approx(expected)


def test_who_was_trained_in_full_counts_with_what_it_reached() -> None:
    reached = {"key2": 0.895}
    assert merit(RECORDS, plan("accurate", max_kb=300)) == 0.88
    assert merit(RECORDS, plan("accurate", reached, max_kb=300)) == 0.895
    assert merit(RECORDS, plan("smallest", max_drop=0.01)) == -400
    assert merit(RECORDS, plan("smallest", reached, max_drop=0.01)) == -200


def test_the_merit_is_not_the_reward_that_is_tuned() -> None:
    richer = [replace(record, reward=record.reward * 1000) for record in RECORDS]
    for target in ("smallest", "accurate", "hypervolume"):
        assert merit(richer, plan(target)) == merit(RECORDS, plan(target))


def test_without_anyone_who_keeps_the_drop_the_nearest_is_best() -> None:
    strict = plan("smallest", max_drop=0.01)
    near, far = merit(RECORDS[1:], strict), merit(RECORDS[2:], strict)
    assert far < near < -TEACHER.kb < merit(RECORDS[:1], strict)
    stopped = [replace(RECORDS[0], pruned=True)]
    assert merit(stopped, strict) == merit([], strict) < far


def test_the_values_of_the_job_are_within_what_is_tried_and_come_first() -> None:
    own: dict[str, Any] = {"alpha": 0.5, "beta": 250, "max_kb": 100}
    ranges, first = space_of(plan("smallest", target="balanced", **own))
    assert first["alpha"] == 0.5
    assert first["beta"] == 250
    assert first["c0_kb"] == pytest.approx(100)
    assert first["a0"] == pytest.approx(0.89)
    for name, (low, high, _) in ranges.items():
        assert low <= first[name] <= high
    # what the target of the job makes of them
    accurate = space_of(plan("accurate", max_kb=100))[1]
    assert (accurate["beta"], accurate["a0"]) == (15, 1.0)
    smallest = space_of(plan("smallest", target="smallest"))[1]
    assert [smallest["beta"], smallest["a0"]] == pytest.approx([300, 0.89])
    tried = plan("smallest").job({"alpha": 3.0, "c0_kb": 100.0, "a0": 0.7})
    assert (tried.alpha, tried.a0) == (3.0, 0.7)
    assert tried.c0 == pytest.approx(0.9)
    # under Eq. 7 C0 and A0 would be tuned for nothing
    assert not {"c0_kb", "a0"} & set(space_of(plan("smallest", reward="paper"))[0])


def test_who_comes_second_waits_for_who_came_first(tmp_path: Path) -> None:
    trained: list[int] = []

    def train() -> Evaluation:
        trained.append(1)
        time.sleep(0.2)
        return Evaluation((1, 2), 0.75, 3.0, epochs=4, curve=(0.5,), mode="fp32", state=object())

    found: list[Evaluation] = []

    def ask() -> None:
        found.append(Evaluations(tmp_path).once("key", (1, 2), train))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert [(e.accuracy, e.epochs, e.curve) for e in found] == [(0.75, 4, (0.5,))] * 3
    # a duplicate of another spelling gets the same figures under its own actions
    again = Evaluations(tmp_path).get("key", (0, 0))
    assert again is not None
    assert (again.actions, again.accuracy) == ((0, 0), 0.75)
    assert list(Evaluations(tmp_path).keys()) == ["key"]


class Fake(Worker):
    """Two epochs, the second of which is the end; some actions fail."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, ...]] = []

    def begin(self, actions: tuple[int, ...], state: list[object], examine: bool) -> Step:
        self.begun.append(actions)
        if actions[0] == 0:
            return Step(0, 0, 0.0, None, 0.0, done=True, reason="Diverged")
        return Step(1, 2, 1.0, None, 10.0)

    def epoch(self, examine: bool) -> Step:
        return Step(2, 2, 0.5, 0.625, 10.0, seconds=1.5, done=True, mode="fp32")


def test_an_evaluator_in_this_process(space: Space, tmp_path: Path) -> None:
    worker = Fake()
    steps = len(space.layers)
    good, bad = (2,) * steps, (0,) + (2,) * (steps - 1)
    for _ in range(2):  # the second time nothing is trained
        evaluator = InProcess(space, worker, Evaluations(tmp_path))
        assert evaluator.wait() is None
        evaluator.submit(Job(good, 2))
        evaluator.submit(Job(bad, 2))
        first, second = evaluator.wait(), evaluator.wait()
        assert first == Evaluation(good, 0.625, 1.5, epochs=2, mode="fp32")
        assert second is not None
        assert (second.actions, second.reason) == (bad, "Diverged")
        assert worker.begun == [good, bad]


@pytest.mark.long  # Ray, and searches
@pytest.mark.timeout(900)
def test_searches_under_real_ray_that_go_on(tmp_path: Path) -> None:
    job: FinishedJob = jobs.finished_job()
    # the run's own drop: under another one its candidates would have learnt from other rows
    changes = {"max_drop": 0.01, "budget": 4, "out": str(tmp_path / "run")}
    spec = job.spec.model_copy(update=changes)
    run = read_run(str(job.out))
    told: list[Event] = []

    def tuned(trials: int) -> dict[str, object]:
        return train_thresholds(spec, "smallest", trials, run, told.append)

    once = tuned(1)
    journals = {path: path.read_bytes() for path in folder_of(spec).rglob("*.journal")}
    assert len(journals) == 1
    # an unfinished one is taken up with its values and its ledger
    (trial,) = (folder_of(spec) / "trials").iterdir()
    (trial / "done.json").unlink()
    again = tuned(3)
    assert again["own"] is not None
    assert len(again["trials"]) == 3  # type: ignore[arg-type]
    for path, content in journals.items():
        now = path.read_bytes()
        assert now.startswith(content)
        assert now.count(b'"key"') == content.count(b'"key"') == 4  # not one candidate more
    assert again["candidates"] == 12
    assert sum(isinstance(event, Note) and "search 3/3" in event.text for event in told) == 1
    # of the first search's candidates none is new: the run had its first four by the same recipe
    assert once["distilled"] == 0
    known = set(Evaluations(next((folder_of(spec) / "evaluations").iterdir())).keys())
    in_ledgers = set()
    for path in folder_of(spec).rglob("*.journal"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["op_code"] == 4:
                in_ledgers.add(entry["user_attrs"]["key"])
    assert in_ledgers <= known
    assert len(known) == len(run.columns) + int(str(again["distilled"]))
    with pytest.raises(BadInput, match="another tuning lies in .*: got target hypervolume"):
        train_thresholds(spec, "hypervolume", 3, run, told.append)
    other = spec.model_copy(update={"max_drop": 0.1})
    with pytest.raises(BadInput, match="another tuning lies in .*: got max_drop 0.1"):
        train_thresholds(other, "smallest", 3, run, told.append)
