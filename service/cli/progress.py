"""A job's events on a terminal: what is done, what is under way, the best so far, the time left.

Everything goes to stderr; ``--json`` alone writes to stdout. Without a terminal, as in a log file,
there are plain lines instead of a moving bar and a table.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from search.job import events
from search.job.run_folder import RunFolder
from service.cli import streams
from service.cli.pace import Pace, duration, running_text

#: a log gets a line of progress at most this often, seconds
LOG_EVERY = 10.0


#: exit code where a warning stands and ``--strict`` was given
STRICT = 3


def show(job: Iterator[events.Event], resume: str, as_json: bool, strict: bool = False) -> None:
    """Run a job to its end.

    Args:
        job: its events.
        resume: folder of the run, named where Ctrl-C stops the job.
        as_json: print the result on stdout.
        strict: whether a warning in the result makes the exit code :data:`STRICT`.

    Raises:
        SystemExit: with 130 after Ctrl-C, and with 3 as ``strict`` says.
    """
    console = streams.console(stderr=True, markup=True)
    # SIGTERM ends a job as Ctrl-C does, so that a service manager loses nothing either. A shell
    # that starts a job in the background has it ignore SIGINT, and then `kill -INT` would be mute.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        result = show_events(job, console)
    except KeyboardInterrupt:
        how = _how_to_go_on(resume)
        console.print("[yellow]Stopped.[/] " + escape(how))
        if as_json:
            streams.print_failure("stopped", "", how)
        sys.exit(130)
    assert result is not None
    show_result(console, result)
    if as_json:
        streams.print_json(result)
    if strict:
        end_strictly([warning["name"] for warning in result.get("warnings", [])])


def show_events(job: Iterator[events.Event], console: Console) -> Mapping[str, Any] | None:
    """Show events until they end; the job's result, where it came to one."""
    view = _Bars(console) if console.is_terminal else _Lines(console)
    result: Mapping[str, Any] | None = None
    with view:
        for event in job:
            if isinstance(event, events.Finished):
                result = event.result
            else:
                view.show(event)
    return result


def watched(job: Iterator[events.Event], name: str) -> Mapping[str, Any] | None:
    """Show a run of another process, until it ends or Ctrl-C ends the watching; its result."""
    console = streams.console(stderr=True, markup=True)
    try:
        result = show_events(job, console)
        if result is not None:
            show_result(console, result)
        return result
    except KeyboardInterrupt:
        console.print(f"The run in {escape(name)} goes on; nobody watches it any more.")
        return None


def end_strictly(names: Sequence[str]) -> None:
    """End with :data:`STRICT` where warnings of these names stand."""
    if names:
        streams.console(stderr=True, markup=True).print(
            f"[bold red]--strict:[/] {escape(', '.join(names))}"
        )
        sys.exit(STRICT)


def _how_to_go_on(folder: str) -> str:
    if not RunFolder(folder).begun:
        return "Nothing had been done yet; start it again."
    return (
        "Every finished candidate is kept. Go on with: "
        f"understudy search --resume --out {shlex.quote(folder)}"
    )


