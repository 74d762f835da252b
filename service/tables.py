"""Tables on stdout: as wide as the terminal, and wide enough to lose nothing in a file or pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

#: columns where there is no terminal to ask
WIDTH = 160


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(table)
