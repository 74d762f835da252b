"""The ledger on disk: what is finished stays finished, whatever was killed when."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edge.errors import BadInput
from search.ledger.ledger import STUDY, Ledger, Record
from tests.search.jobs import ROOT

LAYERS = ("conv1", "layer1.0.conv1", "fc")
POOL = (0.0, 0.5, 1.0)


def record(number: int, reason: str = "") -> Record:
    return Record(
        key=f"key{number}",
        actions=(number % 3, (number + 1) % 3, 2),
        accuracy=0.0 if reason else 0.9 + number / 1000,
        reward=0.0 if reason else 1 / (3 + number),  # a third has no end in binary either
        parameters=100 + number,
        bytes=400 + 4 * number,
        macs=7 * number,
        seconds=0.1 * number,
        reason=reason,
    )


RECORDS = [record(0), record(1, "Diverged: the loss is nan"), record(2)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.journal"


def written(path: Path, records: list[Record]) -> Path:
    with Ledger(path, LAYERS, POOL) as ledger:
        for item in records:
            ledger.add(item)
    return path


def read(path: Path) -> list[Record]:
    with Ledger(path, LAYERS, POOL) as ledger:
        return list(ledger.records)


def test_what_is_written_is_read_back_to_the_last_bit(path: Path) -> None:
    assert read(written(path, RECORDS)) == RECORDS


def test_a_record_is_on_disk_when_add_returns(path: Path) -> None:
    with Ledger(path, LAYERS, POOL) as ledger:
        for number, item in enumerate(RECORDS, 1):
            ledger.add(item)
            assert path.read_text().count('"key"') == number
            assert path.read_bytes().endswith(b"\n")


def test_candidates_are_found_by_key(path: Path) -> None:
    written(path, RECORDS[:1])
    with Ledger(path, LAYERS, POOL) as ledger:
        ledger.add(RECORDS[1])
        assert ledger.get("key0") == RECORDS[0]
        assert ledger.get("key1") == RECORDS[1]
        assert ledger.get("key2") is None


def test_a_failed_candidate_says_so(path: Path) -> None:
    assert [item.failed for item in read(written(path, RECORDS))] == [False, True, False]


def test_kilobytes_have_1024_bytes() -> None:
    assert Record("k", (2,), 1.0, 1.0, 1, 1536, 0, 0.0).kb == 1.5


def test_any_optuna_tool_can_read_it(path: Path) -> None:
    written(path, RECORDS)
    study = optuna.load_study(
        study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.value for trial in study.trials] == [1 / 3, 0.0, 1 / 5]
    # actions 0, 1, 2 are the coefficients 0, ½, 1
    assert study.trials[0].params == {"000_conv1": 0.0, "001_layer1.0.conv1": 0.5, "002_fc": 1.0}
    assert study.best_trial.number == 0
    assert study.trials[2].user_attrs["accuracy"] == 0.902
    assert study.trials[2].user_attrs["kb"] == 408 / 1024
    assert study.trials[1].user_attrs["reason"] == "Diverged: the loss is nan"


def test_the_course_of_a_training_is_kept_where_optuna_looks_for_it(path: Path) -> None:
    whole = replace(
        record(0), epochs=3, curve=(0.5, math.nan, 0.9), mode="bf16 channels_last", proposed=7
    )
    stopped = replace(record(1), pruned=True, epochs=1, curve=(0.4,), accuracy=0.4)
    written(path, [whole, stopped])
    assert read(path) == [whole, stopped]
    study = optuna.load_study(
        study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    # after the second epoch nobody looked
    assert study.trials[0].intermediate_values == {1: 0.5, 3: 0.9}
    assert study.trials[0].user_attrs["mode"] == "bf16 channels_last"
    assert study.best_trial.number == 0
    assert (whole.at(1), whole.at(2), whole.at(4)) == (0.5, None, None)
    assert (whole.whole, stopped.whole, record(2, "no").whole) == (True, False, False)


def test_a_journal_of_an_earlier_version_opens(path: Path) -> None:
    written(path, RECORDS)
    content = path.read_text()
    for field in ("epochs", "mode", "proposed"):
        content = re.sub(rf'"{field}":[^,]*,', "", content)
    assert '"epochs"' not in content
    path.write_text(content)
    assert read(path) == RECORDS


def test_a_torn_last_line_is_cut_at_whatever_byte_the_process_died(path: Path) -> None:
    written(path, RECORDS)
    content = path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    assert b'"key2"' in content[last:]
    # up to the whole line but for its end, where a parser would already be content
    for length in range(last, len(content)):
        path.write_bytes(content[:length])
        with Ledger(path, LAYERS, POOL) as ledger:
            assert ledger.records == RECORDS[:2]
            if length % 50 == 0 or length == len(content) - 1:
                ledger.add(RECORDS[2])
        assert path.read_bytes().startswith(content[:last])
        if b'"key2"' in path.read_bytes():
            assert read(path) == RECORDS


def test_a_file_torn_in_its_very_first_lines_begins_again(path: Path) -> None:
    written(path, [])
    content = path.read_bytes()
    for length in range(0, len(content) + 1, 5):
        path.write_bytes(content[:length])
        assert read(written(path, RECORDS[:1])) == RECORDS[:1]


def test_one_process_at_a_time(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from search.ledger.ledger import Ledger\n"
        f"with Ledger(Path(sys.argv[1]), {LAYERS!r}, {POOL!r}):\n"
        "    print('open', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BadInput, match="the run is in use") as caught:
            Ledger(path, LAYERS, POOL)
        assert str(caught.value.value).startswith(f"{path.parent}, by process {other.pid} on")
        other.kill()
        other.wait()
    # a killed process holds nothing
    assert read(path) == []


def test_a_lock_that_optuna_left_behind_costs_no_time(path: Path) -> None:
    import time

    written(path, RECORDS)
    Path(f"{path}.lock").symlink_to(path)  # as JournalFileBackend takes it; its grace is 30 s
    start = time.monotonic()
    written(path, [record(3)])
    assert time.monotonic() - start < 5
    assert read(path) == [*RECORDS, record(3)]
