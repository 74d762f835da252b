"""`rerank`, `tune` and `export` on a real run, as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.bundle import load_bundle
from edge.errors import BadInput
from search.analysis.scored_trials import read_run, standings
from search.ledger.columns import read_columns
from search.ledger.ledger import Ledger
from service.cli.main import app
from tests.search.jobs import FinishedJob
from tests.search.runs import candidate, run_of
from tests.service.cli.conftest import Understudy


def inside(*arguments: str | Path) -> str:
    """The command line in this process; gives stdout."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_run_s_own_values_rank_as_the_search_did(job: FinishedJob) -> None:
    said = json.loads(inside("rerank", job.out, "--json"))
    assert said["changed"] is False
    columns = read_columns(job.out / "ledger.journal")
    assert len(columns) == said["candidates"] == job.spec.budget
    # the one that shipped: of what was trained in full counts what it reached
    assert said["before"]["winner"]["key"] == job.result["finalists"][0]["key"]
    reached = {row["key"]: row["accuracy"] for row in job.result["finalists"]}
    for row in said["table"]:
        if row["key"] in reached:
            assert row["expected"] == row["measured"] == reached[row["key"]]
            continue
        # the very rewards of the search, to the last digits
        assert row["reward"] == pytest.approx(columns.reward[row["number"] - 1], rel=1e-12)


def test_rerank_for_people(job: FinishedJob) -> None:
    said = inside("rerank", job.out, "--reward", "paper", "--c0", "0.9", "--top", "3")
    assert "cancel out of the order" in said
    for words in ("before", "after", "winner's KB", "Best now", "next is candidate"):
        assert words in said
    assert said.count("threshold") >= 1


def test_rerank_as_a_picture(job: FinishedJob, tmp_path: Path) -> None:
    picture = tmp_path / "rerank.svg"
    said = inside("rerank", job.out, "--reward", "paper", "--picture", picture)
    assert said.splitlines()[-1] == f"picture   {picture}"
    found = json.loads(inside("rerank", job.out, "--reward", "paper", "--json"))
    when = "now" if found["changed"] else "stays"
    assert f"winner {when}: {found['after']['winner']['number']}, " in picture.read_text()


