"""Is the promise about trusted answers kept? On invented students whose true risk is known.

    python benchmarks/risk.py                 1,000 calibration sets for each setting
    python benchmarks/risk.py --splits 200

A setting is a shape of student and score, a number of calibration rows and a risk r. Each split
draws calibration rows, calibrates `--risk r --confidence .95` and looks up the *exact* error rate
among what the threshold trusts. The promise is broken where that lies above r; a refusal promises
nothing and trusts nothing. No share of broken promises may lie above 5 % by more than luck: the
limit printed is 5 % and two standard errors. Prints a table and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from routers.calibration.risk import boldest_promise

CONFIDENCE = 0.95
ROWS = (300, 1000, 5000)
RISKS = (0.01, 0.05)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """An invented student. An input's rank u is uniform in (0, 1), and 1 is the most trusted.

    ``wrong``: P(student wrong | u). ``mass``: its integral from u to 1, which is the share of
    inputs that rank above u and are answered wrong. ``score``: the router's, of u, never falling.
    ``rank``: the least u whose score lies at a threshold or above it.
    """

    wrong: Callable[[Floats], Floats]
    mass: Callable[[float], float]
    score: Callable[[Floats], Floats] = lambda u: u
    rank: Callable[[float], float] = lambda threshold: threshold

    def draw(
        self, rows: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores and whether the student is right."""
        u = rng.random(rows)
        right = rng.random(rows) >= self.wrong(u)
        return self.score(u).astype(np.float32), right

    def truth(self, threshold: float) -> tuple[float, float]:
        """The share of inputs that are trusted, and of these the share answered wrong."""
        u = min(max(self.rank(threshold), 0.0), 1.0)
        return 1 - u, self.mass(u) / (1 - u) if u < 1 else 0.0

    def best(self, risk: float) -> float:
        """The largest share that could be trusted, with the risk known and no sample between."""
        ranks = {max(self.rank(float(t)), 0.0) for t in self.score(np.linspace(0, 1, 2001)[:-1])}
        kept = [u for u in ranks if u < 1 and self.mass(u) / (1 - u) <= risk]
        return 1 - min(kept, default=1.0)


def power(top: float, exponent: float) -> dict[str, Any]:
    """Errors that fade as trust grows: ``top`` · (1 − u)^``exponent``."""
    return {
        "wrong": lambda u: top * (1 - u) ** exponent,
        "mass": lambda u: top * (1 - u) ** (exponent + 1) / (exponent + 1),
    }


def steps(*parts: tuple[float, float]) -> dict[str, Any]:
    """Error rates that are constant between ranks: (upper end, rate), from rank 0 on."""
    ends = np.array([0.0, *(end for end, _ in parts)])
    rates = np.array([rate for _, rate in parts])
    return {
        "wrong": lambda u: rates[np.clip(np.searchsorted(ends, u, side="right") - 1, 0, None)],
        "mass": lambda u: float(np.sum(rates * np.diff(np.maximum(ends, u)))),
    }


def levels(count: int) -> dict[str, Any]:
    """A score of so many different values, as KNN and shallow trees give."""
    known = (np.arange(count) / count).astype(np.float32)
    return {
        "score": lambda u: np.floor(u * count) / count,
        "rank": lambda threshold: int(np.searchsorted(known, threshold)) / count,
    }


def saturated(at: float) -> dict[str, Any]:
    """A score that is the same for all ranks from ``at`` on, as a softmax rounded to 1."""
    return {
        "score": lambda u: np.minimum(u, at),
        "rank": lambda threshold: threshold if threshold <= float(np.float32(at)) else 1.0,
    }


def shapes(risk: float) -> dict[str, Shape]:
    """All shapes; two of them lie in wait for the bound ``risk``."""
    return {
        "calibrated": Shape(**power(0.5, 4)),  # 10 % errors
        "weak": Shape(**power(0.9, 2)),  # 30 % errors
        "near-perfect": Shape(**power(0.3, 99)),  # 0.3 % errors
        "coarse": Shape(**power(0.5, 4), **levels(8)),
        "saturated": Shape(**power(0.5, 4), **saturated(0.6)),
        "useless": Shape(**steps((1, 0.04))),
        "a hair over": Shape(**steps((1, 1.001 * risk))),
        # Too often wrong where it is most sure, so that the risk crosses r twice: it falls below r
        # where 40 % are trusted, (.3·1.2 + .1·.4)/.4 = 1, and rises above it again at 66 %.
        "misleading": Shape(**steps((0.4, 3 * risk), (0.7, 0.4 * risk), (1, 1.2 * risk))),
    }


@dataclass(frozen=True)
class Row:
    """One setting: shares of its splits, and means of the share of inputs that is trusted."""

    shape: str
    rows: int
    risk: float
    broken: float
    promised: float
    coverage: float
    best: float


def measure(name: str, rows: int, risk: float, splits: int, seed: int) -> Row:
    """All splits of one setting."""
    shape, rng = shapes(risk)[name], np.random.default_rng(seed)
    coverage = np.zeros(splits)
    broken = np.zeros(splits, dtype=bool)
    promised = np.zeros(splits, dtype=bool)
    for split in range(splits):
        promise = boldest_promise(*shape.draw(rows, rng), risk, CONFIDENCE)
        if promise is not None:
            promised[split] = True
            coverage[split], true_risk = shape.truth(promise.threshold)
            broken[split] = true_risk > risk
    return Row(
        name,
        rows,
        risk,
        broken=float(broken.mean()),
        promised=float(promised.mean()),
        coverage=float(coverage.mean()),
        best=shape.best(risk),
    )


def limit(splits: int) -> float:
    """The largest share of broken promises that luck explains: two standard errors above δ."""
    delta = 1 - CONFIDENCE
    return delta + 2 * math.sqrt(delta * (1 - delta) / splits)


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=1000, help="calibration sets a setting")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    say(
        f"{'shape':<14}{'rows':>6}{'risk':>6}{'broken':>9}{'promised':>10}{'trusted':>9}{'best':>7}"
    )
    found = []
    for name in shapes(0.01):
        for rows in ROWS:
            for risk in RISKS:
                row = measure(name, rows, risk, args.splits, args.seed)
                found.append(row)
                say(
                    f"{name:<14}{rows:>6,}{risk:>6.0%}{row.broken:>9.1%}{row.promised:>10.1%}"
                    f"{row.coverage:>9.1%}{row.best:>7.0%}"
                )
    worst = max(row.broken for row in found)
    say(f"worst {worst:.1%}, limit {limit(args.splits):.1%}")
    summary = {
        "benchmark": "risk",
        "confidence": CONFIDENCE,
        "splits": args.splits,
        "seed": args.seed,
        "limit": round(limit(args.splits), 4),
        "worst_broken": worst,
        "settings_above_limit": sum(row.broken > limit(args.splits) for row in found),
        "mean_trusted": round(float(np.mean([row.coverage for row in found])), 4),
        "settings": [asdict(row) for row in found],
    }
    say(json.dumps(summary))


def say(line: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
