"""Tables on stdout: as wide as the terminal, and wide enough to lose nothing in a file or pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.cli.streams import console

#: columns where there is no terminal to ask
WIDTH = 160


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    wide = console()
    if not wide.is_terminal:
        wide = console(width=WIDTH)
    wide.print(table, soft_wrap=False)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, gone when it is full; call what is given with how many are done."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
