"""One trial of a tuning: a search under some thresholds, judged by the user's own objective."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.files import write_bytes
from envs.graph.check import parse_netspec
from search.execution.training_context import TrainableFactory, TrainingContext
from search.execution.trial_cache import Evaluations, InProcess
from search.execution.worker import Worker
from search.job.events import CandidateDone
from search.job.spec import JobSpec, make_spec
from search.ledger.ledger import Ledger, Record
from search.opening.pilots import pilots_of
from search.pipeline import sampler_of
from search.scheduling.halving import Halving
from search.scheduling.loop import search
from search.space.pareto import hypervolume
from search.space.space import Space
from search.space.teacher_stats import Facts
from search.space.thresholds import drop_of, limits_of, reward_of
from teachers.distillation.distill import Recipe


@dataclass(frozen=True)
class Plan:
    """What all trials have in common; it travels to the workers.

    Attributes:
        spec: the job; its limits are what the target is about.
        target: as in :data:`search.analysis.tune.TARGETS`.
        facts: of the teacher.
        recipe: of every candidate.
        folder: of the tuning; its trials and what they share lie there.
        known: name of the folder of evaluations.
        reached: key of a plain student → its accuracy after the full training, which it had.
    """

    spec: JobSpec
    target: str
    facts: Facts
    recipe: Recipe
    folder: Path
    known: str
    reached: Mapping[str, float]

    def trial(self, config: Mapping[str, float]) -> Path:
        """The folder of a trial: the same for the same values, so that one can be gone on with."""
        text = json.dumps(dict(sorted(config.items())))
        return self.folder / "trials" / sha256(text.encode()).hexdigest()[:16]

    def job(self, config: Mapping[str, float]) -> JobSpec:
        """The job of a trial. ``c0_kb`` is C0 as the size of a student that just meets it."""
        values = dict(config)
        if "c0_kb" in values:
            values["c0"] = max(0.0, 1 - values.pop("c0_kb") / self.facts.kb)
        return make_spec(self.spec.model_dump() | values)


def merit(records: Sequence[Record], plan: Plan) -> float:
    """How well candidates serve the target; more is better, and always finite.

    It knows sizes and expected accuracies alone, never the reward: that is what is tuned.
    """
    facts, spec = plan.facts, plan.spec
    expectation = facts.expectation(spec.proxy_gain)
    # (KB, accuracy) of those whose proxy came to its end
    whole = [
        (r.kb, plan.reached.get(r.key, expectation(r.accuracy, r.epochs)))
        for r in records
        if r.whole
    ]
    if plan.target == "hypervolume":
        sizes, accuracies = [kb for kb, _ in whole], [accuracy for _, accuracy in whole]
        covered = hypervolume(sizes, accuracies, facts.kb, facts.chance)
        return float(covered[-1]) if whole else 0.0
    if plan.target == "accurate":
        limit = spec.max_kb or facts.kb
        return max((accuracy for kb, accuracy in whole if kb <= limit), default=0.0)
    if not whole:
        return -2 * facts.kb  # as if all of the accuracy were lacking
    best = max(accuracy for _, accuracy in whole)
    lacking = facts.accuracy - best - drop_of(spec)
    if lacking > 1e-9:
        return -facts.kb * (1 + lacking)  # worse than any that keeps the drop, the less the nearer
    kept = facts.accuracy - drop_of(spec) - 1e-9
    return -min(kb for kb, accuracy in whole if accuracy >= kept)


def run_trial(config: dict[str, float], room: TrainingContext, plan: Plan) -> None:
    """A whole search, plain students first; Ray Tune is told the merit after every candidate.

    Its ledger is its own, so a trial that was stopped goes on; what any trial has distilled is
    known to all.
    """
    from ray import tune

    spec, folder = plan.job(config), plan.trial(config)
    write_bytes(folder / "config.json", json.dumps(config).encode())
    space = _space(spec, room, plan.facts)
    space.reached |= plan.reached
    given = list(pilots_of(space, spec.budget).values())
    sampler = sampler_of(spec, space, room)
    sampler.begin_with(given)
    worker = Worker(TrainableFactory(plan.recipe, spec.device, spec.threads))
    worker.enter(room)
    known = Evaluations(plan.folder / "evaluations" / plan.known)
    layers = [layer.node for layer in space.layers]
    with Ledger(folder / "ledger.journal", layers, room.moves.pool) as ledger:
        told = search(
            space,
            sampler,
            InProcess(space, worker, known),
            ledger,
            budget=spec.budget,
            batch=spec.batch,
            halving=Halving(plan.recipe.epochs),
            first=len(given),
        )
        for event in told:
            if isinstance(event, CandidateDone):
                now = merit(ledger.records, plan)
                tune.report({"merit": now, "candidates": event.number})
        records = ledger.records
        done = {"config": config, "merit": merit(records, plan), "candidates": len(records)}
    write_bytes(folder / "done.json", json.dumps(done).encode())


def _space(spec: JobSpec, room: TrainingContext, facts: Facts) -> Space:
    """Of a trial's candidates, as a search under its job has it."""
    return Space(
        parse_netspec(room.teacher),
        room.moves,
        reward_of(spec, facts.kb, facts.accuracy),
        limits_of(spec, facts.accuracy),
        expectation=facts.expectation(spec.proxy_gain),
    )


def finished(plan: Plan) -> list[dict[str, Any]]:
    """Trials that came to their end: config, merit, candidates."""
    paths = sorted((plan.folder / "trials").glob("*/done.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def unfinished(plan: Plan) -> list[dict[str, float]]:
    """Values of the trials that were stopped."""
    paths = sorted((plan.folder / "trials").glob("*/config.json"))
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in paths
        if not path.with_name("done.json").exists()
    ]
