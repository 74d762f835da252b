"""All samplers, all seeds: searches in parallel processes, one thread each."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import lines
from benchmarks.quality.play import HELD_OUT, Search, play
from benchmarks.quality.task import Task

#: task, reward, sampler, seed
Job = tuple[str, str, str, int]


@cache
def open_task(name: str) -> Task:
    """A task by its name, opened once in every process."""
    if name == "table":
        from benchmarks.quality import table

        return table.task(table.read())
    from benchmarks.quality import resnet

    return resnet.task()


def jobs(task: str, reward: str, samplers: Sequence[str], seeds: int) -> Iterator[Job]:
    """Seed by seed, so that whoever stops early has the same seeds of every sampler."""
    for seed in range(seeds):
        for sampler in samplers:
            yield task, reward, sampler, seed


def run(
    work: Iterable[Job], workers: int, file: Path, seconds: float | None = None
) -> Iterator[Search]:
    """Play searches, and give them as they end.

    Args:
        work: in the order in which they begin.
        workers: processes.
        file: JSON lines; searches that stand there are not played again, new ones are added.
        seconds: begin nothing any more after so long.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    end = math.inf if seconds is None else time.monotonic() + seconds
    before = {_job(search): search for search in read(file)}
    waiting, out = deque(work), set[Future[Search]]()
    context = multiprocessing.get_context("spawn")
    file.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        while True:
            while waiting and len(out) < workers and time.monotonic() < end:
                job = waiting.popleft()
                if job in before:
                    yield before[job]
                else:
                    out.add(pool.submit(_play, job))
            if not out:
                return
            done, out = wait(out, return_when=FIRST_COMPLETED)
            for future in done:
                search = future.result()
                lines.append(file, asdict(search))
                yield search


def _play(job: Job) -> Search:
    import torch

    torch.set_num_threads(1)
    name, reward, sampler, seed = job
    task = open_task(name)
    return play(task, reward, sampler, seed, held_out=_held_out(name))


@cache
def _held_out(name: str) -> NDArray[np.integer[Any]] | None:
    """Candidates on which a sampler's predictions are compared; only the table knows them all."""
    if name != "table":
        return None
    from benchmarks.quality import table

    actions = table.read().actions
    picked = np.random.default_rng(1).choice(len(actions), HELD_OUT, replace=False)
    return actions[picked]


def read(file: Path) -> list[Search]:
    """Searches that were played before."""
    searches = [Search(**row) for row in lines.rows(file)]
    for search in searches:
        search.found = [tuple(actions) for actions in search.found]
        search.told = {
            name: [(int(count), float(value)) for count, value in values]
            for name, values in search.told.items()
        }
    return searches


def _job(search: Search) -> Job:
    return search.task, search.reward, search.sampler, search.seed
