"""What the benchmark of samplers has paid for outlives a kill at any byte."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.quality import contest, lines, making, resnet
from benchmarks.quality.play import Search
from benchmarks.quality.resnet import Live


@pytest.fixture(autouse=True)
def _nothing_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "FILE", tmp_path / "data" / "committed.parquet")


def test_a_line_torn_at_any_byte_is_cut_off_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    # a torn line may end like a whole one
    first, second = {"a": {"b": 1}}, {"c": {"d": 2}}
    lines.append(file, first)
    whole = len(file.read_bytes())
    lines.append(file, second)
    content = file.read_bytes()
    for size in range(len(content) + 1):
        file.write_bytes(content[:size])
        before = [first, second][: (size >= whole) + (size >= len(content))]
        assert lines.rows(file) == before
        lines.append(file, {"e": 3})
        assert lines.rows(file) == [*before, {"e": 3}]


class TestWhoeverAdds:
    """Each of the three files goes on after a torn line."""

    TORN = b'{"network": 7, "se'

    def test_trainings_of_the_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / making.TRAINED).write_bytes(self.TORN)
        row = {"network": 3, "seed": 0, "accuracy": 0.5, "seconds": 0.1}
        monkeypatch.setattr(
            "multiprocessing.get_context", lambda _: SimpleNamespace(Pool=ThreadPool)
        )
        monkeypatch.setattr(making, "_trained", lambda task: row)
        making._train([(str(tmp_path), 3, (0,), 0)], 1, tmp_path)
        assert making.finished(tmp_path) == {(3, 0): row}

    def test_searches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "searches"
        file.write_bytes(self.TORN)
        search = Search("random", "toy", "paper", 0, [(1, 2)], [0], [-1.0], told={"x": [(1, 2.0)]})
        monkeypatch.setattr(
            contest, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count)
        )
        monkeypatch.setattr(contest, "_play", lambda job: search)
        job = ("toy", "paper", "random", 0)
        assert list(contest.run([job], 1, file)) == [search]
        assert [asdict(found) for found in contest.read(file)] == [asdict(search)]

    def test_students_of_resnet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resnet.Live, "key", lambda self, actions: str(actions))
        monkeypatch.setattr(resnet.Live, "_distil", lambda self, actions, seed: 0.75)
        live = Live(tmp_path)
        live.file.write_bytes(self.TORN)
        assert live.searched((1,)) == 0.75
        monkeypatch.setattr(resnet.Live, "_distil", _never)
        assert Live(tmp_path).searched((1,)) == 0.75


def test_what_is_committed_is_not_distilled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"key": "(1,)", "seed": 0, "actions": [1], "accuracy": 0.75, "seconds": 1.0}
    failed = first | {"key": "(2,)", "actions": [2], "accuracy": None}
    lines.append(tmp_path / f"resnet-{resnet.SETTING}.jsonl", first)
    resnet.pack(tmp_path)
    (tmp_path / f"resnet-{resnet.SETTING}.jsonl").unlink()
    lines.append(tmp_path / f"resnet-{resnet.SETTING}.jsonl", failed)
    resnet.pack(tmp_path)  # adds to it
    monkeypatch.setattr(resnet.Live, "key", lambda self, actions: str(actions))
    monkeypatch.setattr(resnet.Live, "_distil", _never)
    live = Live(tmp_path / "new")
    assert live.searched((1,)) == 0.75
    assert live.searched((2,)) is None
    # under another recipe accuracies are others
    monkeypatch.setattr(resnet, "SETTING", "another")
    assert resnet.packed() == []


def _never(*_: Any) -> float:
    raise AssertionError("it was distilled before")
