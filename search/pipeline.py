"""The main job: teacher → students → the best one → router → bundle and report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TypeVar

import ray

from edge.errors import BadInput
from search.execution.cluster import check_nodes, check_own_gpus, cluster, room_for, widest
from search.execution.evaluator import RayEvaluator
from search.execution.timeouts import TrialTimeout
from search.execution.training_context import TrainableFactory, TrainingContext
from search.execution.worker_pool import Resources
from search.finalists.finalists import accuracies_of, train_finalists
from search.finalists.select import choose
from search.job.claim import Claim
from search.job.event_log import written
from search.job.events import Event, Finished, Note, Stage
from search.job.machine import cores
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.ledger.ledger import Ledger
from search.opening.deadline import Deadline, FullTrainings, proxies_of_finalists
from search.opening.opening import full_training, open_search, openers, origins_of, reopened
from search.packing import nothing_lost, packed, reported
from search.preparation.latency import Measuring, measuring
from search.preparation.prepare import check_names, prepare
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.preparation.validate import check_inputs
from search.report.build_record import record_of
from search.report.result import result_of, speeds_of
from search.report.tensorboard import logged
from search.samplers import SAMPLERS, Sampler
from search.samplers.single_threaded import SingleThreaded
from search.scheduling.evidence import begun_with, warm_up
from search.scheduling.halving import Halving
from search.scheduling.loop import best, search
from search.scheduling.probe import probe_of
from search.scheduling.search_checkpoint import SearchCheckpoint
from search.space.limits import with_room
from search.space.space import Space
from teachers.data.datasets import Dataset

T = TypeVar("T")


def run(
    spec: JobSpec,
    *,
    resume: bool = False,
    again: bool = False,
    beside: bool = False,
    claim: Claim | None = None,
    trusted: bool = False,
) -> Iterator[Event]:
    """Do a job and tell of it; the last event is :class:`search.job.events.Finished`.

    Closing the iterator, or an interrupt inside it, stops Ray and leaves a run that ``resume``
    goes on with: no finished candidate is lost.

    Args:
        spec: the job.
        resume: go on with the run in ``spec.out``.
        again: of that run, which is finished, do once more what comes after the last training.
        beside: and leave the bundle, the report and the job as they are: see
            :meth:`search.job.run_folder.RunFolder.beside`.
        claim: of ``spec.out``, where the caller holds it and answers for it.
        trusted: whether ``spec.teacher`` may name a Python function, which is then run. Never
            for a job that comes from somebody else.

    Raises:
        BadInput: the job cannot be done; nothing that was made here stays behind, unless there are
            candidates, and nothing else is touched.
    """
    start = time.monotonic()
    spec = spec if again else with_room(spec)
    folder = RunFolder(spec.out)
    check_inputs(spec, resume, claim is None, trusted)
    check_names(spec)
    if not again:
        _refuse_finished(spec, folder)
    with folder.claimed(spec, new=not resume) if claim is None else nullcontext(), _joined(spec):
        if beside:
            folder = folder.beside()
        yield from written(_run(spec, folder, start, again, trusted), folder.events)


def _run(
    spec: JobSpec, folder: RunFolder, start: float, again: bool, trusted: bool
) -> Generator[Event, None, None]:
    """A job in a folder that is ours."""
    warned: dict[str, Note] = {}
    preparing = prepare(spec, folder, trusted, lambda data: _reach(spec, data))
    prepared = yield from kept(preparing, warned)
    with nothing_lost(folder, again):
        yield from kept(_work(prepared, folder, start, again, warned), warned)


def kept(telling: Telling[T], warned: dict[str, Note]) -> Telling[T]:
    """The same events; warnings that have a name are kept in ``warned``, the last of a name."""
    try:
        while True:
            try:
                event = next(telling)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(event, Note) and event.name:
                warned[event.name] = event
            yield event
    finally:
        telling.close()


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


@contextmanager
def _joined(spec: JobSpec) -> Iterator[None]:
    """A cluster is joined, and its nodes are looked at, before the teacher answers for minutes;
    one of our own starts when its size is known."""
    if spec.ray == "local":
        check_own_gpus(spec.gpus)
        yield
        return
    with cluster(spec.ray, 0):
        room_for(spec.threads, spec.gpus)
        check_nodes()
        yield


def _reach(spec: JobSpec, data: Dataset) -> None:
    """See that every node has the images, where they are in a file."""
    if spec.ray != "local" and data.file is not None:
        check_nodes(data.file.missing)


def _work(
    prepared: Prepared, folder: RunFolder, start: float, again: bool, warned: Mapping[str, Note]
) -> Generator[Event, None, None]:
    spec = prepared.spec
    layers = [layer.node for layer in prepared.space.layers]
    processors = spec.threads * (spec.workers or max(1, cores() // spec.threads))
    shared = (
        prepared.training_context(proxy=True).nbytes + prepared.training_context(proxy=False).nbytes
    )
    origins = origins_of(prepared.space)
    deadline = Deadline(spec.minutes, start)
    together = max(1, cores() // spec.threads)
    settled = reopened(prepared, folder, origins)
    with Ledger(folder.ledger, layers, prepared.moves.pool, spec.storage) as ledger:
        # nothing is left to be trained where a run is packed again
        with nullcontext() if again else cluster(spec.ray, processors, shared):
            workers = processors // spec.threads
            if not again:
                workers = spec.workers or room_for(spec.threads, spec.gpus)
            # candidates of another run, ranked anew, are all there is to choose from
            enough = folder.origin.exists() and len(ledger.records) >= spec.budget
            threads = processors if again else widest(workers * spec.threads)
            if settled is None and not (again or enough):
                settled = yield from open_search(
                    prepared,
                    ledger,
                    folder,
                    lambda job: evaluator_of(job, workers),
                    full_training(folder, threads),
                    lambda job, proxies: deadline.allows(
                        FullTrainings(job.plan, together).seconds(proxies)
                    ),
                )
            prepared = settled or prepared
            trainings = FullTrainings(prepared.plan, together)
            if not (again or enough):
                told = _search(
                    prepared,
                    ledger,
                    folder,
                    workers,
                    lambda: (
                        bool(best(ledger.records))
                        and not deadline.allows(
                            trainings.seconds(
                                proxies_of_finalists(ledger.records, prepared, origins)
                            )
                        )
                    ),
                )
                yield from logged(told, folder.tensorboard) if spec.tensorboard else told
            finalists = yield from choose(
                prepared.space,
                ledger.records,
                spec.finalists,
                _measure(prepared, folder),
                origins,
            )
            if not (again or enough):
                there = accuracies_of(folder, [record.key for record in finalists])
                chosen = trainings.in_time(finalists, there, deadline)
                if len(chosen) < len(finalists):
                    yield Note(
                        f"--minutes {spec.minutes:g} are short: {len(chosen)} of {len(finalists)} "
                        "finalists are trained in full",
                        warning=True,
                    )
                finalists = chosen
            last = yield from train_finalists(prepared, finalists, folder, threads, origins)
            prepared.space.reached |= {record.key: reached for record, reached in last.ranked}
        threads = min(cores(), workers * spec.threads)
        shipped = yield from packed(
            prepared, last.winner.actions, last.weights, folder, threads, warned
        )
        speeds = speeds_of(prepared, shipped, folder)
        now, asked = datetime.now(UTC), folder.asked_by()
        earlier = begun_with(folder, prepared.space)
        seconds = time.monotonic() - start
        given = prepared, ledger.records, last, shipped, speeds
        result = result_of(*given, folder, seconds, list(warned.values()))
        yield from reported(folder, record_of(*given, now, asked, earlier, result))
        if "no-report" in warned:
            result = result_of(*given, folder, seconds, list(warned.values()))
        folder.write_result(result)
    yield Finished(result)


def _measure(prepared: Prepared, folder: RunFolder) -> Measuring | None:
    """Times candidates, where this is the machine that the limit is about."""
    latency = prepared.latency
    if latency is None or not latency.here:
        return None
    return measuring(prepared.space, folder, latency.profile.threads)


def _search(
    prepared: Prepared,
    ledger: Ledger,
    folder: RunFolder,
    workers: int,
    out_of_time: Callable[[], bool],
) -> Generator[Event, None, None]:
    spec = prepared.spec
    evaluator = evaluator_of(prepared, workers)
    try:
        yield Stage("search", f"{spec.budget} candidates, {spec.sampler}, {workers} at a time")
        sampler = sampler_of(spec, prepared.space, prepared.training_context(proxy=True))
        yield from warm_up(sampler, prepared.space, spec, prepared.teacher.fingerprint, folder)
        given = openers(ledger.records, folder)
        sampler.begin_with(given)
        yield from search(
            prepared.space,
            sampler,
            evaluator,
            ledger,
            budget=spec.budget,
            batch=spec.batch,
            halving=Halving(prepared.plan.proxy_epochs, spec.halving),
            mode=spec.mode,
            first=len(given),
            deadline=out_of_time,
            memory=SearchCheckpoint(folder.memory, folder.digest_of(spec)),
        )
    finally:
        evaluator.close()


def evaluator_of(prepared: Prepared, workers: int) -> RayEvaluator:
    """Trains proxies on the cluster that we are connected to."""
    spec = prepared.spec
    return RayEvaluator(
        ray.put(prepared.training_context(proxy=True)),
        TrainableFactory(prepared.recipe(proxy=True), spec.device),
        workers,
        Resources(spec.threads, spec.gpus, spec.worker_memory_mb),
        TrialTimeout(spec.candidate_minutes),
    )


def sampler_of(spec: JobSpec, space: Space, room: TrainingContext) -> Sampler:
    """The sampler that a job names, fresh; it may probe what would be trained in ``room``."""
    space.probe = probe_of(room) if spec.probes else None
    sampler = SAMPLERS[spec.sampler](
        space,
        spec.seed,
        agent_rate=spec.agent_rate,
        agent_units=spec.agent_units,
        baseline_decay=spec.baseline_decay,
        probes=spec.probes,
    )
    return SingleThreaded(sampler)
