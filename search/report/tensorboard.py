"""TensorBoard event files of a search, by Ray Tune's own logger.

``search/`` holds reward, accuracy and KB of every candidate and the best reward so far, by the
order of the ledger; ``candidate_KEY/`` holds loss and accuracy of one candidate by its epochs.

What a resumed search meets again is written again, in place of what was there: ``search/`` from
the ledger, a candidate that was under way from its first epoch.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edge import made
from search.job.events import CandidateDone, CandidateRunning, Event

#: how the names of event files begin
EVENTS = "events.out.tfevents."


def logged(events: Generator[Event, None, None], folder: Path) -> Generator[Event, None, None]:
    """Pass the events of a search on, and write what they tell to event files in ``folder``.

    Closing it closes the search at once, not only when that is collected.
    """
    with closing(events), EventFiles(folder) as files:
        for event in events:
            if isinstance(event, CandidateRunning):
                files.epoch(event)
            elif isinstance(event, CandidateDone):
                files.candidate(event)
            yield event


@dataclass(eq=False)
class _Series:
    """What the logger knows of a trial: a folder. (A trial of Ray Tune's cannot be made without
    an experiment around it.)"""

    folder: Path
    evaluated_params: dict[str, Any] = field(default_factory=dict)
    last: int = 0

    @property
    def local_path(self) -> str:
        return str(self.folder)

    def init_local_path(self) -> None:
        made.make_folder(self.folder)
        for path in self.folder.glob(f"{EVENTS}*"):
            path.unlink()


class EventFiles:
    """Open event files of one search; a context manager."""

    def __init__(self, folder: Path) -> None:
        # loading Ray Tune takes a second: only who wants these files should wait
        from ray.air.constants import TRAINING_ITERATION
        from ray.tune import logger

        tbx: Any = logger.TBXLoggerCallback
        self.folder, self.logger, self.step = folder, tbx(), TRAINING_ITERATION
        self.search = _Series(folder / "search")
        self.running: dict[str, _Series] = {}
        self.best = -math.inf

    def epoch(self, event: CandidateRunning) -> None:
        """A point of a candidate's curves."""
        series = self.running.get(event.key)
        if series is None:
            series = _Series(self.folder / f"candidate_{event.key[:12]}")
            self.running[event.key] = series
        if event.epoch <= series.last:
            # its worker died, and it begins again
            self.logger.log_trial_end(series)
        series.last = event.epoch
        values = {"loss": event.loss, "samples_per_second": event.samples_per_second}
        if event.accuracy is not None:
            values["accuracy"] = event.accuracy
        self._write(series, event.epoch, values)

    def candidate(self, event: CandidateDone) -> None:
        """A point of the search's curves."""
        series = self.running.pop(event.key, None)
        if series is not None:
            self.logger.log_trial_end(series)
        values = {"reward": event.reward, "kb": event.kb}
        if not event.reason:
            values["accuracy"] = event.accuracy
        if not event.reason and not event.pruned:
            self.best = max(self.best, event.reward)
        if self.best > -math.inf:
            values["best_reward"] = self.best
        self._write(self.search, event.number, values)

    def _write(self, series: _Series, step: int, values: dict[str, float]) -> None:
        self.logger.log_trial_result(step, series, values | {self.step: step})

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for series in (self.search, *self.running.values()):
            self.logger.log_trial_end(series)
        for path in self.folder.glob(f"*/{EVENTS}*"):
            made.note(path)
