"""A run that begins with another run's candidates: made whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput
from search.analysis import adopt_run
from search.analysis.adopt_run import adopt, free_name
from search.analysis.rerank import rerank
from search.analysis.scored_trials import read_run
from search.job.run_folder import RunFolder
from search.ledger.ledger import Ledger
from tests.search.runs import LAYERS, POOL, candidate, run_of

RECORDS = [
    candidate(1, 100, 0.88),
    candidate(2, 50, 0.85),
    candidate(3, 40, 0.0, reason="Diverged", reward=0.0),
    candidate(4, 30, 0.4, pruned=True, epochs=1, curve=(0.4,)),
]


@pytest.fixture
def inputs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs here are invented, and so are their teachers and data."""
    monkeypatch.setattr(adopt_run, "check_inputs", lambda *_, **__: None)


@pytest.mark.usefixtures("inputs_there")
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_the_new_run_has_the_candidates_under_the_new_reward(kind: str, tmp_path: Path) -> None:
    storage = None if kind == "journal" else f"sqlite:///{tmp_path}/x.db"
    run = run_of(tmp_path / "old", RECORDS, storage=storage)
    for name in ("cache/answers.npy", "cache/.answers.npy.part", "trained/key1.safetensors",
                 "trained/key2.checkpoint", "cloud/teacher.onnx",
                 "latency_profile.json"):  # fmt: skip
        path = run.folder.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    found = rerank(run, {"c0": 0.85})
    spec = adopt(found, str(tmp_path / "new"), "understudy rerank old --c0 0.85")
    new = RunFolder(tmp_path / "new")
    assert (spec.c0, spec.budget, spec.storage) == (0.85, 4, None)
    assert new.stored_job() == spec
    assert new.profile.read_text() == "latency_profile.json"  # nobody times it again
    assert new.asked_by() == "understudy rerank old --c0 0.85"
    with Ledger(new.ledger, LAYERS, POOL) as ledger:
        rewards = found.after.rewards.tolist()
        assert ledger.records == [
            replace(record, reward=reward) for record, reward in zip(RECORDS, rewards, strict=True)
        ]
    kept = {
        path.name for name in ("cache", "trained", "cloud") for path in (new.root / name).iterdir()
    }
    assert kept == {"answers.npy", "key1.safetensors", "teacher.onnx"}
    # the winner of the new order is that of the new run's own values
    assert rerank(read_run(spec.out), {}).before.winner == found.after.winner == 0
    # asked again, what is there is left as it is; with other values it is in the way
    assert adopt(found, spec.out, "understudy rerank old --c0 0.85") == spec
    with pytest.raises(BadInput, match="the output folder exists"):
        adopt(rerank(run, {}), spec.out, "understudy rerank old")


@pytest.mark.usefixtures("inputs_there")
def test_a_student_that_learnt_from_rows_that_are_the_router_s_now_is_trained_again(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path / "old", RECORDS)
    run.folder.trained.mkdir()
    (run.folder.trained / "key1.safetensors").write_text("weights")
    # fewer errors are expected of a student with a smaller drop, so the router withholds more rows
    adopt(rerank(run, {"max_drop": 0.001}), str(tmp_path / "new"), "")
    assert not RunFolder(tmp_path / "new").trained.exists()


@pytest.mark.usefixtures("inputs_there")
def test_an_old_run_that_grows_meanwhile_changes_nothing(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/x.db"
    run = run_of(tmp_path / "old", RECORDS[:2], storage=storage)
    found = rerank(run, {})
    with Ledger(run.folder.ledger, LAYERS, POOL, storage) as ledger:
        ledger.add(RECORDS[2])
    spec = adopt(found, str(tmp_path / "new"), "asked")
    with Ledger(RunFolder(spec.out).ledger, LAYERS, POOL) as ledger:
        assert [record.key for record in ledger.records] == ["key1", "key2"]
    again = adopt(rerank(read_run(str(tmp_path / "old")), {}), spec.out, "asked")
    assert again.budget == spec.budget == 2  # so nothing more is searched


def test_what_is_refused_leaves_no_run_behind(tmp_path: Path) -> None:
    found = rerank(run_of(tmp_path / "old", RECORDS), {})
    with pytest.raises(BadInput, match="teacher"):
        adopt(found, str(tmp_path / "new"), "")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.usefixtures("inputs_there")
def test_nothing_half_made_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rerank(run_of(tmp_path / "old", RECORDS), {})

    def full(journal: bytes, rewards: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adopt_run, "_priced", full)
    with pytest.raises(BadInput, match="No space left on device"):
        adopt(found, str(tmp_path / "new"), "")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_free_name_beside_the_run(tmp_path: Path) -> None:
    assert free_name(tmp_path / "run") == tmp_path / "run-2"
    (tmp_path / "run-2").mkdir()
    assert free_name(tmp_path / "run") == tmp_path / "run-3"


def test_a_free_name_beside_the_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert free_name(Path()) == tmp_path / "run-2"
