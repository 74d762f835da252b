"""From the lines of the study to its verdict: is the router that ships the best there is?

Means are over seeds, then over pairs. The interval of a pair counts two kinds of luck. That of the
rows is one for all seeds, as their test parts share most rows: more seeds do not narrow it. That of
the draw is each seed's own: a choice that is ahead on one seed of five, and the baseline itself on
the others, is not ahead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.routing.contenders import Line

#: what counts as a router that somebody could have shipped, so that hindsight may pick it
SHIPPABLE = ("score", "family", "tuned", "choice")
#: resamples of the seeds; and of a normal distribution, 95 % lie within so many deviations
RESAMPLES, NORMAL = 20_000, 1.96
AREAS = ("choice", "best_baseline", "hindsight", "oracle", "random")


def entries(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One entry per pair, in the order in which they come up; only seeds with a choice count."""
    by_pair: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_pair[line["pair"]].append(line)
    return [entry(name, mine) for name, mine in by_pair.items() if _choices(mine)]


def entry(name: str, lines: Sequence[Line]) -> dict[str, Any]:
    """The verdict on one pair."""
    choices = _choices(lines)
    low, high = interval([line["difference"] for line in choices])
    bests = [hindsight(lines, line["seed"]) for line in choices]
    back = [
        line["difference"]
        for line in lines
        for best in bests
        if line["kind"] == "hindsight"
        and (line["seed"], line["router"]) == (best["seed"], best["router"])
    ]
    ratios = [(line["pair_us"] - line["student_us"]) / line["student_us"] for line in choices]
    return {
        "pair": name,
        "seeds": len(choices),
        "student": mean(choices, "student"),
        "teacher": mean(choices, "teacher"),
        "choice_area": mean(choices, "area"),
        "best_baseline_area": mean(choices, "baseline_area"),
        "hindsight_area": float(np.mean([best["area"] for best in bests])),
        "oracle_area": mean(choices, "oracle_area"),
        "random_area": mean(choices, "random_area"),
        "difference": float(np.mean([line["difference"][0] for line in choices])),
        "interval": [low, high],
        "verdict": "ahead" if low > 0 else "behind" if high < 0 else "level",
        "choices": [line["router"] for line in choices],
        "baselines": [line["baseline"] for line in choices],
        "hindsights": [best["router"] for best in bests],
        # ahead of the choice; None where nobody has looked back
        "hindsight_interval": list(interval(back)) if len(back) == len(bests) else None,
        "time_ratio": float(np.mean(ratios)),
        "router_us": mean(choices, "router_us"),
        "student_us": mean(choices, "student_us"),
        "kb": mean(choices, "bytes") / 1024,
        **{
            figure: [mean(choices, figure), mean(choices, f"baseline_{figure}")]
            for figure in choices[0]
            if figure.startswith(("appeals_for", "accuracy_at", "auroc"))
        },
    }


def interval(differences: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the mean over seeds, 95 %: seeds are drawn with replacement, rows once for all of them.

    Args:
        differences: for each seed the difference, and the ends of its interval over rows.
    """
    middle, lows, highs = np.array(differences).T
    spread = (highs - lows) / (2 * NORMAL)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(middle), size=(RESAMPLES, len(middle)))
    rows = rng.normal(size=RESAMPLES)
    means = middle[drawn].mean(axis=1) + rows * spread[drawn].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def hindsight(lines: Iterable[Line], seed: int) -> Line:
    """The line of the largest area on the test part of a seed."""
    able = [
        line
        for line in lines
        if line["seed"] == seed and line["kind"] in SHIPPABLE and "area" in line
    ]
    return max(able, key=lambda line: line["area"])


def overall(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The study's figures, from the entries of its pairs.

    ``wins`` and ``behind`` count pairs whose choice is ahead of the baseline, or behind it, by
    more than the paired interval; ``time_ratio`` is the worst pair's.
    """
    told = [entry["verdict"] for entry in found]
    return {
        **{f"{kind}_area": mean(found, f"{kind}_area") for kind in AREAS},
        "difference": mean(found, "difference"),
        "intervals": {entry["pair"]: entry["interval"] for entry in found},
        "hindsight_intervals": {entry["pair"]: entry["hindsight_interval"] for entry in found},
        "time_ratio": max(entry["time_ratio"] for entry in found),
        "router_us": mean(found, "router_us"),
        "wins": told.count("ahead"),
        "behind": told.count("behind"),
        "pairs": list(found),
    }


def mean(lines: Iterable[Mapping[str, Any]], figure: str) -> float:
    """Over lines that have the figure; nan where none has."""
    values = [line[figure] for line in lines if line.get(figure) is not None]
    return float(np.mean(values)) if values else float("nan")


def _choices(lines: Iterable[Line]) -> list[Line]:
    found = [line for line in lines if line["kind"] == "choice"]
    return sorted(found, key=lambda line: line["seed"])
