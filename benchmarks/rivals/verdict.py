"""Who is ahead: means over seeds, differences paired by seed, and the words for them.

Intervals are of 95 %, Student's t over the seeds. Three seeds make them wide, and a bootstrap over
so few would make them too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.rivals.sizing import TOLERANCE
from benchmarks.rivals.study import AS_FOUND, OURS, WAYS, Row

#: mean, and both ends of the interval; nan where one seed says nothing of it
Interval = tuple[float, float, float]


def interval(values: Sequence[float]) -> Interval:
    """Mean of a sample and its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, np.nan, np.nan
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def word(lead: Interval) -> str:
    """What a lead of ours with its interval is called."""
    _, low, high = lead
    if np.isnan(low):
        return "undecided"
    return "lost" if high < 0 else "won" if low > 0 else "tied"


def compare(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per data set, size and way.

    Args:
        rows: finished trainings, of one setting; one that diverged counts with an accuracy of 0.

    Returns:
        entries with the mean and interval of the accuracy, ours less theirs over the seeds that
        both have, and the word for that.
    """
    tests: dict[tuple[str, float, str], dict[int, Row]] = {}
    for row in rows:
        tests.setdefault((row["data"], row["ratio"], row["way"]), {})[row["seed"]] = row
    places = list(dict.fromkeys(row["data"] for row in rows))
    ways = [OURS, AS_FOUND, *(way for way in WAYS if way != OURS)]
    order = sorted(tests, key=lambda key: (places.index(key[0]), -key[1], ways.index(key[2])))
    return [_entry(tests[key], tests.get((*key[:2], OURS), {})) for key in order]


def _entry(theirs: dict[int, Row], ours: dict[int, Row]) -> dict[str, Any]:
    first, seeds = next(iter(theirs.values())), sorted(theirs)
    values = {seed: theirs[seed]["test"] for seed in seeds}
    mean, low, high = interval(list(values.values()))
    entry = {
        "data": first["data"],
        "ratio": first["ratio"],
        "way": first["way"],
        "seeds": len(seeds),
        "limit_kb": round(first["limit_kb"], 1),
        "kb": [round(pick(row["kb"] for row in theirs.values()), 1) for pick in (min, max)],
        "macs": round(float(np.mean([row["macs"] for row in theirs.values()]))),
        "accuracy": _digits(mean),
        "interval": [_digits(low), _digits(high)],
        "teacher": first["teacher_test"],
        "notes": _notes(list(theirs.values())),
    }
    shared = [seed for seed in seeds if seed in ours]
    if first["way"] not in (OURS, AS_FOUND) and shared:
        lead = interval([ours[seed]["test"] - values[seed] for seed in shared])
        entry |= {
            "ours_less_theirs": _digits(lead[0]),
            "lead_interval": [_digits(lead[1]), _digits(lead[2])],
            "pairs": len(shared),
            "verdict": word(lead),
        }
    return entry


def _digits(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    missing = [1 - row["kb"] / row["limit_kb"] for row in rows]
    if max(missing) > TOLERANCE:
        notes.append(f"up to {max(missing):.0%} below the limit")
    wider = [row["factor"] for row in rows]
    if rows[0]["way"] == OURS and max(wider) > 1:
        notes.append("found, then widened by " + ", ".join(f"{factor:.2f}" for factor in wider))
    failed = sum(bool(row["reason"]) for row in rows)
    if failed:
        notes.append(f"{failed} diverged, which counts as 0")
    return notes


def lines(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table, a block per data set and size; and how often ours lost, tied and won."""
    block = None
    for entry in entries:
        if block != (block := (entry["data"], entry["ratio"])):
            yield ""
            limit, teacher = entry["limit_kb"], entry["teacher"]
            yield (
                f"{entry['data']}, {entry['ratio']:g}x fewer KB: at most {limit:,.1f} KB; "
                f"teacher {teacher:.2%} on test"
            )
            yield (
                f"  {'way':22s}{'KB':>18s}{'MACs':>10s}{'test accuracy, %':>26s}"
                f"{'ours less theirs, points':>30s}"
            )
        yield _line(entry)
    words = [entry["verdict"] for entry in entries if "verdict" in entry]
    counts = ", ".join(f"{words.count(one)} {one}" for one in dict.fromkeys(sorted(words)))
    yield ""
    yield f"{len(words)} comparisons of ours with a rival: {counts or 'none yet'}"


def _line(entry: dict[str, Any]) -> str:
    low, high = entry["kb"]
    kb = f"{low:,.1f}" if low == high else f"{low:,.1f}-{high:,.1f}"
    accuracy = _percent(entry["accuracy"], entry["interval"])
    text = f"  {entry['way']:22s}{kb:>18s}{entry['macs'] / 1e6:>9.1f}M{accuracy:>26s}"
    if "verdict" in entry:
        lead = _percent(entry["ours_less_theirs"], entry["lead_interval"], sign="+")
        text += f"{lead:>30s}  {entry['verdict']}"
    return text + "".join(f"  ({note})" for note in entry["notes"])


def _percent(mean: float, ends: Sequence[float | None], sign: str = "") -> str:
    text = f"{100 * mean:{sign}.2f}"
    if None in ends:
        return text
    low, high = (f"{100 * (end or 0.0):{sign}.2f}" for end in ends)
    return f"{text} [{low}, {high}]"
