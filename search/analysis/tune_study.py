"""Thresholds and the agent's hyper-parameters by trial: Ray Tune and Optuna, each trial a search.

What is kept of a tuning is plain JSON and ledgers, so going on with one unpickles nothing, unlike
Ray's own experiments: finished trials are told to a fresh Optuna, unfinished ones are first in
its queue and find their ledgers.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import FloatDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from edge.errors import BadInput
from edge.files import write_bytes
from search.analysis.scored_trials import Run
from search.analysis.tune_trial import Plan, finished, run_trial, unfinished
from search.execution.cluster import check_own_gpus, cluster, room_for, widest
from search.execution.evaluation import Evaluation
from search.execution.training_context import TrainingContext
from search.execution.trial_cache import Evaluations
from search.job.events import Event, Note, Stage
from search.job.machine import cores
from search.job.run_folder import MAY_CHANGE, RunFolder
from search.job.spec import JobSpec
from search.ledger.columns import Columns, read_columns
from search.ledger.ledger import Ledger
from search.opening.opening import full_training, open_search, origins_of, reopened
from search.pipeline import evaluator_of
from search.preparation.prepare import check_names, prepare
from search.preparation.prepared import Prepared
from search.preparation.validate import check_inputs
from search.space.teacher_stats import write_facts
from search.space.thresholds import drop_of, reward_of

Value = TypeVar("Value")

#: hyper-parameters of samplers that are tuned beside the thresholds: from, to, on a log scale
AGENTS: dict[str, dict[str, tuple[float, float, bool]]] = {
    "reinforce": {"agent_rate": (1e-5, 1.0, True), "baseline_decay": (0.5, 0.99, False)}
}
#: fields of the job on which a candidate's accuracy does not depend
_BESIDE = (
    *("out", "budget", "minutes", "max_kb", "appeals", "sampler", "batch", "mode"),
    *("max_macs", "max_ms", "profile", "gamma", "l0", "warm", "proxy_gain", "probes"),
    *("storage", "tensorboard", "agent_rate", "agent_units", "baseline_decay", "reward", "alpha"),
    *("beta", "c0", "a0", "rho", "final_epochs", "finalists", "patience", "ema", "augment"),
    *("mix", "views", "sampling", "families", "ray", "workers", "worker_memory_mb", "memory_gb"),
    *("candidate_minutes", "teacher", "data", "halving", "protect"),
    *("portable", "licence"),
)


#: what a trial has nothing to do with
_LEFT_OUT: dict[str, Any] = {
    **dict.fromkeys(("minutes", "storage", "max_ms", "profile", "l0")),
    "gamma": 0.0,
    "warm": (),
}


def train_thresholds(
    spec: JobSpec,
    target: str,
    trials: int,
    known: Run | None,
    tell: Callable[[Event], None],
    trusted: bool = False,
) -> dict[str, Any]:
    """Search under many thresholds, and find those that serve the target best.

    Args:
        spec: the job: its limits are the target's, its budget is that of every trial. What the
            tuning writes goes to a folder beside ``spec.out``, see :func:`folder_of`.
        target: as in :data:`search.analysis.tune.TARGETS`.
        trials: searches, those that an earlier call has finished included.
        known: a run; what it has evaluated by the same recipe is not distilled again.
        tell: hears how it goes.
        trusted: whether the teacher may be a Python function.

    Returns:
        JSON values: the best trial, its options, and all trials.

    Raises:
        BadInput: the job cannot be done, or another tuning lies in the run's folder.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    folder = RunFolder(folder_of(spec))
    if spec.max_ms is not None or spec.gamma > 0:
        tell(Note("limits and rewards on latency are left out of the trials", warning=True))
    if spec.warm:
        tell(Note("trials begin without --warm: they share what they distil", warning=True))
    spec = spec.model_copy(update={"out": str(folder.root), **_LEFT_OUT})
    _check_same(folder, spec, target)
    check_inputs(spec, own_folder=False, trusted=trusted)
    check_names(spec)
    if spec.ray == "local":
        check_own_gpus(spec.gpus)

    def paid_for(error: BaseException) -> bool:
        """Searches stay, whatever is refused after them; and so does what only was stopped."""
        done = any((folder.root / "trials").glob("*"))
        return done or (folder.begun and not isinstance(error, BadInput))

    with folder.claimed(new=None, keep=paid_for):
        _check_same(folder, spec, target)  # another one may have begun meanwhile
        return _tune(spec, folder, target, trials, known, tell, trusted)


