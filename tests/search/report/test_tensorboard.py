"""Event files are read back record by record, as TensorBoard does."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.job.events import CandidateDone, CandidateRunning, Event, Note
from search.report.tensorboard import logged

#: tag → (step, value), in the order of writing
Points = dict[str, list[tuple[int, Any]]]
Written: Any = importlib.import_module("tensorboardX.proto.event_pb2").Event


def points(folder: Path) -> Points:
    """All that the event files of a folder hold."""
    found: Points = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Written.FromString(content[place + 12 : place + 12 + length])
            place += length + 16  # the length and its checksum, the record and its own
            for value in event.summary.value:
                tag = value.tag.removeprefix("ray/tune/")
                found.setdefault(tag, []).append((event.step, pytest.approx(value.simple_value)))
    return found


def running(key: str, epoch: int, accuracy: float | None = None) -> CandidateRunning:
    return CandidateRunning(key * 24, 1, 20.0, epoch, 2, 1 / epoch, accuracy, 1000.0)


def done(
    number: int, key: str, reward: float, *, pruned: bool = False, reason: str = ""
) -> CandidateDone:
    return CandidateDone(
        number, 4, reward, 0.9, 10.0 * number, reward, 0.9, 20.0, False, reason, key * 24, pruned
    )


def told(events: list[Event], folder: Path) -> None:
    assert list(logged((event for event in events), folder)) == events


def test_curves_of_candidates_and_of_the_search(tmp_path: Path) -> None:
    told(
        [
            Note("a stage begins"),
            running("a", 1),
            running("b", 1, 0.4),
            running("a", 2, 0.8),
            done(1, "a", 0.5),
            done(2, "b", 0.7, pruned=True),
            done(3, "c", 0.0, reason="Diverged: nan"),
            done(4, "d", 0.6),
        ],
        tmp_path,
    )
    first = points(tmp_path / "candidate_aaaaaaaaaaaa")
    assert first["loss"] == [(1, 1.0), (2, 0.5)]
    assert first["accuracy"] == [(2, 0.8)]
    assert points(tmp_path / "candidate_bbbbbbbbbbbb")["accuracy"] == [(1, 0.4)]
    search = points(tmp_path / "search")
    assert search["reward"] == [(1, 0.5), (2, 0.7), (3, 0.0), (4, 0.6)]
    assert search["kb"] == [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)]
    # what failed has no accuracy, and neither it nor what was stopped can be the best
    assert search["accuracy"] == [(1, 0.9), (2, 0.9), (4, 0.9)]
    assert search["best_reward"] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.6)]


def test_a_resumed_search_writes_nothing_twice(tmp_path: Path) -> None:
    before: list[Event] = [running("a", 1), running("a", 2), done(1, "a", 0.5), running("b", 1)]
    stopped = logged((event for event in before), tmp_path)
    # as far as a process gets that is killed: nothing is closed in order
    assert [next(stopped) for _ in before] == before
    again = replace(done(1, "a", 0.5), replayed=True)
    told([again, running("b", 1), running("b", 2), done(2, "b", 0.4)], tmp_path)
    assert points(tmp_path / "search")["reward"] == [(1, 0.5), (2, 0.4)]
    assert points(tmp_path / "candidate_aaaaaaaaaaaa")["loss"] == [(1, 1.0), (2, 0.5)]
    assert points(tmp_path / "candidate_bbbbbbbbbbbb")["loss"] == [(1, 1.0), (2, 0.5)]


def test_a_candidate_that_begins_again_begins_its_curve_again(tmp_path: Path) -> None:
    told([running("a", 1), running("a", 1), running("a", 2), done(1, "a", 0.5)], tmp_path)
    assert points(tmp_path / "candidate_aaaaaaaaaaaa")["loss"] == [(1, 1.0), (2, 0.5)]


def test_closing_it_closes_the_search(tmp_path: Path) -> None:
    closed = []

    def search() -> Generator[Event, None, None]:
        try:
            yield done(1, "a", 0.5)
        finally:
            closed.append(True)

    inner = search()
    events = logged(inner, tmp_path)
    next(events)
    events.close()
    assert closed
    assert points(tmp_path / "search")["reward"] == [(1, 0.5)]