def test_rerank_in_a_process_of_its_own(job: FinishedJob, understudy: Understudy) -> None:
    done = understudy("rerank", job.out, "--max-kb", "1", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["value"] == "--max-kb 1"
    (message,) = done.stderr.splitlines()
    assert "no candidate of the run can be that small: got --max-kb 1; expected" in message


@pytest.mark.parametrize("command", [("rerank",), ("tune",), ("export",)])
def test_what_is_no_run_is_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no run"):
        inside(*command, tmp_path)


def test_tune_names_options_that_rerank_agrees_with(job: FinishedJob, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("--target", "smallest", "--max-drop", "0.3", "--page", page)
    # the job's file names its run
    said = json.loads(inside("tune", job.out / "job.yaml", *arguments, "--json"))
    assert said["best"]["drop"] <= 0.3
    columns = read_columns(job.out / "ledger.journal")
    teacher = job.result["figures"]["validation.teacher_accuracy"]["value"]
    kept = teacher - standings(read_run(str(job.out)), job.spec).expected <= 0.3
    assert said["best"]["kb"] == columns.kb[kept & columns.whole].min()
    assert page.read_text().count("<svg class") == 3
    again = json.loads(inside("rerank", job.out, *said["options"].split(), "--json"))
    assert again["after"]["winner"]["number"] == said["chosen"]["number"]


def test_export_as_csv(job: FinishedJob, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(inside("export", job.out))))
    columns = read_columns(job.out / "ledger.journal")
    expected = standings(read_run(str(job.out)), job.spec).expected
    assert len(rows) == job.spec.budget
    for i, row in enumerate(rows):
        assert int(row["number"]) == i + 1
        assert float(row["accuracy"]) == columns.accuracy[i]
        assert float(row["expected"]) == expected[i]
        assert float(row["kb"]) == columns.kb[i]
        if columns.key[i] not in {row["key"] for row in job.result["finalists"]}:
            assert float(row["reward"]) == pytest.approx(columns.reward[i], rel=1e-12)
        assert [float(row[name]) for name in columns.layers] == columns.coefficients[i].tolist()
    inside("export", job.out, "--csv", tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text() == inside("export", job.out)


def test_no_reason_is_taken_for_a_formula(tmp_path: Path) -> None:
    records = [candidate(1, 50, 0.8), candidate(2, 40, 0.0, reason="=HYPERLINK(evil)")]
    run = run_of(tmp_path / "run", records)
    _, failed = csv.DictReader(io.StringIO(inside("export", run.folder.root)))
    assert failed["reason"] == "'=HYPERLINK(evil)"
    assert (failed["status"], failed["accuracy"], failed["reward"]) == ("failed", "", "0.0")
    with pytest.raises(BadInput, match="the CSV file cannot be written"):
        inside("export", run.folder.root, "--csv", "/proc/no/such.csv")


def test_result_and_report_tell_of_the_front(job: FinishedJob) -> None:
    columns = read_columns(job.out / "ledger.journal")
    expected = standings(read_run(str(job.out)), job.spec).expected
    front = job.result["pareto"]
    assert [row["kb"] for row in front] == sorted(row["kb"] for row in front)
    for row in front:
        better = (columns.kb < row["kb"]) & (expected >= row["expected"]) & columns.whole
        assert not better.any()
        assert columns.kb[row["number"] - 1] == row["kb"]
        assert columns.accuracy[row["number"] - 1] == row["accuracy"]
    # no less than the best alone, and no more than the smallest with the best accuracy
    small = 1 - columns.kb / job.result["teacher"]["kb"]
    right = (expected - 0.1) / 0.9
    assert (small * right).max() <= job.result["hypervolume"] <= small.max() * right.max()
    page = (job.out / "report.html").read_text()
    assert 'data-plot="volume"' in page


def test_a_finished_run_is_no_target_for_a_new_winner(job: FinishedJob) -> None:
    with pytest.raises(BadInput, match="the output folder exists"):
        inside("rerank", job.out, "--max-kb", "60", "--finalize", "--out", job.out)


@pytest.mark.long  # the winner is trained and its routers are fitted
@pytest.mark.timeout(900)
def test_a_new_winner_ships_from_a_run_of_its_own(
    job: FinishedJob, tmp_path: Path, understudy: Understudy
) -> None:
    old = tmp_path / "old"
    shutil.copytree(job.out, old)
    (old / "tune.html").unlink(missing_ok=True)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    columns = read_columns(old / "ledger.journal")
    limit = float(np.sort(columns.kb[columns.whole])[1])
    arguments = ("rerank", old, "--max-kb", limit, "--max-drop", "0.5", "--finalize", "--json")
    done = understudy(*map(str, arguments), timeout=600)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    new = Path(said["out"])
    assert new == tmp_path / "old-2"
    # what ships is one of those that rerank puts first, or the most accurate, which takes part
    # where there is a limit on accuracy; nothing else was distilled
    ranked = json.loads(inside("rerank", old, *map(str, arguments[2:6]), "--json"))
    first = [row["kb"] for row in ranked["table"][: job.spec.finalists]]
    finalists = [row["kb"] for row in said["finalists"]]
    assert set(first) <= set(finalists)
    assert len(finalists) <= len(first) + 1
    assert said["student"]["kb"] in finalists
    assert said["student"]["kb"] <= limit
    assert load_bundle(new / "bundle").manifest.student.kb == said["student"]["kb"]
    assert said["candidates"] == len(columns)
    assert "candidate 1/" not in done.stderr
    assert "understudy rerank" in (new / "report.html").read_text()
    # its ledger has the same candidates under the new reward
    with Ledger(new / "ledger.journal", columns.layers, columns.pool) as ledger:
        assert tuple(record.key for record in ledger.records) == columns.key
        rewards = {record.key: record.reward for record in ledger.records}
    for row in ranked["table"]:
        assert rewards[row["key"]] == pytest.approx(row["reward"], rel=1e-12)
    # and the old run lost nothing
    assert {path: path.read_bytes() for path in before} == before
    again = understudy(*map(str, arguments), "--out", str(new), timeout=100)
    assert again.returncode == 2
    assert "the output folder exists" in again.stderr or "the run is finished" in again.stderr