def _tune(
    spec: JobSpec,
    folder: RunFolder,
    target: str,
    trials: int,
    known: Run | None,
    tell: Callable[[Event], None],
    trusted: bool,
) -> dict[str, Any]:
    """:func:`train_thresholds`, once its folder is ours."""
    workers = spec.workers or max(1, cores() // spec.threads)
    prepared = _heard(prepare(spec, folder, trusted), tell)
    prepared = _settled(prepared, folder, known, tell)
    room = prepared.training_context(proxy=True)
    plan = _plan(prepared, folder, target)
    store = Evaluations(plan.folder / "evaluations" / plan.known)
    _take_over(known, store, plan)
    if folder.ledger.exists():
        _keep(read_columns(folder.ledger), store)  # plain students
    given = len(list(store.keys()))
    if len(finished(plan)) < trials:
        with cluster(spec.ray, spec.threads * workers, room.nbytes):
            slots = spec.workers or room_for(spec.threads, spec.gpus)
            tell(Stage("tune", f"{trials} searches of {spec.budget} candidates, {slots} at a time"))
            _fit(plan, room, trials, slots, tell)
    done = finished(plan)
    if len(done) < trials:
        raise KeyboardInterrupt
    return _result(plan, done, len(list(store.keys())) - given)


def _settled(
    prepared: Prepared, folder: RunFolder, known: Run | None, tell: Callable[[Event], None]
) -> Prepared:
    """Take over what plain students settle from an earlier call or the run, or train them."""
    spec, origins = prepared.spec, origins_of(prepared.space)
    if not folder.facts.exists() and known is not None and _same_recipe(known, spec, folder):
        write_facts(folder, known.facts)
    before = reopened(prepared, folder, origins)
    if before is not None:
        return before
    processors = spec.threads * (spec.workers or max(1, cores() // spec.threads))
    layers = [layer.node for layer in prepared.space.layers]
    shared = (
        prepared.training_context(proxy=True).nbytes + prepared.training_context(proxy=False).nbytes
    )
    with (
        Ledger(folder.ledger, layers, prepared.moves.pool) as ledger,
        cluster(spec.ray, processors, shared),
    ):
        workers = spec.workers or room_for(spec.threads, spec.gpus)
        opening = open_search(
            prepared,
            ledger,
            folder,
            lambda job: evaluator_of(job, workers),
            full_training(folder, widest(workers * spec.threads)),
        )
        return _heard(opening, tell)


def _same_recipe(run: Run, spec: JobSpec, folder: RunFolder) -> bool:
    return _recipe(run.spec, run.folder) == _recipe(spec, folder)


def _heard(steps: Generator[Event, None, Value], tell: Callable[[Event], None]) -> Value:
    while True:
        try:
            tell(next(steps))
        except StopIteration as end:
            value: Value = end.value
            return value


def folder_of(spec: JobSpec) -> Path:
    """Where a tuning of a job is kept."""
    out = Path(spec.out).resolve()
    return out.with_name(f"{out.name}-tune")


def _plan(prepared: Prepared, folder: RunFolder, target: str) -> Plan:
    spec, facts = prepared.spec, prepared.facts()
    write_facts(folder, facts)
    write_bytes(
        folder.root / "plan.json",
        json.dumps({"target": target, "budget": spec.budget}, indent=1).encode(),
    )
    place = folder.root.resolve()
    recipe, known = prepared.recipe(proxy=True), _recipe(spec, folder)
    return Plan(spec, target, facts, recipe, place, known, dict(prepared.space.reached))


def _recipe(spec: JobSpec, folder: RunFolder) -> str:
    """Equal where candidates learn the same from the same."""
    about = {n: v for n, v in spec.model_dump(mode="json").items() if n not in _BESIDE}
    # the drop decides how many rows the router withholds from distillation
    about["max_drop"] = drop_of(spec)
    inputs = {n: v for n, v in json.loads(folder.inputs.read_text()).items() if n != "profile"}
    text = json.dumps([about, inputs], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _check_same(folder: RunFolder, spec: JobSpec, target: str) -> None:
    """Refuse to go on with a tuning of something else."""
    if not folder.job.exists():
        return
    path = folder.root / "plan.json"
    before: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    now: dict[str, Any] = {"target": target, "budget": spec.budget}
    free = (*MAY_CHANGE, "out")
    before |= {n: v for n, v in folder.stored_job().model_dump().items() if n not in free}
    now |= {n: v for n, v in spec.model_dump().items() if n not in free}
    for name, value in now.items():
        if before.get(name, value) != value:
            raise BadInput(
                f"another tuning lies in {folder.root}",
                value=f"{name} {value}",
                bound=f"{before[name]}, as it began",
                remedy="Give the same values to go on with it, or move it away.",
            )


def _take_over(run: Run | None, store: Evaluations, plan: Plan) -> None:
    """Candidates of a run count as evaluated, if they learnt by the same recipe."""
    if run is not None and _recipe(run.spec, run.folder) == plan.known:
        _keep(run.columns, store)


def _keep(columns: Columns, store: Evaluations) -> None:
    """Candidates of a ledger count as evaluated."""
    known = set(store.keys())
    for i, key in enumerate(columns.key):
        if key in known or not (columns.whole[i] or columns.reason[i]):
            continue
        store.put(
            key,
            Evaluation(
                tuple(map(int, columns.actions[i])),
                accuracy=float(columns.accuracy[i]),
                seconds=float(columns.seconds[i]),
                reason=columns.reason[i],
                epochs=int(columns.epochs[i]),
                mode=columns.mode[i],
            ),
        )


def _fit(
    plan: Plan, room: TrainingContext, trials: int, slots: int, tell: Callable[[Event], None]
) -> None:
    """Run what is missing; an interrupt ends it early."""
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    spec, done = plan.spec, finished(plan)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, room=room, plan=plan),
        {"cpu": spec.threads, "gpu": spec.gpus},
    )
    with tempfile.TemporaryDirectory(prefix="understudy-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_searcher(plan, done),
                num_samples=trials - len(done),
                max_concurrent_trials=slots,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=2),
                callbacks=[_Teller(plan, trials, tell)],
                verbose=0,
            ),
        )
        # Ray prints its settings, whatever it is told; stdout is where a job's JSON goes
        with redirect_stdout(io.StringIO()):
            grid = tuner.fit()
    for error in grid.errors[:1]:
        raise RuntimeError(f"a trial failed again and again: {error}") from error


