"""A ledger in a database: SQLite through Optuna's own storage, and what is refused of others."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from pathlib import Path

import optuna
import pytest

from edge.errors import BadInput
from search.analysis.scored_trials import read_run
from search.job.run_folder import RunFolder
from search.job.spec import make_spec
from search.ledger.columns import STATUSES, place
from search.ledger.ledger import Ledger, stored_records
from search.ledger.storage import check_storage, study_name
from tests.search.runs import LAYERS, POOL, candidate, run_of

RECORDS = [
    candidate(1, 50, 0.8),
    candidate(2, 40, 0.0, reason="Diverged: the loss is nan", reward=0.0),
    candidate(3, 30, 0.4, pruned=True, epochs=1, curve=(0.4,)),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and a run in it."""
    folder = tmp_path_factory.mktemp("database")
    run_of(folder / "run", RECORDS, storage=url(folder))
    return folder


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/x.db"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; the original is out of its sight."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_is_written_is_read_back(made: Path) -> None:
    path = made / "run" / "ledger.journal"
    assert not path.exists()
    assert RunFolder(made / "run").holds_candidates
    with Ledger(path, LAYERS, POOL, url(made)) as ledger:
        assert ledger.records == RECORDS
        assert ledger.get("key2") == RECORDS[1]
        with pytest.raises(BadInput, match="the run is in use"):
            Ledger(path, LAYERS, POOL, url(made))


def test_any_optuna_tool_can_read_it(made: Path) -> None:
    name = study_name(made / "run" / "ledger.journal")
    assert name.startswith("understudy-run-")
    study = optuna.load_study(study_name=name, storage=url(made))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert study.trials[0].params == {"000_conv1": 0.5, "001_conv2": 0.0, "002_fc": 1.0}


def test_readers_see_what_came_without_columns(folder: Path) -> None:
    path = folder / "run" / "ledger.journal"
    place(path).unlink()
    job = folder / "run" / "job.yaml"
    job.write_text(re.sub("^storage:.*$", f"storage: {url(folder)}", job.read_text(), flags=re.M))
    run = read_run(str(folder / "run"))
    assert [STATUSES[code] for code in run.columns.status] == ["done", "failed", "stopped"]
    assert place(path).exists()


def test_two_runs_share_a_database_and_no_study(folder: Path) -> None:
    path = folder / "other" / "ledger.journal"
    path.parent.mkdir()
    with Ledger(path, LAYERS, POOL, url(folder)) as ledger:
        assert ledger.records == []
        ledger.add(candidate(9, 9, 0.9))
    assert study_name(path) != study_name(folder / "run" / "ledger.journal")


def test_a_copied_run_does_not_write_to_the_original_s_study(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    with pytest.raises(BadInput, match="two runs would write to one study"):
        Ledger(tmp_path / "run" / "ledger.journal", LAYERS, POOL, url(made))


def test_a_moved_run_goes_on(folder: Path) -> None:
    shutil.copyfile(folder / "x.db", folder / "y.db")
    first = folder / "a" / "ledger.journal"
    first.parent.mkdir()
    with Ledger(first, LAYERS, POOL, f"sqlite:///{folder}/y.db") as ledger:
        ledger.add(RECORDS[0])
    first.parent.rename(folder / "b")
    with Ledger(folder / "b" / "ledger.journal", LAYERS, POOL, f"sqlite:///{folder}/y.db") as again:
        assert again.records == RECORDS[:1]


def test_another_database_is_not_begun_with_by_mistake(folder: Path) -> None:
    path = folder / "run" / "ledger.journal"
    with pytest.raises(BadInput, match="the run's candidates are not in this database"):
        Ledger(path, LAYERS, POOL, f"sqlite:///{folder}/mistyped.db")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("x.db", "no database's URL: got x.db"),
        ("redis://localhost", "'redis' is no database that Optuna knows"),
        ("sqlite://", "candidates in memory would be gone"),
        ("sqlite:////no/such/folder/x.db", "expected a folder that exists; /no/such/folder does"),
        ("postgresql://me:secret@host/db", "a password in the storage's URL"),
        ("postgresql+nodriver://me@host/db", "--storage postgresql.nodriver://me@host/db"),
        # nobody listens on port 9, or the driver is not installed: both are said in seconds
        ("postgresql://me@127.0.0.1:9/db", "the database cannot be used: got --storage postgresql"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_in_seconds(wrong: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(BadInput, match=message) as caught:
        check_storage(wrong)
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/db?password=secret",
        "mysql+pymysql://u@h/db?passwd=secret",
        "postgresql://u:secret@h/db",
        "postgresql://u:secret@localhost:abc/db",
    ],
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_storage(url)
    assert "secret" not in str(refused.value)


def test_readers_make_no_database(folder: Path) -> None:
    (folder / "x.db").unlink()
    with pytest.raises(BadInput, match="not in this database"):
        stored_records(folder / "run" / "ledger.journal", url(folder))
    assert not (folder / "x.db").exists()


def test_a_database_s_name_means_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = {"teacher": "t.onnx", "data": "digits", "out": "run"}
    for given, kept in (
        ("sqlite:///x.db", f"sqlite:///{tmp_path}/x.db"),
        ("sqlite:////a/x.db", "sqlite:////a/x.db"),
        ("postgresql://h/db", "postgresql://h/db"),
    ):
        assert make_spec(job | {"storage": given}).storage == kept


def test_looking_at_a_database_makes_none(tmp_path: Path) -> None:
    check_storage(f"sqlite:///{tmp_path}/new.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("this is no database, but long enough to be looked at" * 9)
    with pytest.raises(BadInput, match="file is not a database"):
        check_storage(f"sqlite:///{tmp_path}/text.db")


def test_a_write_that_fails_is_one_clear_error(folder: Path) -> None:
    path = folder / "new" / "ledger.journal"
    path.parent.mkdir()
    with Ledger(path, LAYERS, POOL, url(folder)) as ledger:
        ledger.add(RECORDS[0])
        with sqlite3.connect(folder / "x.db") as other:
            other.execute("drop table trial_values")
        with pytest.raises(BadInput, match="the database cannot be used: got .*no such table"):
            ledger.add(RECORDS[1])
        assert ledger.records == RECORDS[:1]
