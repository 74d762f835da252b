"""A run's candidates as CSV, for a spreadsheet or a notebook."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TextIO

from edge.files import write_asked
from search.analysis.scored_trials import Run, standings
from search.ledger.columns import STATUSES


def write_csv(run: Run, target: Path | TextIO) -> None:
    """One row per candidate in the order in which they finished; a file is there whole or not.

    Columns: number, key, status, accuracy (validation part, after the proxy) and the one expected
    after the full training (both empty where it failed), kb, parameters, macs, reward (under the
    run's own thresholds, without a latency factor), seconds, epochs, reason, and the coefficient of
    every layer under the layer's name.

    Raises:
        BadInput: the file cannot be written.
    """
    if not isinstance(target, Path):
        _write(run, target)
        return
    text = io.StringIO(newline="")
    _write(run, text)
    write_asked(target, text.getvalue().encode(), "the CSV file", "--csv")


def _write(run: Run, file: TextIO) -> None:
    columns = run.columns
    found = standings(run, run.spec)
    rewards, expected = found.rewards, found.expected
    coefficients = columns.coefficients
    writer = csv.writer(file, lineterminator="\n")
    head = ["number", "key", "status", "accuracy", "expected", "kb", "parameters", "macs", "reward"]
    head += ["seconds", "epochs", "reason"]
    writer.writerow([*head, *columns.layers])
    for i in range(len(columns)):
        failed = bool(columns.reason[i])
        writer.writerow(
            [
                i + 1,
                columns.key[i],
                STATUSES[columns.status[i]],
                "" if failed else float(columns.accuracy[i]),
                "" if failed else float(expected[i]),
                float(columns.kb[i]),
                int(columns.parameters[i]),
                int(columns.macs[i]),
                float(rewards[i]),
                float(columns.seconds[i]),
                int(columns.epochs[i]),
                _plain(columns.reason[i]),
                *map(float, coefficients[i]),
            ]
        )


def _plain(text: str) -> str:
    """A reason is somebody's message: no spreadsheet may take it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
