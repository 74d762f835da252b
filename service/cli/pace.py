"""How a search is getting on: who is training, how fast it goes, what is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.markup import escape
from rich.table import Table

from search.job import events

#: rows of the table of running candidates; more would push the bar off the screen
MOST_ROWS = 16


class Pace:
    """What the events of a search say about its speed.

    Attributes:
        running: key → last news of every candidate under way, in the order of their first news.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.running: dict[str, events.CandidateRunning] = {}
        self._began = clock()
        self._done = self._left = 0

    def take(self, event: events.Event) -> None:
        """Take an event in; those that are not about candidates change nothing."""
        if isinstance(event, events.Stage):
            self.running.clear()
            self._began, self._done, self._left = self.clock(), 0, 0
        elif isinstance(event, events.CandidateRunning):
            self.running[event.key] = event
        elif isinstance(event, events.CandidateDone):
            self.running.pop(event.key, None)
            self._left = event.budget - event.number
            if event.replayed:
                # it cost no time now, and says nothing about what is to come
                self._began = self.clock()
            else:
                self._done += 1

    @property
    def samples_per_second(self) -> float:
        """Of all candidates under way together."""
        return sum(news.samples_per_second for news in self.running.values())

    @property
    def candidates_per_hour(self) -> float | None:
        """Since the search began or went on; None before the first one."""
        seconds = self.clock() - self._began
        return 3600 * self._done / seconds if self._done and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the budget is spent, at this pace; None before the first candidate."""
        rate = self.candidates_per_hour
        return None if rate is None else 3600 * self._left / rate

    def speed(self) -> str:
        """``85 candidates/h, 2,310 samples/s``, as far as it is known."""
        rate = self.candidates_per_hour
        parts = [] if rate is None else [f"{rate:,.0f} candidates/h"]
        if self.running:
            parts.append(f"{self.samples_per_second:,.0f} samples/s")
        return ", ".join(parts)

    def left(self) -> str:
        """``about 12 min left``, or nothing."""
        return f"about {duration(self.seconds_left)} left" if self.seconds_left else ""

    def table(self) -> Table:
        """The candidates under way, a row each."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("candidate", "KB", "epoch", "loss", "accuracy", "samples/s", "where"):
            table.add_column(column, justify="left" if column == "where" else "right")
        shown = list(self.running.values())[:MOST_ROWS]
        for news in shown:
            table.add_row(
                str(news.number),
                f"{news.kb:,.1f}",
                f"{news.epoch}/{news.epochs}",
                f"{news.loss:.3f}",
                accuracy(news),
                f"{news.samples_per_second:,.0f}",
                escape(news.where),
            )
        if len(self.running) > len(shown):
            table.add_row("…", f"and {len(self.running) - len(shown)} more")
        return table


def running_text(news: events.CandidateRunning) -> str:
    """One candidate under way, in a line."""
    known = "" if news.accuracy is None else f"  {accuracy(news)}"
    return (
        f"candidate {news.number}  {news.kb:9,.1f} KB  epoch {news.epoch}/{news.epochs}  "
        f"loss {news.loss:.3f}{known}  {news.samples_per_second:,.0f} samples/s"
    )


def accuracy(news: events.CandidateRunning) -> str:
    return "–" if news.accuracy is None else f"{news.accuracy:.2%}"


def duration(seconds: float) -> str:
    """``48 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
