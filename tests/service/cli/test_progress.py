"""What a search shows while it runs, on a terminal and in a log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from search.job.events import CandidateDone, CandidateRunning, Event, Finished, Stage
from service.cli import progress
from service.cli.pace import MOST_ROWS, Pace, duration
from service.cli.progress import show


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def running(key: str, epoch: int = 1, accuracy: float | None = None) -> CandidateRunning:
    return CandidateRunning(key, 3, 120.0, epoch, 4, 0.5214, accuracy, 1200.0, "worker 2 on [ab]")


def done(number: int, key: str, replayed: bool = False, pruned: bool = False) -> CandidateDone:
    return CandidateDone(
        number, 10, 0.5, 0.91, 120.0, 0.5, 0.91, 120.0, replayed, "", key, pruned, epochs=1
    )


def shown(view: Callable[[Console], progress._Lines | progress._Bars], *told: Event) -> str:
    """What a view prints, its last picture included."""
    terminal = view is progress._Bars
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, highlight=False)
    with view(console) as open_view:
        for event in told:
            open_view.show(event)
        if isinstance(open_view, progress._Bars):
            console.print(open_view._view())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_pace_counts_what_was_distilled_now(clock: Clock) -> None:
    pace = Pace(clock)
    pace.take(Stage("search"))
    assert (pace.candidates_per_hour, pace.seconds_left) == (None, None)
    clock.now = 100.0
    # two candidates of an earlier process, met again after 100 s of loading, cost nothing now
    for number in (1, 2):
        pace.take(done(number, f"k{number}", replayed=True))
    clock.now = 130.0
    for number in (3, 4):
        pace.take(done(number, f"k{number}"))
    # 2 in 30 s; the 6 that are left of 10 take 90 s
    assert pace.candidates_per_hour == pytest.approx(240)
    assert pace.seconds_left == pytest.approx(90)
    assert (pace.speed(), pace.left()) == ("240 candidates/h", "about 90 s left")


def test_candidates_under_way_come_and_go(clock: Clock) -> None:
    pace = Pace(clock)
    pace.take(running("a"))
    pace.take(running("b"))
    pace.take(running("a", epoch=2))
    assert [news.epoch for news in pace.running.values()] == [2, 1]
    assert pace.samples_per_second == 2400
    pace.take(done(1, "a"))
    assert list(pace.running) == ["b"]
    # the winner's training is no candidate's
    pace.take(Stage("train"))
    assert pace.running == {}


def test_a_terminal_shows_a_row_per_candidate() -> None:
    text = shown(progress._Bars, Stage("search"), running("a", 2, 0.971), running("b"))
    rows = [line.split() for line in text.splitlines() if "worker 2" in line]
    # whatever stands in brackets is no markup of ours
    assert rows[-2][:6] == ["3", "120.0", "2/4", "0.521", "97.10%", "1,200"]
    assert rows[-2][6:] == ["worker", "2", "on", "[ab]"]
    assert rows[-1][4] == "–"
    assert "2,400 samples/s" in text


def test_hundreds_of_candidates_leave_room_for_the_rest() -> None:
    text = shown(progress._Bars, *(running(str(number)) for number in range(300)))
    table = text.rsplit("candidate", 1)[1]
    assert table.count("worker 2") == MOST_ROWS
    assert f"and {300 - MOST_ROWS} more" in table


def test_a_log_gets_a_line_now_and_then() -> None:
    text = shown(progress._Lines, Stage("search"), *(running("a", epoch) for epoch in (1, 2, 3)))
    (line,) = (line for line in text.splitlines() if "epoch" in line)
    assert "candidate 3      120.0 KB  epoch 1/4  loss 0.521  1,200 samples/s" in line
    assert line.endswith("1 under way, 1,200 samples/s")


def test_what_was_stopped_at_a_rung_says_so() -> None:
    text = shown(progress._Lines, done(1, "a", pruned=True))
    assert "candidate 1/10      120.0 KB  91.00%  stopped after epoch 1" in text


@pytest.mark.parametrize(("seconds", "text"), [(48.2, "48 s"), (720, "12 min"), (12_240, "3.4 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


RESULT: dict[str, Any] = {
    "verdict": "A student of 21.4 KB is right on 97.78% of 360 test rows.",
    "teacher": {"kb": 440.9, "ms": 0.1, "accuracy": 0.9889},
    "student": {"kb": 21.4, "ms": 0.02, "accuracy": 0.9778, "file_kb": 24.0},
    "router": {"name": "margin", "kb": 0.5},
    "pair": {"kb": 21.9, "file_kb": 25.1, "accuracy": 0.9833, "appeals": 0.072},
    "bundle": "runs/[demo]/bundle",
    "report": "runs/[demo]/report.html",
    "warnings": [],
    "caveats": [],
}


def told(
    capsys: pytest.CaptureFixture[str], result: dict[str, Any], **options: bool
) -> tuple[str, str]:
    show(iter([Finished(result)]), resume="runs/demo", as_json=True, **options)
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_end_says_what_came_of_it_in_a_sentence_and_every_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, said = told(capsys, RESULT)
    assert RESULT["verdict"] in said
    assert "student 24.0 KB, pair 25.1 KB" in said
    assert "21.9" in said
    assert "runs/[demo]/bundle" in said


WARNING = {"name": "student-at-chance", "text": "the student is no better than chance"}


def test_strictly_a_warning_is_an_exit_code_after_all_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warned = RESULT | {"warnings": [WARNING]}
    out, _ = told(capsys, warned)  # a warning alone ends nothing
    assert json.loads(out)["warnings"] == [WARNING]
    with pytest.raises(SystemExit) as end:
        told(capsys, warned, strict=True)
    assert end.value.code == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["warnings"] == [WARNING]
    assert "--strict: student-at-chance" in captured.err
    # caveats are no fault
    told(capsys, RESULT | {"caveats": ["nobody named unseen rows"]}, strict=True)
