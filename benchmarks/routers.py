"""Which router to trust: what ships, against scores that need no fitting, on real pairs.

    python benchmarks/routers.py pairs       # make the pairs: data, teachers and an hour
    python benchmarks/routers.py             # the study, from the file that is committed
    python benchmarks/routers.py --quick     # one seed, a third of the routers: minutes
    python benchmarks/routers.py report      # of what is finished, wherever the study stands
    python benchmarks/routers.py heads       # two-head students of what `pairs` kept: an hour

`pairs` distils two students of each teacher (MNIST, CIFAR-10), asks all what they say of rows that
the students have not learnt from, and packs benchmarks/data/router_pairs.parquet. It reads
$UNDERSTUDY_DATA (default ../shared), goes on where it stood, and keeps the students in --pairs.

The study draws the parts of a job anew for every seed. On each draw it fits and ranks as a job
does; that is the *choice*. It is held against the best score that needs no fitting, chosen on the
same validation rows; against the best of all, picked by test (*hindsight*); and against the oracle.
Then every family x features x sampling, all scores, and the remedies of benchmarks/routing/
remedies.py. All figures are of the test part. Lines that are finished stand in --out. The last line
of the output is JSON.

AppealNet's two-head students are trained by `heads`, where the data and the students are; what they
say is packed into benchmarks/data/two_heads.parquet, and judged on the same draws.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.routing import (
    appealnet,
    appealnet_tables,
    arms,
    making,
    one_head,
    pairs,
    running,
    tables,
    verdict,
)
from benchmarks.routing.contenders import Fits, Line, every
from benchmarks.routing.remedies import REMEDIES
from routers.models.families import FAMILIES

SEEDS = (0, 1, 2, 3, 4)
#: one seed, the paper's own fits of all families and the best ones, a few remedies
QUICK_SEEDS = (0,)
QUICK_FITS = (Fits("logits", "qbc"), Fits("logits", "random"), Fits("derived", "all"))
QUICK_REMEDIES = ("blend", "line", "line useful unseen", "weak classes", "flip")


def main() -> None:
    """Make the pairs, or study them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", choices=("pairs", "pack", "heads", "study", "report"), default="study"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="draws of the parts; five if left out")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer routers")
    parser.add_argument("--choices", action="store_true", help="nothing but what ships")
    parser.add_argument("--only", nargs="+", metavar="PAIR", help="of these pairs")
    parser.add_argument("--pairs", type=Path, default=making.OUT, help="where pairs are made")
    parser.add_argument("--file", type=Path, default=pairs.FILE, help="where they are packed")
    parser.add_argument("--out", type=Path, default=running.OUT, help="where lines are kept")
    chosen = parser.parse_args()
    if chosen.what in ("pairs", "pack"):
        if chosen.what == "pairs":
            making.make(out=chosen.pairs)
        for name, lost in pairs.pack(chosen.pairs, chosen.file).items():
            sys.stderr.write(
                f"{name}: logits are off by up to {lost['error']:.4f}, "
                f"{lost['answers']:.0f} answers change\n"
            )
        return
    start = time.perf_counter()
    fits = QUICK_FITS if chosen.quick else tuple(every())
    remedies = QUICK_REMEDIES if chosen.quick else tuple(REMEDIES)
    plan = running.Plan(
        tuple(chosen.seeds or (QUICK_SEEDS if chosen.quick else SEEDS)),
        () if chosen.choices else fits,
        () if chosen.choices else remedies,
        chosen.out,
    )
    known = [
        pair for pair in pairs.read(chosen.file) if not chosen.only or pair.name in chosen.only
    ]
    if chosen.what == "heads":
        arms.make(known, chosen.pairs)
        appealnet.pack(pairs.read(chosen.file), chosen.pairs)
    elif chosen.what == "report":
        report(running.finished(known, plan), plan)
    else:
        studied = running.run(known, plan)
        report(studied, plan, _one_head() if chosen.quick else ())
    sys.stderr.write(f"{time.perf_counter() - start:.0f} s\n")


def _one_head() -> list[str]:
    smallest = next(pair for pair in pairs.read() if pair.name == one_head.PAIR)
    return ["", "a two-head student, trained now", *one_head.trained(smallest)]


def report(lines: Sequence[Line], plan: running.Plan, more: Iterable[str] = ()) -> None:
    """Print the tables, what else there is to say, and the JSON line."""
    found = verdict.entries(lines)
    if not found:
        raise SystemExit("nothing is finished: run the study")
    seeds = ", ".join(map(str, plan.seeds))
    if len(plan.fits) < len(every()):
        left = sum(len(fits.names) for fits in plan.fits)
        _print([f"a part of the study: {left} of {len(every()) * len(FAMILIES)} fits"])
    _print([f"test part, means over seeds {seeds}; intervals: paired, over rows and seeds", ""])
    _print(tables.verdicts(found))
    for entry in found:
        mine = [line for line in lines if line["pair"] == entry["pair"]]
        _print(["", f"{entry['pair']}, every router", *tables.routers(mine)])
    _print(["", "rows of the fit: by committee, at random, all", *tables.samplings(lines)])
    _print(["", "size on logits, rows by committee", *tables.sizes(lines)])
    _print(["", "remedies, against the best score", *tables.remedies(lines)])
    _print(["", "AppealNet: areas", *appealnet_tables.areas(lines)])
    _print(["", "AppealNet, its Table I: costs", *appealnet_tables.costs(lines)])
    _print(["", "AppealNet, its Table II: the black box", *appealnet_tables.black_box(lines)])
    _print(more)
    summary = verdict.overall(found) | {
        "seeds": list(plan.seeds),
        "fits": sum(len(fits.names) for fits in plan.fits),
    }
    _print(["", json.dumps(summary)])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
