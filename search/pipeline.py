"""The main job: teacher → students → the best one → router → bundle and report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import WorkerCrashedError
from safetensors.numpy import load_file, save

from edge.errors import BadInput
from search.checks import check_inputs
from search.events import Event, Finished, Note, Progress, Stage
from search.ledger import Ledger, Record, holds_candidates
from search.loop import best, search, stopwatch
from search.machine import cores
from search.outcome import record_of, result_of
from search.package import ship
from search.preparation import Prepared, Telling, check_names, prepare
from search.report import write_report
from search.run_folder import RunFolder, write_bytes
from search.samplers import SAMPLERS
from search.spec import JobSpec
from search.workers import RayEvaluator, Trained, cluster, train_on_ray
from teachers.distill import EpochReport

Weights = dict[str, NDArray[Any]]


def run(
    spec: JobSpec, *, resume: bool = False, own_folder: bool = True, trusted: bool = False
) -> Iterator[Event]:
    """Do a job and tell of it; the last event is :class:`search.events.Finished`.

    Closing the iterator, or an interrupt inside it, stops Ray and leaves a run that ``resume``
    goes on with: no finished candidate is lost.

    Args:
        spec: the job.
        resume: go on with the run in ``spec.out``.
        own_folder: False where the caller has made ``spec.out`` and answers for it.
        trusted: whether ``spec.teacher`` may name a Python function, which is then run. Never
            for a job that comes from somebody else.

    Raises:
        BadInput: the job cannot be done; nothing stays behind.
    """
    start = time.monotonic()
    folder = RunFolder(spec.out)
    check_inputs(spec, resume, own_folder, trusted)
    check_names(spec)
    _refuse_finished(spec, folder)
    new = not folder.root.exists()
    try:
        prepared = yield from prepare(spec, folder, trusted)
        yield from _work(prepared, folder, start)
    except BadInput:
        # candidates that were paid for stay, whatever is refused after them, such as a full disk
        if new and not holds_candidates(folder.ledger):
            folder.remove()
        raise


def _refuse_finished(spec: JobSpec, folder: RunFolder) -> None:
    """A finished run can go on only to more candidates."""
    if folder.result.exists():
        candidates = json.loads(folder.result.read_text())["candidates"]
        if candidates >= spec.budget:
            raise BadInput(
                "the run is finished",
                value=f"{folder.root}, {candidates} candidates",
                bound=f"a run that was stopped, or --budget above {candidates}",
                remedy=f"Read {folder.report}, raise --budget, or start a run in another folder.",
            )


def _work(prepared: Prepared, folder: RunFolder, start: float) -> Iterator[Event]:
    spec = prepared.spec
    layers = [layer.node for layer in prepared.space.layers]
    workers = spec.workers or max(1, cores() // spec.threads)
    with Ledger(folder.ledger, layers, prepared.moves.pool) as ledger:
        size = prepared.lesson.images.nbytes + prepared.lesson.teacher_logits.nbytes
        if prepared.lesson.teacher_features is not None:
            size += prepared.lesson.teacher_features.nbytes
        with cluster(spec.ray, workers, spec.threads, 2 * size):
            yield from _search(prepared, ledger, workers, start)
            winner = best(ledger.records)
            if winner is None:
                raise BadInput(
                    "every candidate failed to train",
                    value=ledger.records[-1].reason,
                    bound="at least one student",
                    remedy="Lower --learning-rate in a new run, or raise --max-kb.",
                )
            weights = yield from _train(prepared, winner, folder, workers * spec.threads)
        student = prepared.space.student(winner.actions).spec
        shipped = yield from ship(prepared, student, weights, folder, workers * spec.threads)
        record = record_of(prepared, ledger.records, winner, shipped, datetime.now(UTC))
        write_report(folder.report, record)
        seconds = time.monotonic() - start
        result = result_of(prepared, ledger.records, shipped, folder, seconds)
        folder.write_result(result)
    yield Finished(result)


def _search(prepared: Prepared, ledger: Ledger, workers: int, start: float) -> Iterator[Event]:
    spec = prepared.spec
    yield Stage("search", f"{spec.budget} candidates, {spec.sampler}, {workers} at a time")
    sampler = SAMPLERS[spec.sampler](
        prepared.space,
        spec.seed,
        agent_rate=spec.agent_rate,
        agent_units=spec.agent_units,
        baseline_decay=spec.baseline_decay,
    )
    evaluator = RayEvaluator(
        ray.put(prepared.classroom(proxy=True)), prepared.recipe(proxy=True), workers, spec.threads
    )
    out_of_time = stopwatch(spec.minutes, lambda: _seconds_to_finish(prepared, ledger), start)
    try:
        yield from search(
            prepared.space,
            sampler,
            evaluator,
            ledger,
            budget=spec.budget,
            batch=spec.batch,
            deadline=lambda: bool(best(ledger.records)) and out_of_time(),
        )
    finally:
        evaluator.close()


def _seconds_to_finish(prepared: Prepared, ledger: Ledger) -> float:
    """What the winner's full training will take, judged by its proxy training."""
    winner = best(ledger.records)
    if winner is None:
        return 0.0
    spec = prepared.spec
    proxy = spec.proxy_epochs * min(spec.proxy_rows, len(prepared.lesson.labels))
    whole = spec.final_epochs * len(prepared.lesson.labels)
    return winner.seconds * whole / proxy


def _train(prepared: Prepared, winner: Record, folder: RunFolder, threads: int) -> Telling[Weights]:
    """The winner's full training, or its result if an earlier process got that far."""
    path = folder.trained / f"{winner.key}.safetensors"
    epochs = prepared.spec.final_epochs
    if path.exists():
        yield Stage("train", "the student was trained before the run stopped")
        return dict(load_file(path))
    yield Stage("train", f"the winner ({winner.kb:,.0f} KB) for {epochs} epochs")
    for event in _training(prepared, winner, threads):
        if isinstance(event, Note):
            yield event
        elif isinstance(event, Trained):
            weights = {name: np.array(value) for name, value in event.weights.items()}
            write_bytes(path, save(weights))
            yield Note(f"student: {event.accuracy:.2%} on the validation part")
            return weights
        else:
            text = f"loss {event.loss:.3f}"
            if event.accuracy is not None:
                text += f", {event.accuracy:.2%} on validation"
            yield Progress(event.epoch, event.epochs, text)
    raise RuntimeError("the winner's training ended without a student")


def _training(
    prepared: Prepared, winner: Record, threads: int
) -> Iterator[EpochReport | Trained | Note]:
    """The training on all processors; on one if that kills the process.

    Kernels for several threads have had faults that end a process, and they depend on the shapes
    of the student: better a slow end to a search than none.
    """
    classroom = ray.put(prepared.classroom(proxy=False))
    recipe = prepared.recipe(proxy=False)
    try:
        yield from train_on_ray(classroom, recipe, winner.actions, threads)
    except WorkerCrashedError:
        if threads == 1:
            raise
        yield Note(f"training on {threads} threads crashed; it begins again on one", warning=True)
        yield from train_on_ray(classroom, recipe, winner.actions, 1)
