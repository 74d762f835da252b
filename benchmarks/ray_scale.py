"""What Ray costs, and how the search scales with workers.

    python benchmarks/ray_scale.py --quick      # at most 5 minutes on 2 cores

Prints a table and, as its last line, one JSON object:

* ``efficiency_local``: candidates per second of 2 one-thread workers over twice that of 1, the
  same students of a ResNet-18 at MNIST's shape; beside it ``efficiency_plain``, the same work in
  plain processes without Ray, which shows what the memory's bandwidth leaves;
* ``overhead_ms``: per candidate with a null training, beyond the worker's own time;
* ``efficiency_simulated``: 1,000 candidates that sleep for a second, on 32 slots, counted from when
  all slots live, over the time that 32 slots need at least; and with two workers killed;
* ``worker_copies_mb``: what a worker's unique set size grows by when it attaches to the data, which
  may be ``worker_copies_bound_mb``: 5 % of the data + 5 MB.

Needs no data: images and teacher's answers are drawn, which costs the same time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from edge.preprocess import Preprocess
from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS
from envs.fx_import.trace import trace
from envs.graph.check import parse_netspec
from search.execution.cluster import cluster
from search.execution.evaluation import Evaluation, Job
from search.execution.evaluator import RayEvaluator
from search.execution.timeouts import TrialTimeout
from search.execution.training_context import TrainableFactory, TrainingContext
from search.execution.worker import Step
from search.execution.worker_pool import Resources
from teachers.distillation.distill import Recipe
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats import zoo

#: one number format and layout for all: a choice by time would differ from round to round
RECIPE = Recipe(1, precision="fp32", layout="channels_last")
GREY28 = Preprocess(1, 28, 28, mean=(0.1307,), std=(0.3081,))
SLOTS, SLEEPERS, SLEEP = 32, 1000, 1.0
NULLS, NULL_EPOCHS = 200, 3
WARM = 60.0


class Null:
    """A training of nothing: every epoch sleeps."""

    def __init__(self, room: dict[str, Any], done: int = 0) -> None:
        self.room, self.done = room, done

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> Null:
        """A candidate."""
        return Null(self.room)

    def epoch(self, examine: bool) -> Step:
        """Sleep."""
        time.sleep(self.room["sleep"])
        self.done += 1
        total = self.room["epochs"]
        return Step(self.done, total, 0.0, 0.5, 0.0, done=self.done == total)

    def save(self) -> bytes:
        """Nothing."""
        return b""

    def weights(self) -> dict[str, Any]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing is held."""


def training_context(rows: int, examined: int) -> TrainingContext:
    """MNIST's shape and a ResNet-18, both drawn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    module = zoo.build("resnet18", input_shape=GREY28.input_shape, classes=10)
    network = trace(module, GREY28.input_shape)
    distillation_set, validation_set = np.arange(rows), np.arange(rows, rows + examined)
    logits = rng.standard_normal((1, rows, 10), dtype=np.float32)
    return TrainingContext(
        teacher=network.to_json(),
        weights={name: value.numpy() for name, value in module.state_dict().items()},
        moves=PRESETS["default"],
        tap=anatomy(network).layers[-1].node,
        distillation_set=DistillationSet(
            images, distillation_set, labels[distillation_set], logits, None, GREY28
        ),
        validation_set=ValidationSet(images, validation_set, labels[validation_set]),
        seed=0,
        threads=1,
    )


def students(room: TrainingContext, widths: Sequence[float]) -> list[tuple[int, ...]]:
    """One student per coefficient, which every layer that may take it takes."""

    layers = anatomy(parse_netspec(room.teacher)).layers
    masks, pool = room.moves.masks(layers), room.moves.pool
    keep = len(pool) - 1
    return [
        tuple(pool.index(width) if mask[pool.index(width)] else keep for mask in masks)
        for width in widths
    ]


def work_off(evaluator: RayEvaluator, jobs: Sequence[Job]) -> tuple[float, list[Evaluation]]:
    """Seconds for all of them, and what came of each."""
    start = time.perf_counter()
    for job in jobs:
        evaluator.submit(job)
    done: list[Evaluation] = []
    while (news := evaluator.wait()) is not None:
        if isinstance(news, Evaluation):
            assert not news.reason, news.reason
            done.append(news)
    assert len(done) == len(jobs)
    return time.perf_counter() - start, done


#: seconds of one worker, and of two that do twice the work, round by round
Times = list[tuple[float, float]]


def efficiency(times: Times) -> tuple[float, list[float]]:
    """Of the fastest round of each kind, as others' work can only slow one down; and the range of
    the rounds' own."""
    own = [alone / both for alone, both in times]
    fastest = min(alone for alone, _ in times) / min(both for _, both in times)
    return round(fastest, 3), [round(min(own), 3), round(max(own), 3)]


def with_ray(room: TrainingContext, actions: Sequence[tuple[int, ...]], rounds: int) -> Times:
    """In workers of a crew."""
    jobs = [Job(one, 1) for one in actions]
    twice = [job for job in jobs for _ in range(2)]
    times = []
    with cluster("local", 3, room.nbytes):
        shared = ray.put(room)
        crews = [
            RayEvaluator(shared, TrainableFactory(RECIPE), workers, Resources(), TrialTimeout())
            for workers in (1, 2)
        ]
        for crew in crews:
            assert crew.attend(WARM)
            work_off(crew, twice[:2])
        for _ in range(rounds):
            alone, _ = work_off(crews[0], jobs)
            both, _ = work_off(crews[1], twice)
            times.append((alone, both))
        for crew in crews:
            crew.close()
    return times


