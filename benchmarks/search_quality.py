"""Which sampler finds the best student for a given number of distillations?

    python benchmarks/search_quality.py --quick        task 1, at most 10 minutes of two cores
    python benchmarks/search_quality.py                task 1, 50 seeds of every sampler
    python benchmarks/search_quality.py --tasks table resnet
    python benchmarks/search_quality.py table [--workers 2] [--limit N]    task 1's trainings
    python benchmarks/search_quality.py check          some of them again: the same to the digit?
    python benchmarks/search_quality.py thresholds     what moving C0 or A0 changes among them
    python benchmarks/search_quality.py pack [--tasks table resnet]    into benchmarks/data
    python benchmarks/search_quality.py transfer       does one task help a surrogate of the other?

Task 1 (``table``): a small network, five layers × six coefficients, all 7,776 students distilled,
in a table: where that stands in benchmarks/data, no data are needed. Task 2 (``resnet``): ResNet-18
on MNIST, distilled live, each candidate once for all. Nothing is interpolated. Every sampler of
``search.samplers`` plays with the job's defaults: batches of 4, 100 candidates, exact costs given
to all. How scores come about: ``benchmarks/quality/score.py``. ``--quick`` plays as many seeds as
fit and says how many. Pictures and searches go to runs/search_quality; ``--resume`` plays only what
does not stand there. Tasks that distil read $UNDERSTUDY_DATA (default ../shared). The last line is
JSON: one entry per sampler, ``default`` (the shipped one's) and ``about``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.quality import contest, report, score
from benchmarks.quality.play import BATCH, Search
from benchmarks.quality.task import Task
from search.samplers import SAMPLERS

OUT = Path("runs/search_quality")
SEEDS = {"table": 50, "resnet": 5}
#: seconds after which --quick begins no search any more
QUICK_SECONDS = 420


def main() -> None:
    """Compare samplers, or work on the table."""
    chosen = _arguments()
    if chosen.what == "compare":
        compare(chosen)
        return
    from benchmarks.quality import making

    if chosen.what == "table":
        from benchmarks.quality import table

        table.unpack()
        making.make(chosen.workers, chosen.limit)
    elif chosen.what == "check":
        count = chosen.limit or 20
        making.say(f"{making.check(count)} of {count} trainings differ when they are repeated")
    elif chosen.what in ("thresholds", "transfer"):
        from benchmarks.quality import binding, transfer

        for line in (binding if chosen.what == "thresholds" else transfer).report():
            making.say(line)
    else:
        from benchmarks.quality import resnet, table

        for name in chosen.tasks:
            part = table if name == "table" else resnet
            part.pack()
            making.say(f"{part.FILE}: {part.FILE.stat().st_size / 1024:.0f} KB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = ("compare", "table", "check", "thresholds", "pack", "transfer")
    parser.add_argument("what", nargs="?", default="compare", choices=parts)
    parser.add_argument("--quick", action="store_true", help="task 1, as many seeds as fit")
    parser.add_argument("--tasks", nargs="+", default=["table"], choices=list(SEEDS))
    parser.add_argument("--reward", default="threshold", choices=("threshold", "paper"))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, help="else 50 of task 1 and 5 of task 2")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, help="trainings of `table` and `check`")
    parser.add_argument("--resume", action="store_true", help="keep searches played before")
    return parser.parse_args()


def compare(chosen: argparse.Namespace) -> None:
    """Play, score, draw, and print a table and one JSON line."""
    samplers = sorted({score.FLOOR, *chosen.samplers})
    matches = []
    for name in ["table"] if chosen.quick else chosen.tasks:
        # before the workers: what a task makes once, it makes here
        task = contest.open_task(name)
        played = _play(task, samplers, chosen)
        matches.append(report.Match.of(task, chosen.reward, played))
        _draw(matches[-1])
        _report_unjudged(matches[-1])
    entries = report.entries(matches, samplers)
    for line in report.lines(entries, matches):
        _say(line)
    about = {
        "benchmark": "search_quality",
        "quick": chosen.quick,
        "reward": chosen.reward,
        "default": report.DEFAULT,
        "batch": BATCH,
        "comparisons": report.comparisons(samplers),
        "tasks": {match.task.name: match.about() for match in matches},
    }
    found = entries | {"default": entries.get(report.DEFAULT), "about": about}
    (OUT / "scores.json").write_text(json.dumps(found, indent=1) + "\n")
    _say(json.dumps(found))


def _play(task: Task, samplers: Sequence[str], chosen: argparse.Namespace) -> list[Search]:
    name = task.name
    file = OUT / f"searches-{name}-{chosen.reward}-{task.digest(chosen.reward)}.jsonl"
    if not chosen.resume:
        file.unlink(missing_ok=True)
    work = contest.jobs(name, chosen.reward, samplers, chosen.seeds or SEEDS[name])
    seconds = QUICK_SECONDS if chosen.quick else None
    played = []
    for search in contest.run(work, chosen.workers, file, seconds):
        played.append(search)
        _say(
            f"{name} {search.sampler} seed {search.seed}: log-reward {search.logs[-1]:.3f}, "
            f"{search.seconds:.1f} s for {search.proposals} proposals",
            sys.stderr,
        )
    return played


def _report_unjudged(match: report.Match) -> None:
    if match.unjudged:
        (OUT / "wanted.json").write_text(json.dumps(match.unjudged) + "\n")
        _say(
            f"{len(match.unjudged)} choices were not trained again, and what the search saw "
            "stands in for their worth; `table` and then `pack` train them"
        )


def _draw(match: report.Match) -> None:
    from benchmarks.quality import plots

    name = f"{match.task.name}-{match.reward}"
    title = f"{match.task.name}, reward {match.reward}"
    plots.curves(match.searches, match.scores, OUT / f"curves-{name}.png", title)
    plots.diagnosis(match.searches, OUT / f"diagnosis-{name}.png", title)
    table = report.table_of(match.task)
    if table is not None:
        found = plots.noise(table, match.task, match.reward, OUT / f"noise-{name}.png")
        _say("noise: " + json.dumps(found))


def _say(line: str, to: Any = sys.stdout) -> None:
    to.write(line + "\n")
    to.flush()


if __name__ == "__main__":
    main()
