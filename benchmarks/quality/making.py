"""The work behind task 1's table: distil every network there is, and the best again.

What is finished stands in ``trained.jsonl`` and is not trained again. First every network with the
seed that searches see, in a shuffled order, so that a part of the work is a fair sample; then those
among the best under a reward that is compared, with the seeds that judge, the best ones first.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import lines
from benchmarks.quality.small import JUDGE_SEEDS, MOVES, OUT, SEARCH_SEED, Lab
from benchmarks.quality.task import Standard
from envs.compression.cost import costs
from envs.compression.layers import anatomy
from envs.compression.resolve import compress
from envs.graph.netspec import NetSpec
from search.space.space import Actions

#: in the folder of a task, a line per training
TRAINED = "trained.jsonl"
#: share of the networks, by each reward, that is trained again to judge a search's choice
JUDGED_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Networks:
    """All candidates of task 1.

    Attributes:
        actions: int8 (candidates, layers), every legal action vector in lexicographic order.
        network: int64 (candidates,), the first candidate that rounds to the same network.
        bytes, macs: exact costs, int64 (candidates,).
    """

    actions: NDArray[np.int8]
    network: NDArray[np.int64]
    bytes: NDArray[np.int64]
    macs: NDArray[np.int64]

    @classmethod
    def of(cls, network: NetSpec) -> Networks:
        masks = MOVES.masks(anatomy(network).layers)
        every = list(product(*(np.flatnonzero(mask).tolist() for mask in masks)))
        first: dict[str, int] = {}
        keys = (compress(network, MOVES, actions).spec.to_json() for actions in every)
        same = [first.setdefault(key, number) for number, key in enumerate(keys)]
        actions = np.array(every, np.int8)
        spent = costs(network, MOVES, actions.astype(np.int64))
        return cls(actions, np.array(same), spent.bytes, spent.macs)

    @property
    def distinct(self) -> NDArray[np.int64]:
        """Numbers of the networks."""
        return np.unique(self.network)

    def candidate(self, number: int) -> Actions:
        """An action vector."""
        return tuple(map(int, self.actions[number]))


def finished(folder: Path = OUT) -> dict[tuple[int, int], dict[str, Any]]:
    """(network, seed) → what came of it."""
    rows = lines.rows(folder / TRAINED)
    return {(row["network"], row["seed"]): row for row in rows}


def accuracies(done: dict[tuple[int, int], dict[str, Any]], seed: int) -> dict[int, float]:
    """Network → accuracy, nan where its training diverged."""
    return {
        network: math.nan if row["accuracy"] is None else row["accuracy"]
        for (network, trained), row in done.items()
        if trained == seed
    }


def best(
    networks: Networks, found: dict[int, float], standard: Standard, share: float
) -> list[int]:
    """Networks that are among the best ``share`` by one of the rewards, the best ones first."""
    numbers = np.array(sorted(found))
    scores = np.array([found[number] for number in numbers])
    ratio = 1 - networks.bytes[numbers] / networks.bytes[-1]
    places = [
        np.argsort(np.argsort(-standard.log(reward, scores, ratio), kind="stable"))
        for reward in standard.rewards
    ]
    place = np.min(places, axis=0)
    chosen = np.argsort(place, kind="stable")
    return [int(numbers[row]) for row in chosen if place[row] < share * len(numbers)]


def make(workers: int, limit: int | None = None, folder: Path = OUT) -> None:
    """Do what is left to do, or the first ``limit`` trainings of it."""
    # trained, and the data decoded, before the workers ask for them
    lab = Lab.open(folder)
    networks = Networks.of(lab.network)
    left = limit
    for phase in ("search", "judge"):
        tasks = list(_tasks(phase, networks, lab.searched, folder))[:left]
        say(f"{phase}: {len(tasks)} trainings to go, {workers} at a time")
        _train(tasks, workers, folder)
        left = None if left is None else left - len(tasks)


def _tasks(
    phase: str, networks: Networks, standard: Standard, folder: Path
) -> Iterator[tuple[str, int, Actions, int]]:
    done = finished(folder)
    if phase == "search":
        order = np.random.default_rng(0).permutation(networks.distinct)
        seeds: tuple[int, ...] = (SEARCH_SEED,)
    else:
        found = accuracies(done, SEARCH_SEED)
        if len(found) < len(networks.distinct):
            return
        order = np.array(best(networks, found, standard, JUDGED_SHARE) + wanted(folder))
        order, seeds = order[np.sort(np.unique(order, return_index=True)[1])], JUDGE_SEEDS
    for network in map(int, order):
        for seed in seeds:
            if (network, seed) not in done:
                yield str(folder), network, networks.candidate(network), seed


def wanted(folder: Path = OUT) -> list[int]:
    """Networks that a comparison had to judge and could not."""
    path = folder / "wanted.json"
    found: list[int] = json.loads(path.read_text()) if path.exists() else []
    return found


def _train(tasks: list[tuple[str, int, Actions, int]], workers: int, folder: Path) -> None:
    if not tasks:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for count, row in enumerate(pool.imap_unordered(_trained, tasks, chunksize=4), 1):
            lines.append(folder / TRAINED, row)
            if count % 100 == 0 or count == len(tasks):
                gone = time.monotonic() - start
                say(f"{count} of {len(tasks)}, {gone / count * (len(tasks) - count) / 60:.0f} min")


@cache
def _lab(folder: str) -> Lab:
    return Lab.open(Path(folder))


def _trained(task: tuple[str, int, Actions, int]) -> dict[str, Any]:
    folder, network, actions, seed = task
    lab = _lab(folder)
    # time of the processor: the machine may have other work
    start = time.process_time()
    found = lab.distil(actions, seed)
    return {
        "network": network,
        "seed": seed,
        "accuracy": None if math.isnan(found) else round(found, 6),
        "seconds": round(time.process_time() - start, 4),
        "where": where(),
    }


@cache
def where(device: str = "cpu") -> str:
    """Machine and torch: to the digit, a training can be repeated on a machine like this one."""
    able = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    machine = able if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{machine}, torch {torch.__version__}"


def check(count: int, folder: Path = OUT) -> int:
    """Train some finished networks again; how many do not give the same accuracy to the digit."""
    done = sorted(finished(folder).items())
    picked = np.random.default_rng().choice(len(done), min(count, len(done)), replace=False)
    networks = Networks.of(_lab(str(folder)).network)
    wrong = 0
    for place in picked:
        (network, seed), row = done[place]
        again = _trained((str(folder), network, networks.candidate(network), seed))
        wrong += again["accuracy"] != row["accuracy"]
    return wrong


def say(line: str) -> None:
    """To whoever watches, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
