"""What survives when processes die: searches that are disturbed beside one that is not.

    python benchmarks/faults.py                # 20 kills each of a worker, the driver, a node
    python benchmarks/faults.py --kills 3

All searches work through the same candidates (scikit-learn's digits, single precision, a fixed
layout). Prints a table and, as its last line, one JSON object. Every row should say: no candidate
lost, none in the ledger twice, none with another accuracy, nothing left running or in shared
memory. The last row's candidates raise, hang, return NaN and exhaust their worker's memory.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.search import faults
from tests.search.faults import Evidence

KINDS = {
    "worker": faults.kill_workers,
    "driver": faults.kill_drivers,
    "node": faults.kill_nodes,
}


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows: list[Evidence] = []
    with tempfile.TemporaryDirectory(prefix="understudy-faults-") as name:
        folder = Path(name)
        expected = faults.undisturbed(folder / "undisturbed")
        for kind in chosen.kinds:
            rng = random.Random(chosen.seed)
            rows.append(KINDS[kind](folder, expected, chosen.kills, rng))
            sys.stderr.write(f"{rows[-1]}\n")
        failures = faults.failures(folder / "failures")
    head = (
        f"{'killed':12} {'kills':>5} {'runs':>5} {'lost':>5} {'twice':>6} {'differ':>7} {'left':>5}"
    )
    sys.stdout.write(f"{head} {'minutes':>8}\n")
    for row in rows:
        sys.stdout.write(
            f"{row.kind:12} {row.kills:5} {row.runs:5} {row.lost:5} {row.twice:6} "
            f"{row.differing:7} {len(row.left):5} {row.seconds / 60:8.1f}\n"
        )
    for what, reason in failures.items():
        sys.stdout.write(f"a candidate that {what}: {reason or 'no failure'}\n")
    result = {
        "candidates": len(expected),
        "clean": all(row.clean for row in rows),
        "kinds": {row.kind: asdict(row) for row in rows},
        "failures": failures,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
