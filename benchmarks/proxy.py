"""Does a short training tell which student a full one would choose?

    python benchmarks/proxy.py train [--data mnist cifar10] [--workers 2] [--full-rows 16000]
    python benchmarks/proxy.py report [--full-rows 16000]

Trains the same students of ResNet-18, spread over the size range and drawn at random otherwise,
under several proxies and in full (8 epochs with the winner's recipe, over --full-rows rows of the
distillation part), and compares the order that each proxy gives with the order of the full
trainings, and with the rule "the smaller the better". A proxy is taken at its word, and by what it
lets expect of the full training (search/space/learning_curve.py) with the exponent that four of the
students, as pilots, show after the first and the last epoch (search/opening/pilots.py). Accuracies
are of the validation part. What is finished stands in runs/proxy and is not trained again. Reads
$UNDERSTUDY_DATA (default ../shared). The report ends with a JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from envs.compression.cost import cost
from envs.compression.moves import PRESETS
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from envs.reward import ThresholdReward
from search.opening.pilots import LEAST_GAP, USUAL_GAIN
from search.space.learning_curve import Expectation
from search.space.space import Space
from teachers.data.datasets import load_dataset
from teachers.data.splits import hold_out, parse_unseen, withhold_router
from teachers.distillation.distill import Diverged, Recipe, distil
from teachers.distillation.metrics import accuracy
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))
OUT = Path("runs/proxy")
STUDENTS = 26
#: of the teacher's KB: the largest and the smallest student
LARGEST, SMALLEST = 1 / 12, 1 / 400
#: students whose curves say how fast accuracies rise
PILOTS = 4
#: rows and epochs of each proxy; accuracies after every epoch are kept
PROXIES = {"3000x3": (3000, 3), "6000x3": (6000, 3), "6000x6": (6000, 6), "12000x2": (12_000, 2)}
FULL_EPOCHS = 8
#: of about 47,000: all of them take three times as long, hours of two processors for MNIST alone
FULL_ROWS = 16_000
MAX_DROP = 0.01


class Case:
    """A teacher with its data, and the students to compare."""

    def __init__(self, name: str) -> None:
        self.name = name
        file = DATA / "teachers" / f"resnet18_{name}.safetensors"
        described = understand(load_teacher(file))
        self.teacher, self.network = described.teacher, described.network
        self.look = self.teacher.manifest.preprocess
        self.inheritance = Inheritance.of(self.network, self.teacher.module.state_dict())
        self.space = Space(self.network, PRESETS["default"], ThresholdReward())
        self.kb = cost(self.network).kb
        self.actions = self._students()
        data = load_dataset(str(DATA / "data" / name), self.look)
        unseen = parse_unseen(self.teacher.manifest.unseen, data.train_rows)
        held = hold_out(data.labels, data.train_rows, unseen=unseen, seed=0)
        rows, labels = held.validation, data.labels
        said = predict(self.teacher.module, data.images, self.look, rows=rows, precision="auto")
        self.accuracy = accuracy(said.logits, labels[rows])
        parts = withhold_router(held, labels, error_rate=1 - self.accuracy + MAX_DROP / 2, seed=0)
        learnt = parts.distillation
        self.validation_set = ValidationSet(data.images, rows, labels[rows])
        logits = self._answers(data.images, learnt)
        self.distillation_set = DistillationSet(
            data.images, learnt, labels[learnt], logits[None], None, self.look
        )

    def _students(self) -> list[tuple[int, ...]]:
        """At random, but of sizes that are equally spaced on a logarithmic scale."""
        rng = np.random.default_rng(0)
        legal = [np.flatnonzero(mask) for mask in self.space.masks]
        wanted = self.kb * np.geomspace(LARGEST, SMALLEST, STUDENTS)
        found = []
        for kb in wanted:
            # a level of width per student, and every layer its own draw around it
            drawn = [
                tuple(
                    int(choices[np.clip(round(rng.normal(level, 1.0)), 0, len(choices) - 1)])
                    for choices in legal
                )
                for level in np.repeat(np.linspace(0, 4, 60), 10)
            ]
            costs = np.array([self.space.cost(actions).kb for actions in drawn])
            found.append(drawn[int(np.abs(np.log(costs / kb)).argmin())])
        return found

    def _answers(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        path = OUT / f"{self.name}-logits.npy"
        if not path.exists():
            said = predict(self.teacher.module, images, self.look, rows=rows, precision="auto")
            draft = path.with_suffix(".part.npy")
            np.save(draft, said.logits)
            draft.replace(path)
        logits: NDArray[np.float32] = np.load(path, mmap_mode="r")
        return logits

    def train(self, student: int, setting: str) -> dict[str, Any]:
        """One training; its accuracies after every epoch."""
        start = time.perf_counter()
        distillation_set = self.distillation_set
        if setting in PROXIES:
            rows, epochs = PROXIES[setting]
            recipe = Recipe(epochs=epochs)
        else:
            rows = int(setting.removeprefix("full"))
            recipe = Recipe(epochs=FULL_EPOCHS, augment="shift", keep_best=True)
        chosen = np.random.default_rng([0, 2]).permutation(len(distillation_set))[:rows]
        distillation_set = distillation_set.part(np.sort(chosen))
        spec = compress(self.network, PRESETS["default"], self.actions[student])
        module = self.inheritance.student(spec, 0)
        curve: list[float] = []
        try:
            outcome = distil(
                module, None, distillation_set, recipe, seed=0, validation_set=self.validation_set,
                on_epoch=lambda report: curve.append(report.accuracy or 0.0),
            )  # fmt: skip
            final = outcome.accuracy
        except Diverged:
            final = 0.0
        return {
            "data": self.name,
            "student": student,
            "kb": round(self.space.cost(self.actions[student]).kb, 1),
            "setting": setting,
            "accuracy": final,
            "curve": [round(value, 5) for value in curve],
            "seconds": round(time.perf_counter() - start, 1),
        }


@cache
def _case(name: str) -> Case:
    torch.set_num_threads(1)
    return Case(name)


def _train(task: tuple[str, int, str]) -> dict[str, Any]:
    name, student, setting = task
    return _case(name).train(student, setting)


def _finished() -> list[dict[str, Any]]:
    path = OUT / "trained.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _tasks(names: list[str], full: str) -> Iterator[tuple[str, int, str]]:
    done = {(row["data"], row["student"], row["setting"]) for row in _finished()}
    for name in names:
        # small students first: most of the picture after a little of the time
        for setting in (*PROXIES, full):
            for student in reversed(range(STUDENTS)):
                if (name, student, setting) not in done:
                    yield name, student, setting


def train(names: list[str], workers: int, full: str) -> None:
    """Do what is left to do."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names:
        _case(name)  # the teacher's answers, once
    tasks = list(_tasks(names, full))
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        (OUT / "trained.jsonl").open("a") as file,
    ):
        for row in pool.imap_unordered(_train, tasks):
            file.write(json.dumps(row) + "\n")
            file.flush()


def _gain_of(pairs: list[tuple[float, float]], epochs: int, plain: Expectation) -> float:
    """g by accuracies after the first and the last epoch of a proxy; the median."""
    found = []
    for first, last in pairs:
        before, after = plain.gap(first), plain.gap(last)
        if before > 2 * LEAST_GAP:
            found.append(-math.log(max(after, LEAST_GAP) / before) / math.log(epochs))
    return min(2.0, max(0.0, statistics.median(found))) if found else USUAL_GAIN


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """Spearman's ρ with its 95 % interval (bootstrap over students)."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(one), len(one)) for _ in range(2000)]
    values = [stats.spearmanr(one[pick], other[pick]).statistic for pick in drawn]
    low, high = np.nanquantile(values, (0.025, 0.975))
    rho = stats.spearmanr(one, other).statistic
    return {"rho": round(float(rho), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def compare(name: str, setting_of_truth: str) -> list[dict[str, Any]]:
    """One row per proxy, per epoch of it, and for the rule "rank by size"."""
    rows = [row for row in _finished() if row["data"] == name]
    full = {row["student"]: row for row in rows if row["setting"] == setting_of_truth}
    students = sorted(full)
    if len(students) < 8:
        return []
    case = _case(name)
    reward = ThresholdReward(c0=0.95, a0=case.accuracy - MAX_DROP)
    kb = np.array([full[s]["kb"] for s in students])

    def rewards(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([reward(a, 1 - k / case.kb) for a, k in zip(accuracies, kb, strict=True)])

    truth_accuracy = np.array([full[s]["accuracy"] for s in students])
    truth = rewards(truth_accuracy)
    top = truth >= np.median(truth)
    images = FULL_EPOCHS * int(setting_of_truth.removeprefix("full"))
    # a job's pilots are spread over the sizes too
    pilots = [students[round(place)] for place in np.linspace(0, len(students) - 1, PILOTS + 2)]
    table = []

    def add(rule: str, scores: NDArray[np.float64], seconds: float, accuracies: Any) -> None:
        pick = int(scores.argmax())
        row = {
            "data": name,
            "rule": rule,
            "students": len(students),
            "reward": _spearman(scores, truth),
            "top_half": _spearman(scores[top], truth[top]),
            "regret": round(float(truth.max() - truth[pick]), 4),
            "regret_share": round(float(1 - truth[pick] / truth.max()), 4),
            "regret_of_two": round(float(truth.max() - truth[np.argsort(-scores)[:2]].max()), 4),
            "seconds": round(seconds, 1),
        }
        if accuracies is not None:
            row["accuracy"] = _spearman(accuracies, truth_accuracy)
        table.append(row)

    for setting, (seen_rows, epochs) in PROXIES.items():
        found = {row["student"]: row for row in rows if row["setting"] == setting}
        if not set(students) <= set(found):
            continue
        seconds = float(np.mean([found[s]["seconds"] for s in students]))
        curves = [found[s]["curve"] for s in pilots[1:-1]]
        plain = Expectation(case.accuracy, seen_rows, images, 0.0, len(case.validation_set.rows))
        gain = _gain_of([(curve[0], curve[-1]) for curve in curves], epochs, plain)
        expect = replace(plain, gain=gain)
        for epoch in range(1, epochs + 1):
            seen = np.array([(found[s]["curve"] + [0.0] * epochs)[epoch - 1] for s in students])
            spent = seconds * epoch / epochs
            add(f"{setting} after {epoch}", rewards(seen), spent, seen)
            expected = expect.many(seen, epoch)
            add(f"{setting} after {epoch}, expected", rewards(expected), spent, expected)
            error = np.sqrt(np.mean((expected - truth_accuracy) ** 2))
            table[-1] |= {"error_of_accuracy": round(float(error), 4), "gain": round(gain, 3)}
    add("size", -kb, 0.0, None)
    add(
        setting_of_truth,
        truth,
        float(np.mean([full[s]["seconds"] for s in students])),
        truth_accuracy,
    )
    return table


def main() -> None:
    """Train or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--full-rows", type=int, default=FULL_ROWS)
    chosen = parser.parse_args()
    full = f"full{chosen.full_rows}"
    if chosen.what == "train":
        train(chosen.data, chosen.workers, full)
        return
    table = [row for name in chosen.data for row in compare(name, full)]
    for row in table:
        all_, half = row["reward"], row["top_half"]
        sys.stdout.write(
            f"{row['data']:8s} {row['rule']:26s} rho {all_['rho']:.3f} "
            f"[{all_['low']:.3f}, {all_['high']:.3f}]  top half {half['rho']:.3f} "
            f"[{half['low']:.3f}, {half['high']:.3f}]  regret {row['regret']:.4f} "
            f"({row['regret_share']:.1%}), of two {row['regret_of_two']:.4f}  "
            f"{row['seconds']:.0f} s\n"
        )
    sys.stdout.write(json.dumps({"rows": table}) + "\n")


if __name__ == "__main__":
    main()
