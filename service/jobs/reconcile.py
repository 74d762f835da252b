"""Where a run stands, by its own files: events.ndjson, read on from where it was left, and
result.json. Nothing is guessed from the process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from search.job.event_log import read_lines
from search.job.events import (
    CandidateDone,
    CandidateRunning,
    Finished,
    Logged,
    Note,
    Progress,
    Stage,
    Started,
    Stopped,
)
from search.job.run_folder import RunFolder
from service.jobs.model import RUNNING, Json, State

#: points of a sparkline
POINTS = 60
#: figures over which the pace of a search is taken: the last so many candidates
_PACE = 20
#: stage of a run → state of its job; what is not here changes nothing. The export to ONNX comes
#: before the routers, which are measured on what ships.
STATES = {
    "prepare": State.CHECKING,
    "teacher": State.CHECKING,
    "pilots": State.SEARCHING,
    "search": State.SEARCHING,
    "train": State.TRAINING,
    "package": State.ROUTING,
    "head": State.ROUTING,
    "folds": State.ROUTING,
    "routers": State.ROUTING,
    "test": State.PACKAGING,
}


@dataclass
class RunView:
    """A run as its files tell it so far.

    Attributes:
        run: its folder.
        state: of the job, while an engine works; it only goes forward within an attempt.
        stage: in the run's words.
        finished: the last process that took up the run has finished it.
        stopped: why that process ended without finishing it; None where it has not.
        progressed: a candidate was distilled, or a later state reached than ever before, since
            the attempt began.
    """

    run: Path
    offset: int = 0
    state: State = State.CHECKING
    stage: str = ""
    finished: bool = False
    stopped: str | None = None
    progressed: bool = False
    candidates: int = 0
    budget: int | None = None
    best: list[float] = field(default_factory=list)
    best_kb: float | None = None
    best_accuracy: float | None = None
    warnings: dict[str, str] = field(default_factory=dict)
    seen_at: float | None = None
    _reached: int = 0
    _searched: bool = False
    _done_at: deque[float] = field(default_factory=lambda: deque(maxlen=_PACE))
    _progress: tuple[float, int, int] | None = None  # since when, of how many, done by then
    _eta: tuple[float, float] | None = None
    _result: tuple[float, Json] | None = None

    @property
    def events(self) -> Path:
        """The file of events."""
        return self.run / "events.ndjson"

    def begin(self) -> None:
        """A new attempt begins: what is told until now is no progress of its."""
        self.read()
        self.progressed = False
        self._take_up()

    def read(self) -> bool:
        """Take in what was added to the events; whether anything was."""
        with suppress(OSError):
            size = self.events.stat().st_size
            if size == self.offset:
                return False
            if size < self.offset:  # another file: the run was put back from a backup
                self.__init__(self.run)  # type: ignore[misc]
        before = self.offset
        for line in read_lines(self.events, self.offset):
            self.offset, self.seen_at = line.end, line.time
            self._take(line.event, line.time)
        return self.offset != before

    def _take_up(self) -> None:
        self.state, self.stage = State.CHECKING, ""
        self.finished, self.stopped = False, None
        # a run that began with another one's candidates has been searched already
        self._searched = RunFolder(self.run).origin.exists()
        self._eta = self._progress = None
        self._done_at.clear()

    def _take(self, event: Logged, at: float) -> None:
        match event:
            case Started():
                self._take_up()
                self.progressed = False
                self.warnings.clear()
            case Stage():
                self._enter(event)
            case Note() if event.warning:
                self.warnings[event.name or event.text] = event.text
            case Progress():
                self._advance(event, at)
            case CandidateDone():
                self._count(event, at)
            case Finished():
                self.finished, self._eta = True, None
            case Stopped():
                self.stopped = event.reason or "stopped"
            case CandidateRunning() | _:
                pass

    def _enter(self, stage: Stage) -> None:
        self.stage = f"{stage.name}: {stage.detail}" if stage.detail else stage.name
        self._progress = self._eta = None
        self._searched |= stage.name == "search"
        state = STATES.get(stage.name)
        if state is State.TRAINING and not self._searched:
            state = State.SEARCHING  # plain students, before the search
        if state is None or RUNNING.index(state) <= RUNNING.index(self.state):
            return
        self.state = state
        if RUNNING.index(state) > self._reached:
            self._reached, self.progressed = RUNNING.index(state), True

    def _advance(self, event: Progress, at: float) -> None:
        if self._progress is None or self._progress[1] != event.total:
            self._progress = (at, event.total, event.done)
        since, total, before = self._progress
        if event.done > before:
            self._eta = (at, (at - since) / (event.done - before) * (total - event.done))

    def _count(self, event: CandidateDone, at: float) -> None:
        self.budget = event.budget
        if event.number > len(self.best):
            self.best.append(event.best_reward)
        else:  # told again by a process that took up the run
            self.best[event.number - 1] = event.best_reward
        self.candidates = max(self.candidates, event.number)
        self.best_kb, self.best_accuracy = event.best_kb, event.best_accuracy
        if event.replayed:
            return
        self.progressed = True
        self._done_at.append(at)
        if len(self._done_at) > 1:
            pace = (at - self._done_at[0]) / (len(self._done_at) - 1)
            self._eta = (at, pace * max(0, event.budget - event.number))

    def result(self) -> Json | None:
        """result.json; None where there is none yet."""
        path = self.run / "result.json"
        with suppress(OSError, ValueError):
            at = path.stat().st_mtime
            if self._result is None or self._result[0] != at:
                self._result = (at, json.loads(path.read_text()))
            return self._result[1]
        return None

    def summary(self, now: float, kb_limit: float | None = None) -> Json:
        """Figures for lists and pages; those of the result as soon as the run is finished."""
        found: Json = {
            "candidates": self.candidates,
            "budget": self.budget,
            "best_reward": self.best[-1] if self.best else None,
            "best_rewards": thinned(self.best),
            "best_kb": self.best_kb,
            "best_accuracy": self.best_accuracy,
            "warnings": [{"name": name, "text": text} for name, text in self.warnings.items()],
            "eta_seconds": None,
            "kb_limit": kb_limit,
        }
        if self._eta is not None and not self.finished:
            found["eta_seconds"] = round(max(0.0, self._eta[1] - (now - self._eta[0])), 1)
        result = self.result() if self.finished else None
        return found | (figures(result) if result else {})


def figures(result: Json) -> Json:
    """What lists and pages show of a result."""
    student, pair, teacher = (result.get(name) or {} for name in ("student", "pair", "teacher"))
    router, goal = result.get("router") or {}, result.get("goal") or {}
    found = {
        "student_kb": student.get("kb"),
        "student_accuracy": student.get("accuracy"),
        "student_ms": student.get("ms"),
        "pair_accuracy": pair.get("accuracy"),
        "pair_kb": pair.get("kb"),
        "appeals": pair.get("appeals"),
        "teacher_accuracy": teacher.get("accuracy"),
        "teacher_kb": teacher.get("kb"),
        "router": router.get("name"),
        "goal_met": goal.get("met"),
        "verdict": result.get("verdict"),
        "warnings": result.get("warnings", []),
        "candidates": result.get("candidates"),
        "eta_seconds": None,
    }
    return {name: value for name, value in found.items() if value is not None} | {
        "eta_seconds": None
    }


def thinned(values: Sequence[float], points: int = POINTS) -> list[float]:
    """At most so many of them, the first and the last included, evenly spread."""
    if len(values) <= points:
        return [round(value, 6) for value in values]
    step = (len(values) - 1) / (points - 1)
    return [round(values[round(place * step)], 6) for place in range(points)]


def log_tail(folder: Path, size: int = 65_536) -> str:
    """The end of a job's log."""
    path = folder / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode("utf-8", "replace")


__all__ = ["RunView", "figures", "log_tail", "thinned"]