def plain(
    room: TrainingContext, actions: Sequence[tuple[int, ...]], orders: Any, answers: Any
) -> None:
    """A process without Ray: does the candidates whenever it is told to."""
    trainer = TrainableFactory(RECIPE)(room)
    while orders.get():
        for one in actions:
            training = trainer.begin(one, None)
            training.epoch(True)
            training.close()
        answers.put(None)


def without_ray(room: TrainingContext, actions: Sequence[tuple[int, ...]], rounds: int) -> Times:
    """As :func:`with_ray`, in processes of our own."""
    context = multiprocessing.get_context("spawn")
    orders = [context.Queue() for _ in range(2)]
    answers = context.Queue()
    crew = [context.Process(target=plain, args=(room, actions, own, answers)) for own in orders]
    for process in crew:
        process.start()

    def timed(count: int) -> float:
        start = time.perf_counter()
        for own in orders[:count]:
            own.put(True)
        for _ in range(count):
            answers.get()
        return time.perf_counter() - start

    timed(2)
    times = [(timed(1), timed(2)) for _ in range(rounds)]
    for own, process in zip(orders, crew, strict=True):
        own.put(False)
        process.join()
    return times


def overhead() -> float:
    """Milliseconds per candidate that the worker knows nothing of."""
    with cluster("local", 1):
        room = {"sleep": 0.0, "epochs": NULL_EPOCHS}
        evaluator = RayEvaluator(ray.put(room), Null, 1, Resources(), TrialTimeout())
        assert evaluator.attend(WARM)
        work_off(evaluator, [Job((0,), NULL_EPOCHS)])
        seconds, done = work_off(evaluator, [Job((n,), NULL_EPOCHS) for n in range(NULLS)])
        evaluator.close()
    return 1000 * (seconds - sum(one.seconds for one in done)) / NULLS


def simulated() -> tuple[float, float, float]:
    """Efficiency of sleepers, the same with two workers killed, and the seconds to start."""
    with cluster("local", SLOTS):
        start = time.perf_counter()
        room = {"sleep": SLEEP, "epochs": 1}
        evaluator = RayEvaluator(ray.put(room), Null, SLOTS, Resources(), TrialTimeout())
        assert evaluator.attend(5 * WARM)
        started = time.perf_counter() - start
        jobs = [Job((number,), 1) for number in range(SLEEPERS)]
        calm, _ = work_off(evaluator, jobs)
        assert evaluator.attend(WARM)
        victims = [place.pid for place in evaluator.places[:2]]
        disturbed = _with_kills(evaluator, jobs, victims)
        evaluator.close()
    ideal = SLEEPERS * SLEEP / SLOTS
    return ideal / calm, ideal / disturbed, started


def _with_kills(evaluator: RayEvaluator, jobs: Sequence[Job], victims: list[int]) -> float:
    start = time.perf_counter()
    for job in jobs:
        evaluator.submit(job)
    done: set[tuple[int, ...]] = set()
    while (news := evaluator.wait()) is not None:
        if isinstance(news, Evaluation):
            assert not news.reason, news.reason
            assert news.actions not in done
            done.add(news.actions)
        # one early, one in the middle
        if victims and len(done) > SLEEPERS // 3 * (3 - len(victims)) - SLEEPERS // 6:
            os.kill(victims.pop(), signal.SIGKILL)
    assert len(done) == len(jobs)
    assert not victims
    return time.perf_counter() - start


def copies(room: TrainingContext) -> float:
    """Megabytes that are a worker's own once it has attached, beyond those before."""
    with cluster("local", 1, room.nbytes):
        shared = ray.put(room)
        worker = Resources().actor(TrainableFactory(RECIPE))
        before = ray.get(worker.place.remote()).private
        after = ray.get(worker.enter.remote(shared)).private
    return float(after - before) / 1e6


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    chosen = parser.parse_args()
    rounds, rows = (6, 512) if chosen.quick else (9, 4096)
    row: dict[str, Any] = {}

    room = training_context(50_000, 10_000)
    row["worker_copies_mb"] = round(copies(room), 2)
    row["worker_copies_bound_mb"] = round(0.05 * room.nbytes / 1e6 + 5, 2)
    row["overhead_ms"] = round(overhead(), 2)
    _say(row)

    room = training_context(rows, 256)
    actions = students(room, (0.4, 0.2, 0.1))
    local, bare = with_ray(room, actions, rounds), without_ray(room, actions, rounds)
    row["efficiency_local"], row["efficiency_local_range"] = efficiency(local)
    row["efficiency_plain"], row["efficiency_plain_range"] = efficiency(bare)
    _say(row)

    calm, disturbed, started = simulated()
    row["efficiency_simulated"] = round(calm, 3)
    row["efficiency_simulated_kills"] = round(disturbed, 3)
    row["seconds_to_start_32"] = round(started, 1)
    row["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    for name, value in row.items():
        sys.stdout.write(f"{name:28} {value}\n")
    sys.stdout.write(json.dumps(row) + "\n")


def _say(row: dict[str, Any]) -> None:
    sys.stderr.write(f"{row}\n")


if __name__ == "__main__":
    main()
