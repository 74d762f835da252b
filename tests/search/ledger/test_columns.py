"""The columns beside a ledger: always what the ledger says, whatever they were before."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadInput
from search.ledger import columns as columns_file
from search.ledger.ledger import Ledger, Record
from tests.search.jobs import ROOT
from tests.search.runs import LAYERS, POOL, candidate

FAILED = candidate(2, 40, 0.0, reason="Diverged: the loss is nan", reward=0.0)
STOPPED = candidate(3, 30, 0.4, pruned=True, epochs=1, curve=(0.4,))
RECORDS = [candidate(1, 50, 0.8), FAILED, STOPPED]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return add(tmp_path / "ledger.journal", *RECORDS)


def add(path: Path, *records: Record) -> Path:
    with Ledger(path, LAYERS, POOL) as ledger:
        for record in records:
            ledger.add(record)
    return path


def same(columns: columns_file.Columns, records: list[Record]) -> bool:
    expected = columns_file.Columns.of_records(records, LAYERS, POOL)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(columns, name), value, name)
    return True


def test_a_closed_ledger_has_its_columns_beside_it(journal: Path) -> None:
    stored = columns_file.load(columns_file.place(journal))
    assert stored is not None
    assert same(stored[0], RECORDS)
    columns = columns_file.read_columns(journal)
    assert same(columns, RECORDS)
    assert [columns_file.STATUSES[code] for code in columns.status] == ["done", "failed", "stopped"]
    assert columns.whole.tolist() == [True, False, False]
    # candidate 1 has actions (1, 0, 2): coefficients ½, 0, 1
    assert columns.coefficients[0].tolist() == [0.5, 0.0, 1.0]
    assert columns.kb[0] == 50


def test_what_came_later_is_read_from_the_journal(journal: Path) -> None:
    before = columns_file.place(journal).read_bytes()
    add(journal, candidate(4, 20, 0.7))
    columns_file.place(journal).write_bytes(before)  # as if that process had been killed
    assert same(columns_file.read_columns(journal), [*RECORDS, candidate(4, 20, 0.7)])
    assert columns_file.place(journal).read_bytes() != before


def test_a_run_that_goes_on_is_read_and_not_disturbed(journal: Path) -> None:
    with Ledger(journal, LAYERS, POOL) as ledger:
        ledger.add(candidate(4, 20, 0.7))
        content = journal.read_bytes()
        with journal.open("ab") as file:
            file.write(content[-100:-1])  # a line that is being written
        assert len(columns_file.read_columns(journal)) == 4
        with journal.open("r+b") as file:
            file.truncate(len(content))
        ledger.add(candidate(5, 10, 0.6))
        assert len(columns_file.read_columns(journal)) == 5


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut", "other version"])
def test_columns_that_cannot_be_used_are_made_anew(
    damage: str, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = columns_file.place(journal)
    if damage == "missing":
        place.unlink()
    elif damage == "other version":
        monkeypatch.setattr(columns_file, "_VERSION", 99)
    else:
        place.write_bytes(b"PAR1" if damage == "garbage" else place.read_bytes()[:-40])
    assert same(columns_file.read_columns(journal), RECORDS)


def test_columns_of_another_journal_do_not_count(tmp_path: Path, journal: Path) -> None:
    other = [replace(record, accuracy=0.1, key=f"other{i}") for i, record in enumerate(RECORDS)]
    elsewhere = add(tmp_path / "other.journal", *other, candidate(9, 9, 0.9))
    journal.write_bytes(elsewhere.read_bytes())
    assert same(columns_file.read_columns(journal), [*other, candidate(9, 9, 0.9)])


def test_without_a_candidate_there_is_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.journal", add(tmp_path / "empty.journal")):
        with pytest.raises(BadInput, match="there are no candidates yet"):
            columns_file.read_columns(path)
        assert not columns_file.place(path).exists()


def test_a_damaged_journal_is_named(journal: Path) -> None:
    columns_file.place(journal).unlink()
    journal.write_text(journal.read_text().replace('"accuracy":0.8', '"accuracy":oh'))
    with pytest.raises(BadInput, match="the ledger is damaged"):
        columns_file.read_columns(journal)


def test_notes_of_a_dashboard_are_no_candidates(journal: Path) -> None:
    """What optuna-dashboard writes: attributes of trials, and studies of its own."""
    with journal.open("a") as file:
        file.write('{"op_code":8,"worker_id":"d","trial_id":0,"user_attr":{"note":"good"}}\n')
        file.write('{"op_code":0,"worker_id":"d","study_name":"mine","directions":[1]}\n')
        file.write(
            '{"op_code":4,"worker_id":"d","study_id":1,"state":1,"value":1.0,'
            '"datetime_start":null}\n'
        )
    assert same(columns_file.read_columns(journal), RECORDS)
    with Ledger(journal, LAYERS, POOL) as ledger:
        assert ledger.records == RECORDS


def test_readers_load_neither_optuna_nor_torch(journal: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import search.analysis.rerank, search.analysis.csv_export\n"
        "from search.ledger.columns import read_columns\n"
        "assert len(read_columns(Path(sys.argv[1]))) == 3\n"
        "print([n for n in ('torch', 'ray', 'optuna', 'matplotlib') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(journal)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr
