"""How fast students are distilled: a plain loop, a careful one, and ours.

    python benchmarks/distil_throughput.py [--quick] [--threads 1]

Three ways to train the same five students of ResNet-18, at the shapes of MNIST and CIFAR-10:

  plain    the teacher's forward pass in every step, fp32, a DataLoader
  careful  the teacher's logits cached, fp32, tensors in memory, torch's defaults
  ours     teachers.distillation.distill, as the workers run it

Each way is a process of its own; they take turns, a window of steps each, so that all meet the same
moods of the machine. Speeds are medians over windows. A candidate is the default proxy, and carries
its share of the cache: the teacher's pass over the proxy's rows, spread over 24 candidates. Then
both cached ways train the students on MNIST's proxy with several seeds, and their accuracies on the
validation part are compared. Reads $UNDERSTUDY_DATA (default ../shared). Ends with a JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from envs.compression.moves import PRESETS
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from search.job.spec import JobSpec
from teachers.data.datasets import load_dataset
from teachers.distillation.distill import Distillation, Recipe
from teachers.distillation.metrics import accuracy
from teachers.distillation.training import normalise, predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats.description import Described, understand
from teachers.formats.formats import load_teacher

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))
#: indices into the default pool, one per weight layer: about these parts of ResNet-18's 43,681 KB
STUDENTS = {
    "1/8": "437373474744737347477",
    "1/20": "337473373734737337377",
    "1/50": "327273372722737327377",
    "1/150": "217272272721727227177",
    "1/400": "117171171711717117177",
}
SHAPES = ("mnist", "cifar10")
WAYS = ("plain", "careful", "ours")
CANDIDATES = 24
BATCH = 128
ROWS, EPOCHS = (
    cast(int, JobSpec.model_fields[name].default) for name in ("proxy_rows", "proxy_epochs")
)
RECIPE = Recipe(epochs=EPOCHS, batch_size=BATCH)


class Bench:
    """One way in one process: opens students, runs windows of steps, trains whole proxies."""

    def __init__(self, way: str, shape: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.way = way
        file = DATA / "teachers" / f"resnet18_{shape}.safetensors"
        self.described: Described = understand(load_teacher(file))
        self.teacher = self.described.teacher.module.eval()
        self.look = self.described.teacher.manifest.preprocess
        self.inheritance = Inheritance.of(self.described.network, self.teacher.state_dict())
        self.shape = shape

    def student(self, name: str, seed: int = 0) -> nn.Module:
        actions = tuple(int(digit) for digit in STUDENTS[name])
        student = compress(self.described.network, PRESETS["default"], actions)
        return self.inheritance.student(student, seed)

    def open(self, name: str, steps: int) -> None:
        """Get ready for windows of ``steps`` steps: the first one, which nobody times, is run."""
        rng = np.random.default_rng(0)
        rows = steps * BATCH
        images = rng.integers(0, 256, (rows, *self.look.pixel_shape), dtype=np.uint8)
        labels = rng.integers(0, 10, rows)
        logits = rng.normal(size=(1, rows, 10)).astype(np.float32)
        if self.way == "ours":
            distillation_set = DistillationSet(
                images, np.arange(rows), labels, logits, None, self.look
            )
            recipe = Recipe(epochs=10_000, batch_size=BATCH)
            self.training = Distillation(self.student(name), None, distillation_set, recipe, seed=0)
            self.mode = ""
            self.window()
            self.window()  # the choice of the mode may take more steps than a window has
            self.mode = self.training.mode.name
            return
        self.module = self.student(name).train()
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=1e-3, weight_decay=1e-4)
        self.mode = "fp32 contiguous"
        if self.way == "careful":
            x = torch.from_numpy(self.look.to_input(images))
            self.tensors = (x, torch.from_numpy(labels), torch.from_numpy(logits[0]))
        else:
            self.loader = DataLoader(
                Samples(images, labels, self), batch_size=BATCH, shuffle=True, drop_last=True
            )
        self.window()

    def window(self) -> float:
        """Rows per second over one pass."""
        if self.way == "ours":
            return self.training.run_epoch(examine=False).samples_per_second
        start, seen = time.perf_counter(), 0
        if self.way == "careful":
            x, labels, logits = self.tensors
            for picked in torch.split(torch.randperm(len(x)), BATCH):
                self._step(x[picked], labels[picked], logits[picked])
                seen += len(picked)
        else:
            for batch, labels in self.loader:
                with torch.no_grad():
                    logits = self.teacher(batch)
                self._step(batch, labels, logits)
                seen += len(labels)
        return seen / (time.perf_counter() - start)

    def _step(self, x: Tensor, labels: Tensor, said: Tensor) -> None:
        loss = _loss(self.module(x), labels, said)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def teacher_speed(self, rows: int) -> float:
        """Rows per second of the pass that fills the cache."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (rows, *self.look.pixel_shape), dtype=np.uint8)
        precision = "auto" if self.way == "ours" else "fp32"
        start = time.perf_counter()
        if self.way == "ours":
            predict(self.teacher, images, self.look, precision=precision)
        else:
            with torch.no_grad():
                for batch in torch.split(torch.from_numpy(self.look.to_input(images)), BATCH):
                    self.teacher(batch)
        return rows / (time.perf_counter() - start)

    def lessons(self, rows: int) -> None:
        """Real rows for :meth:`trained`, with the teacher's answers in fp32."""
        data = load_dataset(str(DATA / "data" / self.shape), self.look)
        rng = np.random.default_rng(0)
        unseen = data.train_rows - 5000
        learnt = np.sort(rng.permutation(unseen)[:rows])
        validation = np.arange(unseen, unseen + 2500)
        said = predict(self.teacher, data.images, self.look, rows=learnt).logits
        labels = data.labels
        self.distillation_set = DistillationSet(
            data.images, learnt, labels[learnt], said[None], None, self.look
        )
        self.validation_set = ValidationSet(data.images, validation, labels[validation])

    def trained(self, name: str, seed: int) -> float:
        """Validation accuracy after the whole proxy, in the same steps either way."""
        student = self.student(name, seed)
        if self.way == "ours":
            with Distillation(
                student,
                None,
                self.distillation_set,
                RECIPE,
                seed=seed,
                validation_set=self.validation_set,
            ) as training:
                while not training.done:
                    training.run_epoch(examine=False)
                return training.finish().accuracy
        x = normalise(
            self.distillation_set.images[self.distillation_set.rows], self.look
        ).contiguous()
        labels, said = (
            torch.from_numpy(a)
            for a in (self.distillation_set.labels, self.distillation_set.logits[0])
        )
        optimiser = torch.optim.AdamW(
            student.parameters(), lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay
        )
        schedule, steps = RECIPE.schedule(), EPOCHS * math.ceil(len(x) / BATCH)
        torch.manual_seed(seed)
        self.module, self.optimiser, step = student.train(), optimiser, 0
        for _ in range(EPOCHS):
            for picked in torch.split(torch.randperm(len(x)), BATCH):
                optimiser.param_groups[0]["lr"] = schedule.rate(step, steps)
                self._step(x[picked], labels[picked], said[picked])
                step += 1
        logits = predict(
            student, self.validation_set.images, self.look, rows=self.validation_set.rows
        ).logits
        return accuracy(logits, self.validation_set.labels)


