"""Our students against two other ways to make a network smaller, at equal size.

    python benchmarks/peers.py train [--data mnist cifar10] [--ratios 50 10 5] [--seeds 0 1 2]
    python benchmarks/peers.py report
    python benchmarks/peers.py --quick             # both, on next to no rows: does it run?

ResNet-18, so many times fewer KB. The ways: `searched`, what a search of ours with the default
sampler finds under that limit; `uniform`, one width factor for every layer; `torch-pruning` and
`torch-pruning-global`, group L1 importance, the same share of every layer or ranked over all.
Every student is then trained by the same code: the job's final recipe over --rows rows for --epochs
epochs, with the same answers of the teacher and the same seed; the best epoch on validation is
tested, once. docs/peers.md says what else is equal and what is not. --set changes options of the
job: `--set sampler=gp augment=flip_shift`, or `--set gpus=.1` to train on a GPU.

What is finished stands in OUT/trained.jsonl and is not trained again; small students come first.
Reads $UNDERSTUDY_DATA (default ../shared). The report ends with a JSON line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import yaml

from benchmarks.rivals import verdict
from benchmarks.rivals.study import OURS, OWN, WAYS, Plan, Row, Study

QUICK = {
    "data": ["mnist"],
    "ratios": [50.0],
    "seeds": [0, 1],
    "rows": 2000,
    "epochs": 2,
    "budget": 2,
    "out": Path("runs/peers-quick"),
}


@dataclass(frozen=True)
class Task:
    """One training, and the search before it where there is one."""

    data: str
    ratio: float
    seed: int
    way: str


def tasks(
    plan: Plan,
    data: Sequence[str],
    ratios: Sequence[float],
    seeds: Sequence[int],
    ways: Sequence[str],
    finished: Iterable[Row],
) -> Iterator[Task]:
    """What is left to do, the smallest students first, all ways of a seed one after the other."""
    done = {
        (row["data"], row["ratio"], row["seed"], row["way"])
        for row in finished
        if row["setting"] == plan.setting(row["way"])
    }
    for ratio in sorted(ratios, reverse=True):
        for name in data:
            for seed in seeds:
                for way in ways:
                    if (name, ratio, seed, way) not in done:
                        yield Task(name, ratio, seed, way)


def finished(path: Path) -> list[Row]:
    """Rows of a file of lines; a line that was torn by a kill is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


@cache
def _study(name: str, plan: Plan) -> Study:
    return Study(name, plan)


def _train(work: tuple[Task, Plan]) -> list[Row]:
    task, plan = work
    torch.set_num_threads(1)
    return _study(task.data, plan).train(task.way, task.ratio, task.seed)


def run(
    left: Sequence[Task],
    plan: Plan,
    workers: int,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Train what is left, in so many processes of one thread each."""
    if not left:
        return
    plan.out.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(task.data for task in left):
        say(f"{name}: the teacher answers, once")
        Study(name, plan)
    path = plan.out / "trained.jsonl"
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        path.open("a") as file,
    ):
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        for rows in pool.imap_unordered(_train, [(task, plan) for task in left]):
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            for row in rows:
                say(
                    f"{row['data']} {row['ratio']:g}x seed {row['seed']} {row['way']}: "
                    f"{row['kb']:,.1f} KB, {row['test']:.2%} on test, {row['seconds']:.0f} s"
                )


def main() -> None:
    """Train, report, or both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("train", "report"), help="both if left out")
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[50.0, 10.0, 5.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rows", type=int, default=16_000, help="that are learnt from")
    parser.add_argument("--epochs", type=int, default=8, help="of every student")
    parser.add_argument("--budget", type=int, default=50, help="candidates of a search")
    parser.add_argument("--set", nargs="+", type=_option, default=[], metavar="NAME=VALUE")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument(
        "--quick", action="store_true", help="two seeds of MNIST at 50x, on 2,000 rows"
    )
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    chosen = parser.parse_args()
    plan = Plan(chosen.rows, chosen.epochs, chosen.budget, chosen.out, tuple(chosen.set))
    path = plan.out / "trained.jsonl"
    if chosen.what != "report":
        wanted = (chosen.data, chosen.ratios, chosen.seeds, chosen.ways)
        left = list(tasks(plan, *wanted, finished(path)))
        run(left, plan, chosen.workers, lambda line: sys.stderr.write(line + "\n"))
    if chosen.what != "train":
        report(finished(path), plan)


def _option(text: str) -> tuple[str, object]:
    """An option of a job, its value as YAML reads it."""
    name, _, text = text.partition("=")
    if name in OWN:
        raise argparse.ArgumentTypeError(f"{name} follows from the other options")
    value = yaml.safe_load(text)
    return name, tuple(value) if isinstance(value, list) else value


def report(rows: Iterable[Row], plan: Plan) -> None:
    """Print the table and the JSON line, of what was trained under this plan."""
    mine = [row for row in rows if row["setting"] == plan.setting(row["way"])]
    entries = verdict.compare(mine)
    sys.stdout.write(f"{plan.setting(OURS)}; intervals are of 95 %, over seeds\n")
    for line in verdict.lines(entries):
        sys.stdout.write(line + "\n")
    sys.stdout.write(json.dumps({"setting": plan.setting(OURS), "rows": entries}) + "\n")


if __name__ == "__main__":
    main()
