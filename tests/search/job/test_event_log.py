"""A run's events as JSON, and the file of them that other processes read."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadInput
from search.job.event_log import followed, read_lines, written
from search.job.events import (
    KINDS,
    CandidateRunning,
    Event,
    Finished,
    Logged,
    Note,
    Progress,
    Stage,
    Started,
    Stopped,
    from_dict,
    to_dict,
)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    float | None: st.none() | st.floats(allow_nan=False),
}


def events() -> st.SearchStrategy[Logged]:
    """Of every kind, with any values."""
    kinds: list[st.SearchStrategy[Logged]] = []
    for kind in KINDS.values():
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        result = st.just({"pair": {"accuracy": 0.5}, "warnings": []})
        make: Any = kind
        kinds.append(st.builds(make, **{n: VALUES.get(hints[n], result) for n in names}))
    return st.one_of(kinds)


@given(events())
def test_an_event_comes_back_from_json(event: Logged) -> None:
    text = json.dumps(to_dict(event), allow_nan=False)
    assert from_dict(json.loads(text)) == event


def test_what_is_no_number_comes_back_too() -> None:
    odd = CandidateRunning("k", 1, 2.0, 1, 3, float("nan"), None, float("inf"))
    back = from_dict(json.loads(json.dumps(to_dict(odd), allow_nan=False)))
    assert isinstance(back, CandidateRunning)
    assert str(back.loss) == "nan"
    assert back.samples_per_second == float("inf")


def test_events_of_a_later_version() -> None:
    assert from_dict({"kind": "stage", "name": "a", "detail": "b", "colour": 3}) == Stage("a", "b")
    assert from_dict({"kind": "stage", "name": "a"}) == Stage("a")
    for values in ({"kind": "dance"}, {}, {"kind": "stage"}):
        with pytest.raises(ValueError, match=r"no event of a known kind|without name"):
            from_dict(values)


def a_job(*told: Event, error: BaseException | None = None) -> Generator[Event, None, None]:
    yield from told
    if error is not None:
        raise error


def test_a_run_is_written_down_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    told: list[Event] = [Stage("search"), Note("a"), Finished({"out": "x"})]
    for count, event in enumerate(written(a_job(*told), path), 1):
        # it stands there before anybody acts on it
        assert [line.event for line in read_lines(path)][1:] == told[:count]
        assert event == told[count - 1]
    first, *rest = [line.event for line in read_lines(path)]
    assert isinstance(first, Started)
    assert rest == told
    # who goes on with it goes on with the file
    list(written(a_job(Note("b")), path))
    assert [line.event for line in read_lines(path)][-1] == Note("b")
    assert sum(isinstance(line.event, Started) for line in read_lines(path)) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), ""),
        (BadInput("it is", value=1, bound="2", remedy="Do."), "it is: got 1; expected 2. Do."),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_how_a_run_ends_early_is_written_down(
    tmp_path: Path, error: BaseException, reason: str
) -> None:
    path = tmp_path / "events.ndjson"
    with pytest.raises(type(error)):
        list(written(a_job(Note("a"), error=error), path))
    assert [line.event for line in read_lines(path)][1:] == [Note("a"), Stopped(reason)]


def test_whoever_stops_listening_stops_the_run(tmp_path: Path) -> None:
    path, ended = tmp_path / "events.ndjson", []

    def job() -> Generator[Event, None, None]:
        try:
            yield Note("a")
            yield Note("b")
        finally:
            ended.append(True)

    following = written(job(), path)
    next(following)
    following.close()
    assert ended == [True]
    assert [line.event for line in read_lines(path)][1:] == [Note("a"), Stopped()]


def test_much_progress_is_few_lines_and_its_end_is_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    steps = [Progress(done, 500) for done in range(1, 501)]
    assert list(written(a_job(*steps), path)) == steps
    kept = [line.event for line in read_lines(path)][1:]
    assert 2 <= len(kept) < 100
    assert kept[-1] == steps[-1]


def test_a_full_disk_costs_lines_and_no_run(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "events.ndjson").symlink_to(full)
    assert list(written(a_job(Note("a")), tmp_path / "events.ndjson")) == [Note("a")]


def test_what_cannot_be_read_is_left_out_and_a_torn_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    assert list(read_lines(path)) == []
    good = json.dumps({"time": 1.5} | to_dict(Note("a"))).encode() + b"\n"
    path.write_bytes(good + b"no json\n[]\n" + b'{"time": 2, "kind": "dance"}\n' + good[:-9])
    (line,) = read_lines(path)
    assert (line.time, line.event) == (1.5, Note("a"))
    with path.open("ab") as file:
        file.write(good[-9:])
    assert [found.event for found in read_lines(path, line.end)] == [Note("a")]


def test_who_follows_hears_what_is_added_and_ends_when_it_is_over(tmp_path: Path) -> None:
    path, over = tmp_path / "events.ndjson", threading.Event()
    list(written(a_job(Note("before")), path))

    def goes_on() -> None:
        list(written(a_job(Note("later"), Note("last")), path))
        over.set()

    told = []
    other = threading.Thread(target=goes_on)
    for line in followed(path, over.is_set):
        told.append(line.event)
        if line.event == Note("before"):
            other.start()
    other.join()
    assert [event for event in told if isinstance(event, Note)] == [
        Note("before"), Note("later"), Note("last"),
    ]  # fmt: skip