class _Lines:
    """For logs: one line per event, progress only now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pace = Pace()
        self.start = time.monotonic()
        self.last = -LOG_EVERY

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: events.Event) -> None:
        self.pace.take(event)
        seconds = time.monotonic() - self.start
        text = event_text(event)
        if isinstance(event, events.Progress | events.CandidateRunning):
            last = isinstance(event, events.Progress) and event.done >= event.total
            if seconds - self.last < LOG_EVERY and not last:
                return
            self.last = seconds
        if isinstance(event, events.CandidateRunning):
            known = (f"{len(self.pace.running)} under way", self.pace.speed(), self.pace.left())
            text += f"   [dim]{', '.join(part for part in known if part)}[/]"
        self.console.print(f"[dim]{seconds:7.1f} s[/]  {text}")


class _Bars:
    """For terminals: candidates under way and a bar for the present stage; the rest scrolls by
    above them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pace = Pace()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
        )
        self.live = Live(console=console, get_renderable=self._view, transient=True)
        self.task: TaskID | None = None
        self.began = 0.0

    def __enter__(self) -> _Bars:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def _view(self) -> Group:
        if not self.pace.running:
            return Group(self.bars)
        return Group(self.pace.table(), f"[dim]{self.pace.speed()}[/]", self.bars)

    def show(self, event: events.Event) -> None:
        self.pace.take(event)
        if isinstance(event, events.Progress):
            self._move(event.done, event.total, event.text)
            return
        if isinstance(event, events.CandidateRunning):
            return
        self.console.print(event_text(event))
        if isinstance(event, events.Stage):
            self._clear()
        elif isinstance(event, events.CandidateDone):
            best = f"best {event.best_accuracy:.2%} at {event.best_kb:,.0f} KB"
            self._move(event.number, event.budget, best, self.pace.left())

    def _clear(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = None

    def _move(self, done: int, total: int, text: str, left: str = "") -> None:
        if self.task is None:
            self.task = self.bars.add_task(text, total=total, left="")
            self.began = time.monotonic()
        elif not left and done:
            seconds = (time.monotonic() - self.began) * (total - done) / done
            left = f"about {duration(seconds)} left"
        self.bars.update(self.task, description=text, completed=done, total=total, left=left)


def event_text(event: events.Event) -> str:
    """A line about an event; empty where there is nothing to say."""
    match event:
        case events.Stage():
            return f"[bold]{escape(event.name)}[/]  {escape(event.detail)}"
        case events.Note():
            return ("[yellow]Note:[/] " if event.warning else "") + escape(event.text)
        case events.Progress():
            return f"{event.done:,}/{event.total:,}  {escape(event.text)}"
        case events.CandidateRunning():
            return running_text(event)
        case events.CandidateDone():
            return _candidate(event)
        case _:
            return ""


def _candidate(event: events.CandidateDone) -> str:
    head = f"candidate {event.number}/{event.budget}"
    if event.reason:
        return f"{head}  [red]failed[/]: {escape(event.reason)}"
    again = "  [dim](from the ledger)[/]" if event.replayed else ""
    if event.pruned:
        return (
            f"{head}  {event.kb:9,.1f} KB  {event.accuracy:.2%}  [dim]stopped after epoch "
            f"{event.epochs}[/]{again}"
        )
    return (
        f"{head}  {event.kb:9,.1f} KB  {event.accuracy:.2%}  reward {event.reward:.4f}   "
        f"[dim]best {event.best_reward:.4f}: {event.best_accuracy:.2%} at "
        f"{event.best_kb:,.1f} KB[/]{again}"
    )


def show_result(console: Console, result: Mapping[str, Any]) -> None:
    """Show a finished job's figures, verdict and warnings, and where its bundle lies."""
    table = Table(title="On the test part, in ONNX Runtime", title_justify="left")
    for column in ("", "KB", "ms", "accuracy", ""):
        table.add_column(column, justify="right" if column else "left")
    teacher, student, pair = result["teacher"], result["student"], result["pair"]
    table.add_row(
        "teacher", f"{teacher['kb']:,.1f}", f"{teacher['ms']:.3g}", f"{teacher['accuracy']:.2%}", ""
    )
    table.add_row(
        "student",
        f"{student['kb']:,.1f}",
        f"{student['ms']:.3g}",
        f"{student['accuracy']:.2%}",
        f"{teacher['kb'] / student['kb']:,.1f} times smaller",
    )
    router = result["router"]
    table.add_row(
        f"pair, router {escape(router['name'])}",
        f"{pair.get('kb', student['kb'] + router['kb']):,.1f}",
        "",
        f"{pair['accuracy']:.2%}",
        f"{pair['appeals']:.1%} appealed",
    )
    console.print(table)
    if "file_kb" in pair:
        console.print(
            "KB: of weights in fp32, and of the router's file. On disk student "
            f"{student['file_kb']:,.1f} KB, pair {pair['file_kb']:,.1f} KB"
        )
    if "verdict" in result:
        console.print(f"[bold]{escape(result['verdict'])}[/]")
    for warning in result.get("warnings", []):
        console.print(f"[yellow]Warning:[/] {escape(warning['text'])}")
    for caveat in result.get("caveats", []):
        console.print(f"[yellow]Note:[/] {escape(caveat)}")
    console.print(f"bundle  {escape(str(result['bundle']))}")
    console.print(f"report  {escape(str(result['report']))}")
