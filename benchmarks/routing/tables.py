"""The study as tables, in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.routing.contenders import Line
from benchmarks.routing.verdict import interval, mean
from routers.models.families import FAMILIES

FIGURES = {
    "auroc": "AUROC",
    "area": "area",
    "appeals_for_acc_i_50": "AR@50",
    "appeals_for_acc_i_75": "AR@75",
    "appeals_for_acc_i_90": "AR@90",
    "appeals_for_acc_i_95": "AR@95",
    "accuracy_at_5": "acc@5",
    "accuracy_at_10": "acc@10",
    "accuracy_at_20": "acc@20",
}


def verdicts(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line per pair: what the choice does, against all that it is measured by."""
    yield (
        f"{'area, % of rows':<14} student teacher   random baseline   choice hindsight   oracle "
        "  difference [95 %]          verdict"
    )
    for entry in found:
        areas = [
            100 * entry[f"{kind}_area"]
            for kind in ("random", "best_baseline", "choice", "hindsight", "oracle")
        ]
        low, high = entry["interval"]
        yield (
            f"{entry['pair']:<14} {100 * entry['student']:7.2f} {100 * entry['teacher']:7.2f} "
            + " ".join(f"{value:8.3f}" for value in areas)
            + f"  {100 * entry['difference']:+.3f} [{100 * low:+.3f}, {100 * high:+.3f}]  "
            f"{entry['verdict']}"
        )
    for entry in found:
        yield (
            f"{entry['pair']}: ships {_counted(entry['choices'])}; baseline "
            f"{_counted(entry['baselines'])}; hindsight {_counted(entry['hindsights'])}; "
            f"{entry['kb']:.1f} KB, {entry['router_us']:.1f} µs beside {entry['student_us']:.0f} "
            f"of the student, pair {100 * entry['time_ratio']:+.1f} %"
        )
    for entry in found:
        if entry["hindsight_interval"] is not None:
            low, high = (100 * end for end in entry["hindsight_interval"])
            lead = 100 * (entry["hindsight_area"] - entry["choice_area"])
            yield f"{entry['pair']}: hindsight less choice {lead:+.4f} [{low:+.4f}, {high:+.4f}]"


def routers(lines: Sequence[Line]) -> Iterator[str]:
    """Every router of a pair, the largest area first; means over seeds."""
    yield (
        f"{'router':<34}" + "".join(f"{title:>8}" for title in FIGURES.values()) + "      KB     µs"
    )
    kinds = ("score", "family", "tuned")
    names = dict.fromkeys(
        line["router"] for line in lines if line["kind"] in kinds and "area" in line
    )
    rows = []
    for name in names:
        mine = [line for line in lines if line["router"] == name]
        judged = [line for line in mine if line["kind"] in kinds]
        us = mean((line for line in mine if line["kind"] == "time"), "us")
        values = [mean(judged, figure) for figure in FIGURES]
        rows.append((mean(judged, "area"), name, values, mean(judged, "bytes") / 1024, us))
    for _, name, values, kb, us in sorted(rows, key=lambda row: (-row[0], row[1])):
        timed = f"{'-':>7}" if np.isnan(us) else f"{us:7.1f}"
        yield f"{name:<34}" + "".join(f"{value:8.4f}" for value in values) + f"{kb:8.1f}{timed}"


def samplings(lines: Sequence[Line]) -> Iterator[str]:
    """Query by committee against random rows (Zhang Fig. 3): a router as a classifier of rows.

    And what matters to the pair: its area. Differences are paired by pair, seed and features.
    """
    yield (
        f"{'family':<6} accuracy: random    qbc    all  balanced: random    qbc    all   "
        "area qbc - random (share of draws ahead)"
    )
    made = {
        (line["pair"], line["seed"], line["router"]): line
        for line in lines
        if line["kind"] == "family" and "area" in line
    }
    for family in FAMILIES:
        cells = []
        for figure in ("tells", "tells_balanced"):
            for way in ("random", "qbc", "all"):
                mine = [
                    line for (_, _, name), line in made.items()
                    if name.startswith(f"{family}/") and name.endswith(f"/{way}")
                ]  # fmt: skip
                cells.append(100 * mean(mine, figure))
        differences = [
            line["area"] - made[pair, seed, name.replace("/qbc", "/random")]["area"]
            for (pair, seed, name), line in made.items()
            if name.startswith(f"{family}/") and name.endswith("/qbc")
            and (pair, seed, name.replace("/qbc", "/random")) in made
        ]  # fmt: skip
        if not differences:
            continue
        ahead = np.mean(np.array(differences) > 0)
        yield (
            f"{family:<6}           {cells[0]:6.2f} {cells[1]:6.2f} {cells[2]:6.2f}           "
            f"{cells[3]:6.2f} {cells[4]:6.2f} {cells[5]:6.2f}   "
            f"{100 * np.mean(differences):+.4f} ({ahead:.0%})"
        )


def sizes(lines: Sequence[Line]) -> Iterator[str]:
    """KB of the routers' files on logits and rows by committee (Zhang Tables III and IV)."""
    yield f"{'KB':<14}" + "".join(f"{family.upper():>8}" for family in FAMILIES)
    for pair in dict.fromkeys(line["pair"] for line in lines):
        row = [
            mean(
                (
                    line for line in lines
                    if line["pair"] == pair and line["kind"] == "family"
                    and line["router"] == f"{family}/logits/qbc"
                ),
                "bytes",
            ) / 1024
            for family in FAMILIES
        ]  # fmt: skip
        yield f"{pair:<14}" + "".join(f"{value:8.0f}" for value in row)


def remedies(lines: Sequence[Line]) -> Iterator[str]:
    """Area of every remedy less that of the best score, per pair: mean over seeds [95 %]."""
    pairs = list(dict.fromkeys(line["pair"] for line in lines))
    yield f"{'100 x area':<22}" + "".join(f"{pair:>28}" for pair in pairs)
    found = [line for line in lines if line["kind"] == "remedy"]
    for name in dict.fromkeys(line["router"] for line in found):
        cells = []
        for pair in pairs:
            mine = [
                line["difference"] for line in found
                if line["router"] == name and line["pair"] == pair
            ]  # fmt: skip
            if not mine:
                cells.append("-")
                continue
            low, high = (100 * end for end in interval(mine))
            middle = 100 * float(np.mean([one[0] for one in mine]))
            cells.append(f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]")
        yield f"{name:<22}" + "".join(f"{cell:>28}" for cell in cells)


def _counted(names: Sequence[str]) -> str:
    """Names with how often each stands there, the most frequent first."""
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    ordered = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{name} {counts[name]}x" if counts[name] > 1 else name for name in ordered)
