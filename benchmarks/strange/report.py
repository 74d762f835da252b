"""What the rows say: one table, and the figures that a change is judged by. Nothing is run here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.strange.cases import MANY_ROWS

#: a student may be behind the better rival by so much
MARGIN = 0.01
#: share of the teacher's accuracy below which a student needs a warning beside it
KEPT = 0.9

Row = dict[str, Any]


class Lead(NamedTuple):
    """By how much one is more often right than another, with its paired 95 % interval."""

    mean: float
    low: float
    high: float


def lead(only_one: int, only_other: int, rows: int) -> Lead:
    """Difference of two shares on the same rows.

    Agresti and Min's interval (2005): half a row is added to each of the four cells, so that two
    who never differ on few rows are not called equal beyond doubt.

    Args:
        only_one, only_other: rows that only the first, and only the second, has right.
        rows: of both.
    """
    total, differing = rows + 2, only_one + only_other + 1
    middle = (only_one - only_other) / total
    reach = 1.959964 * math.sqrt(differing - total * middle**2) / total
    return Lead((only_one - only_other) / rows, middle - reach, middle + reach)


def better_rival(row: Row) -> str:
    """The rival that is more accurate on the test rows."""
    return max(("plain", "hand"), key=lambda name: float(row["accuracy"][name]))


def lead_of(row: Row, one: str = "student", other: str | None = None) -> Lead:
    """Of a finished row: the student over its better rival, or one over another."""
    only_one, only_other = row["only"][f"{one}/{other or better_rival(row)}"]
    return lead(only_one, only_other, row["test_rows"])


def is_done(row: Row) -> bool:
    """Whether there is a student to judge."""
    return "accuracy" in row


def is_kept(row: Row) -> bool:
    """Whether the student keeps nine tenths of its teacher's accuracy."""
    return bool(row["accuracy"]["student"] >= KEPT * row["accuracy"]["teacher"])


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of the last line; leads and errors in points, None where nothing tells.

    ``below_plain``: cases in which the student is behind its better rival by more than a point
    even at the upper end of the interval, and those whose job failed. ``undecided``: other cases in
    which the interval does not exclude it. ``false_alarms``: warnings where the data are sound and
    the student keeps what it should.
    """
    done = [row for row in rows if is_done(row)]
    failed = [row["case"] for row in rows if "failed" in row]
    below = [row["case"] for row in done if lead_of(row).high < -MARGIN]
    undecided = [row["case"] for row in done if lead_of(row).low < -MARGIN <= lead_of(row).high]
    silent = [row["case"] for row in done if not is_kept(row) and not row["warnings"]]
    alarms = [
        f"{row['case']}: {name}"
        for row in done
        if row["sound"] and is_kept(row)
        for name in row["warnings"]
    ]
    many = [row for row in done if row["rows"] >= MANY_ROWS and "search/plain" in row["only"]]
    found = {
        "below_plain": len(below) + len(failed),
        "mean_lead": _mean([100 * lead_of(row).mean for row in done]),
        "mean_lead_search_over_uniform": _mean(
            [100 * lead_of(row, "search", "plain").mean for row in many]
        ),
        "silent": len(silent),
        "false_alarms": len(alarms),
        "expectation_error": expectation_error(done),
        "cases": len(done) + len(failed),
        "seconds": round(sum(row.get("seconds", {}).get("all", 0.0) for row in rows), 1),
    }
    which = {
        "below_plain": below,
        "failed": failed,
        "undecided": undecided,
        "silent": silent,
        "false_alarms": alarms,
        "skipped": [row["case"] for row in rows if "skipped" in row],
    }
    return found | {"which": {name: names for name, names in which.items() if names}}


def expectation_error(rows: Sequence[Row]) -> float | None:
    """Root mean square over all finalists of what was expected less what was reached, points."""
    errors = [
        100 * (one["expected"] - one["accuracy"])
        for row in rows
        for one in row["finalists"]
        if one.get("expected") is not None
    ]
    mean = _mean([error**2 for error in errors])
    return None if mean is None else round(math.sqrt(mean), 3)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table: accuracies on test in %, and the lead over the better rival in points."""
    yield (
        f"{'case':30s}{'KB':>7s}{'of':>6s}{'teacher':>9s}{'student':>9s}{'plain':>7s}{'hand':>7s}"
        f"{'search':>8s}{'lead, 95 % interval':>24s}{'min':>6s}  warnings"
    )
    for row in rows:
        if not is_done(row):
            what = "skipped" if "skipped" in row else "failed"
            yield f"{row['case']:30s}  {what}: {row[what]}"
            continue
        shown = "".join(
            f"{100 * row['accuracy'][name]:>{width}.2f}" if name in row["accuracy"] else " " * width
            for name, width in (
                ("teacher", 9), ("student", 9), ("plain", 7), ("hand", 7), ("search", 8),
            )
        )  # fmt: skip
        mean, low, high = (100 * value for value in lead_of(row))
        interval = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        minutes = row["seconds"].get("all", 0.0) / 60
        yield (
            f"{row['case']:30s}{row['kb']['student']:>7.1f}{row['limit_kb']:>6g}{shown}"
            f"{interval:>24s}{minutes:>6.1f}  {', '.join(row['warnings'])}"
        )
