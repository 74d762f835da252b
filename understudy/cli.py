"""Entry point of the console script and of ``python -m understudy``."""

from __future__ import annotations


def main() -> None:
    """The command line of :mod:`service.cli.main`, whatever else is called ``service`` here."""
    from service.cli.main import main as run

    run()