def _searcher(plan: Plan, done: list[dict[str, Any]]) -> OptunaSearch:
    """Optuna over the thresholds: it begins with the job's own, and knows what is finished."""
    ranges, first = space_of(plan)
    waiting = unfinished(plan)
    if not done and not waiting:
        waiting = [first]
    searcher = OptunaSearch(
        {name: FloatDistribution(low, high, log=log) for name, (low, high, log) in ranges.items()},
        metric="merit",
        mode="max",
        points_to_evaluate=waiting,
        seed=plan.spec.seed + len(done),
    )
    for trial in done:
        searcher.add_evaluated_point(trial["config"], trial["merit"])
    return searcher


def space_of(plan: Plan) -> tuple[dict[str, tuple[float, float, bool]], dict[str, float]]:
    """What is tuned, name → (from, to, whether on a log scale); and the job's own values."""
    spec, facts, drop = plan.spec, plan.facts, drop_of(plan.spec)
    reward = reward_of(spec, facts.kb, facts.accuracy).settings
    own = spec.model_dump() | {name: reward[name] for name in ("alpha", "beta")}
    ranges: dict[str, tuple[float, float, bool]] = {
        "alpha": (1.0, 100.0, True),
        "beta": (1.0, 100.0, True),
        **AGENTS.get(spec.sampler, {}),
    }
    if spec.reward == "threshold":  # under Eq. 7 C0 and A0 do nothing to the order
        ranges["c0_kb"] = (facts.kb / 500, facts.kb, True)
        ranges["a0"] = (max(0.0, facts.accuracy - max(0.1, 5 * drop)), 1.0, False)
        own |= {"c0_kb": max(1 - reward["c0"], 1 / 500) * facts.kb, "a0": reward["a0"]}
    first = {}
    for name, (low, high, log) in ranges.items():
        # a range always holds what the job has
        first[name] = max(own[name], 1e-3) if log and name != "agent_rate" else own[name]
        ranges[name] = min(low, first[name]), max(high, first[name]), log
    return ranges, first


class _Teller(tune.Callback):
    """Says how every trial ended."""

    def __init__(self, plan: Plan, trials: int, tell: Callable[[Event], None]) -> None:
        self.plan, self.trials, self.tell = plan, trials, tell

    def __getstate__(self) -> dict[str, Any]:
        """Ray writes its experiment down, in a folder that is thrown away; nobody listens there."""
        return {"plan": self.plan, "trials": self.trials, "tell": print}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        count = len(finished(self.plan))
        said = in_words(self.plan, float(trial.last_result["merit"]))
        self.tell(Note(f"search {count}/{self.trials}: {said}"))


def in_words(plan: Plan, merit: float) -> str:
    """A merit as a user reads it."""
    if plan.target == "hypervolume":
        return f"hypervolume {merit:.4f}"
    if plan.target == "accurate":
        return f"expected {merit:.2%} within {plan.spec.max_kb:g} KB"
    if -merit > plan.facts.kb:
        return f"{(-merit / plan.facts.kb - 1) * 100:.2f} points short of the expected drop"
    return f"{-merit:,.1f} KB within the expected drop"


def _result(plan: Plan, done: list[dict[str, Any]], distilled: int) -> dict[str, Any]:
    best = max(done, key=lambda trial: float(trial["merit"]))
    job = plan.job(best["config"])
    names = ["alpha", "beta", *AGENTS.get(plan.spec.sampler, {})]
    names += ["c0", "a0"] if plan.spec.reward == "threshold" else []
    options = " ".join(f"--{n.replace('_', '-')} {getattr(job, n):.6g}" for n in sorted(names))
    _, first = space_of(plan)
    own = [trial for trial in done if trial["config"] == first]
    return {
        "folder": plan.spec.out,
        "target": plan.target,
        "best": best | {"text": in_words(plan, best["merit"])},
        "own": None if not own else own[0] | {"text": in_words(plan, own[0]["merit"])},
        "options": options,
        "trials": done,
        "candidates": sum(int(trial["candidates"]) for trial in done),
        "distilled": distilled,
    }
