"""Which rows routers are fitted on, in a real small job that is packed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from search import pipeline
from search.execution.training_context import Distiller, TrainingContext
from search.job.events import Event, Note, Progress, Stage
from search.job.spec import make_spec
from search.packaging import router_rows
from search.preparation.prepare import check_names
from teachers.distillation.distill import Diverged
from tests.search import jobs
from tests.search.jobs import FinishedJob


@pytest.fixture(scope="module")
def job() -> FinishedJob:
    return jobs.finished_job()


@pytest.fixture(scope="module")
def copy(job: FinishedJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows") / "run"
    shutil.copytree(job.out, out)
    return out


def packed(job: FinishedJob, out: Path, **asked: Any) -> tuple[list[Event], dict[str, Any]]:
    """The run packed again, with other options: what it told, and the ranking."""
    quick = {"out": str(out), "families": (), "int8": False}
    spec = make_spec(job.spec.model_dump() | quick | asked)
    events = list(pipeline.run(spec, resume=True, again=True))
    ranking: dict[str, Any] = json.loads((out / "result.json").read_text())["ranking"]
    return events, ranking


def fold_steps(events: list[Event]) -> list[int]:
    return [e.done for e in events if isinstance(e, Progress) and e.text.startswith("fold ")]


def test_folds_make_use_of_all_training_rows_and_more_errors(
    job: FinishedJob, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt_from: list[NDArray[np.int64]] = []

    class Spy(Distiller):
        def __init__(self, room: TrainingContext, *options: Any) -> None:
            learnt_from.append(room.distillation_set.rows)
            super().__init__(room, *options)

    monkeypatch.setattr(router_rows, "Distiller", Spy)
    withheld, learnt = (packed(job, copy, router_rows=way)[1] for way in ("withheld", "learnt"))
    assert job.spec.router_rows == "withheld"
    assert withheld["fitted_rows"] == job.result["ranking"]["fitted_rows"]
    events, folds = packed(job, copy, router_rows="folds", families=("gbdt",), router_trials=1)
    assert "area" in next(row for row in folds["routers"] if row["name"] == "gbdt")
    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages[-4:] == ["package", "folds", "routers", "test"]
    assert folds["fitted_rows"] == withheld["fitted_rows"] + learnt["fitted_rows"]
    assert folds["complex_rows"] > withheld["complex_rows"]
    # what it has learnt from it gets right more often than what it has not
    assert learnt["error_rate"] < folds["error_rate"]
    # no student has learnt from the rows that it answered, and each row was held back once
    every = np.unique(np.concatenate(learnt_from))
    assert len(every) == learnt["fitted_rows"]
    held = [np.setdiff1d(every, rows) for rows in learnt_from]
    assert np.array_equal(np.sort(np.concatenate(held)), every)
    kept = sorted((copy / "trained").glob("fold-*.npy"))
    assert [len(np.load(path)) for path in kept] == [len(rows) for rows in held]
    # every epoch of the five trainings counts, and none is counted twice
    final_epochs = job.spec.final_epochs
    assert final_epochs is not None
    assert fold_steps(events) == list(range(1, 5 * final_epochs + 1))

    again, same = packed(job, copy, router_rows="folds")
    assert fold_steps(again) == []
    assert same["complex_rows"] == folds["complex_rows"]


def test_a_fold_that_diverges_is_left_out(
    job: FinishedJob, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = packed(job, copy, router_rows="folds")[1]["fitted_rows"]
    (second,) = (copy / "trained").glob("fold-1-*.npy")
    lost = len(np.load(second))
    second.unlink()

    def diverges(*arguments: Any) -> Any:
        raise Diverged("the loss", 1)

    monkeypatch.setattr(router_rows, "_trained", diverges)
    events, ranking = packed(job, copy, router_rows="folds")
    assert ranking["fitted_rows"] == whole - lost
    assert any(isinstance(e, Note) and "fold 2 is left out" in e.text for e in events)
    # nor is it trained again
    assert packed(job, copy, router_rows="folds")[1]["fitted_rows"] == whole - lost


def test_each_row_is_held_back_from_one_fold(job: FinishedJob) -> None:
    class Stub:
        spec = job.spec
        labels = staticmethod(lambda part: np.arange(43) % 3)

    stub: Any = Stub
    cut = router_rows._folds(stub)
    assert len(cut) == router_rows.FOLDS
    assert sorted(np.concatenate([held for _, held in cut])) == list(range(43))
    for kept, held in cut:
        assert not set(kept) & set(held)


def test_folds_beside_joint_training_are_refused(job: FinishedJob) -> None:
    asked = {"router_rows": "folds", "two_head": "joint"}
    with pytest.raises(BadInput, match="would not be like the one that ships"):
        check_names(make_spec(job.spec.model_dump() | asked))


def test_an_unknown_way_is_refused(job: FinishedJob) -> None:
    spec = make_spec(job.spec.model_dump() | {"router_rows": "all"})
    with pytest.raises(BadInput, match=r"'all'; expected one of auto, folds, learnt, withheld"):
        check_names(spec)