class Samples(Dataset[tuple[Tensor, int]]):
    """Images one by one, as most loops read them."""

    def __init__(self, images: Any, labels: Any, bench: Bench) -> None:
        self.images, self.labels = images, labels
        self.mean, self.std = (
            torch.tensor(values).view(-1, 1, 1) for values in (bench.look.mean, bench.look.std)
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        x = torch.from_numpy(self.images[row]).permute(2, 0, 1).float() / 255
        return (x - self.mean) / self.std, int(self.labels[row])


def _loss(logits: Tensor, labels: Tensor, said: Tensor) -> Tensor:
    """Soft targets at temperature 4 and cross-entropy, weighted .7 and .3."""
    soft = F.kl_div(
        F.log_softmax(logits / 4, 1), F.log_softmax(said / 4, 1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip
    return 0.7 * 16 * soft + 0.3 * F.cross_entropy(logits, labels)


def serve(pipe: Connection, way: str, shape: str, threads: int) -> None:
    """Do what comes through the pipe: (method or attribute, arguments)."""
    bench = Bench(way, shape, threads)
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        name, *arguments = order
        found = getattr(bench, name)
        pipe.send(found(*arguments) if callable(found) else found)


class Processes:
    """The three ways, each in a process; used as a context manager."""

    def __init__(self, shape: str, threads: int, ways: tuple[str, ...] = WAYS) -> None:
        self.shape, self.threads, self.ways = shape, threads, ways

    def __enter__(self) -> Processes:
        spawn = multiprocessing.get_context("spawn")
        self.pipes, self.processes = {}, []
        for way in self.ways:
            ours, theirs = spawn.Pipe()
            arguments = (theirs, way, self.shape, self.threads)
            process = spawn.Process(target=serve, args=arguments, daemon=True)
            process.start()
            self.pipes[way] = ours
            self.processes.append(process)
            assert ours.recv() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self.pipes.values():
            pipe.send(None)
        for process in self.processes:
            process.join()

    def ask(self, way: str, *order: Any) -> Any:
        self.pipes[way].send(order)
        return self.pipes[way].recv()


def throughput(shape: str, threads: int, windows: int, steps: int) -> list[dict[str, Any]]:
    """One row per student: rows/s each way, and how many times faster ours is."""
    rows = []
    with Processes(shape, threads) as ways:
        cache = {
            way: statistics.median(ways.ask(way, "teacher_speed", 256) for _ in range(3))
            for way in ("careful", "ours")
        }
        for name in STUDENTS:
            speeds: dict[str, list[float]] = {way: [] for way in WAYS}
            for way in WAYS:
                # a step of the plain loop takes a second: its windows are shorter, its steps equal
                ways.ask(way, "open", name, 1 if way == "plain" else steps)
            for window in range(windows):
                for way in WAYS:
                    if way != "plain" or window % 3 == 0:
                        speeds[way].append(ways.ask(way, "window"))
            typical = {way: statistics.median(found) for way, found in speeds.items()}
            seconds = {
                way: ROWS * EPOCHS / typical[way]
                + (ROWS / cache[way] / CANDIDATES if way in cache else 0.0)
                for way in WAYS
            }
            rows.append(
                {
                    "shape": shape,
                    "student": name,
                    **{f"{way}_per_s": round(typical[way], 1) for way in WAYS},
                    "mode": ways.ask("ours", "mode"),
                    "speedup_careful": round(seconds["careful"] / seconds["ours"], 3),
                    "speedup": round(seconds["plain"] / seconds["ours"], 3),
                    "steps_alone": round(typical["ours"] / typical["careful"], 3),
                }
            )
            _print(rows[-1])
    return rows


def gap(threads: int, seeds: int, rows: int) -> dict[str, Any]:
    """Careful less ours in validation accuracy, paired by student and seed, on MNIST."""
    both = ("careful", "ours")
    found: dict[str, list[float]] = {way: [] for way in both}
    with Processes("mnist", threads, both) as ways:
        for way in both:
            ways.pipes[way].send(("lessons", rows))
        for way in both:
            ways.pipes[way].recv()
        for name in STUDENTS:
            for seed in range(seeds):
                for way in both:
                    ways.pipes[way].send(("trained", name, seed))
                for way in both:
                    found[way].append(ways.pipes[way].recv())
            tail = {way: np.mean(found[way][-seeds:]) for way in both}
            _print({"student": name, **{way: f"{value:.4f}" for way, value in tail.items()}})
    differences = np.subtract(found["careful"], found["ours"])
    error = stats.sem(differences) * stats.t.ppf(0.95, len(differences) - 1)
    return {
        "accuracy_gap": round(float(differences.mean() + error), 5),
        "accuracy_gap_mean": round(float(differences.mean()), 5),
        "accuracy_careful": round(float(np.mean(found["careful"])), 5),
        "accuracy_ours": round(float(np.mean(found["ours"])), 5),
        "pairs": len(differences),
        "proxy": [rows, EPOCHS],
    }


def _print(row: dict[str, Any]) -> None:
    sys.stdout.write("  ".join(f"{key} {value}" for key, value in row.items()) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer windows, a smaller proxy")
    parser.add_argument("--threads", type=int, default=1, help="of every way (default 1)")
    chosen = parser.parse_args()
    windows, steps = (4, 8) if chosen.quick else (15, 12)
    start = time.monotonic()
    rows = [row for shape in SHAPES for row in throughput(shape, chosen.threads, windows, steps)]
    compared = gap(chosen.threads, 3, 2000 if chosen.quick else ROWS)
    means = {
        key: round(statistics.geometric_mean(row[key] for row in rows), 3)
        for key in ("speedup_careful", "speedup", "steps_alone")
    }
    result = {
        **means,
        "least_speedup_careful": min(row["speedup_careful"] for row in rows),
        **compared,
        "students": rows,
        "threads": chosen.threads,
        "quick": chosen.quick,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
