"""One data set of the comparison: its searches and its trainings.

Everything that a job would prepare, by the job's own parts: the same split, the same teacher's
answers, the same recipe for candidates and for finalists. Only a part of the rows is learnt from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.making import where
from benchmarks.rivals import searching
from benchmarks.rivals.searching import settled
from benchmarks.rivals.sizing import TOLERANCE, Sized, pruned, scaled, uniform, widened
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.surgery import Inheritance
from search.execution.worker import reason_of
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Asker
from search.preparation.validate import moves_of
from search.space.learning_curve import Expectation
from search.space.space import Space
from search.space.thresholds import drop_of, limits_of, reward_of
from search.space.training_plan import training_plan
from teachers.data.datasets import load_dataset
from teachers.data.splits import hold_out, parse_unseen, withhold_router
from teachers.distillation.distill import Diverged, distil
from teachers.distillation.metrics import accuracy
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))
OURS, AS_FOUND = "searched", "as-found"

#: options that a plan has words of its own for
OWN = ("teacher", "data", "out", "seed", "max_kb", "alpha", "budget", "final_epochs")
#: those that a search depends on, and a training does not
OF_SEARCH = ("batch", "probes", "proxy_rows", "proxy_epochs", "proxy_gain", "halving", "pool")
#: said elsewhere: the sampler with its budget, and the machine in a column of its own
ELSEWHERE = ("sampler", "gpus")

Row = dict[str, Any]


#: a job's recipe, pool and reward when the recorded students were searched and trained
AS_RECORDED = {
    "target": "balanced",
    "pool": (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    "normalise": "none",
    "proxy_rows": 3000,
    "proxy_epochs": 3,
    "batch_size": 128,
    "learning_rate": 5e-3,
    "patience": 0,
}


@dataclass(frozen=True)
class Plan:
    """What every training of a study has in common.

    Attributes:
        rows: of the distillation part that are learnt from.
        epochs: of every student.
        budget: candidates of a search.
        out: folder.
        further: options of the job and their values, beyond the ones above.
    """

    rows: int
    epochs: int
    budget: int
    out: Path
    further: tuple[tuple[str, Any], ...] = ()

    def job(self, name: str, max_kb: float | None = None, seed: int = 0) -> JobSpec:
        """The job that a search is part of: the most accurate student of at most ``max_kb``."""
        return make_spec(
            {
                "teacher": str(DATA / "teachers" / f"resnet18_{name}.safetensors"),
                "data": str(DATA / "data" / name),
                "out": str(self.out / name),
                "seed": seed,
                "max_kb": max_kb,
                # size is what the limit says, so smaller is no merit
                "alpha": 0.0,
                "budget": self.budget,
                "final_epochs": self.epochs,
                # as they were when the first of these students was trained
                **AS_RECORDED,
                **dict(self.further),
            }
        )

    def setting(self, way: str) -> str:
        """What a training of this way depends on, beside data, size and seed."""
        text = f"{self.rows} rows x {self.epochs} epochs"
        searched = way in (OURS, AS_FOUND)
        for name, value in sorted(self.further):
            if name not in ELSEWHERE and (searched or name not in OF_SEARCH):
                text += f", {name} {value}"
        if searched:
            text += f", {self.budget} candidates of {self.job('any').sampler}"
        return text


class Study:
    """A data set with its teacher, and what the teacher says of the rows that are learnt from."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name, self.plan = name, plan
        spec = plan.job(name)
        described = understand(load_teacher(spec.teacher))
        self.teacher, self.network = described.teacher, described.network
        self.kb = cost(self.network).kb
        self.inheritance = Inheritance.of(self.network, self.teacher.module.state_dict())
        look = self.teacher.manifest.preprocess
        self.data = load_dataset(spec.data, look, self.teacher.manifest.class_names)
        labels = self.data.labels
        unseen = parse_unseen(self.teacher.manifest.unseen, self.data.train_rows)
        held = hold_out(labels, self.data.train_rows, unseen=unseen, seed=0)
        tap = anatomy(self.network).layers[-1].node
        cache = plan.out / name / "cache"
        asker = Asker(self.teacher, self.data, cache, tap, gpu=spec.gpus > 0)
        said = settled(asker.answers("validation", held.validation))
        self.accuracy = accuracy(said.logits[0], labels[held.validation])
        error_rate = 1 - self.accuracy + drop_of(spec) / 2
        self.parts = withhold_router(held, labels, error_rate=error_rate, seed=0)
        test = settled(asker.answers("test", self.parts.test))
        self.test_accuracy = accuracy(test.logits[0], labels[self.parts.test])
        rows = self.parts.distillation
        rows = rows[np.sort(np.random.default_rng([0, 2]).permutation(len(rows))[: plan.rows])]
        told = settled(asker.answers("distillation", rows, precision=spec.precision))
        self.distillation_set = DistillationSet(
            self.data.images, rows, labels[rows], told.logits, None, look
        )

    def prepared(self, limit: float, seed: int) -> Prepared:
        """A job of this study, as :func:`search.preparation.prepare.prepare` would give it."""
        spec = self.plan.job(self.name, limit, seed)
        moves, reward = moves_of(spec), reward_of(spec, self.kb, self.accuracy)
        plan = training_plan(spec, len(self.distillation_set), self.network.classes)
        expectation = Expectation(
            teacher=self.accuracy,
            images=plan.proxy_rows,
            full=plan.final_epochs * len(self.distillation_set),
            gain=spec.proxy_gain or 0.0,  # where it is None, pilots will tell
            rows=len(self.parts.validation),
        )
        limits = limits_of(spec, self.accuracy)
        space = Space(self.network, moves, reward, limits, None, expectation)
        tap = space.layers[-1].node
        return Prepared(
            spec, self.teacher, self.network, self.data, self.parts, moves, reward, space, tap,
            self.distillation_set, None, self.accuracy, plan,
        )  # fmt: skip

    def found(self, ratio: float, seed: int) -> tuple[float, ...]:
        """Coefficients of what a search chooses by validation alone; searches if nobody has yet."""
        job = self.prepared(self.kb / ratio, seed)
        out = self.plan.out / self.name
        # budgets and places of a run may change, but another budget finds another student
        asked = f"{job.spec.budget}-of-{self.plan.rows}-{RunFolder(out).digest_of(job.spec)[:8]}"
        folder = RunFolder(out / f"search-{job.spec.sampler}-{ratio:g}x-{seed}-{asked}")
        return tuple(job.moves.pool[action] for action in searching.found(job, folder))

    def train(self, way: str, ratio: float, seed: int) -> list[Row]:
        """Make and train a student: one row, or two where the search ended well below the limit."""
        limit = self.kb / ratio
        if way != OURS:
            return [self._train(RIVALS[way](self, limit, seed), way, ratio, seed)]
        shape = self.found(ratio, seed)
        wide = widened(self.inheritance, shape, limit, seed)
        rows = [self._train(wide, OURS, ratio, seed)]
        found = scaled(self.network, shape, 1.0)
        if cost(found.spec).kb < (1 - TOLERANCE) * limit:
            module = self.inheritance.student(found, seed)
            rows.append(self._train(Sized(found.spec, module, 1.0), AS_FOUND, ratio, seed))
        return rows

    def _train(self, student: Sized, way: str, ratio: float, seed: int) -> Row:
        """The job's full training; the best epoch on validation counts, and is tested once."""
        start = time.perf_counter()
        limit = self.kb / ratio
        job = self.prepared(limit, seed)
        device = job.spec.device
        validation_set, module = (
            job.training_context(proxy=False).validation_set,
            student.module.to(device),
        )
        validation = test = 0.0
        reason = ""
        try:
            recipe = job.recipe(proxy=False)
            validation = distil(
                module,
                None,
                self.distillation_set,
                recipe,
                seed=seed,
                validation_set=validation_set,
                device=device,
            ).accuracy
            rows, look = self.parts.test, self.teacher.manifest.preprocess
            said = predict(module, self.data.images, look, rows=rows, device=device)
            test = accuracy(said.logits, self.data.labels[rows])
        except Diverged as error:
            reason = reason_of(error)
        spent = student.cost
        return {
            "data": self.name, "ratio": ratio, "seed": seed, "way": way,
            "setting": self.plan.setting(way), "limit_kb": limit, "kb": spent.kb,
            "macs": spent.macs, "factor": round(student.factor, 5), "validation": validation,
            "test": test, "reason": reason, "teacher_test": self.test_accuracy,
            "seconds": round(time.perf_counter() - start, 1), "where": where(device),
        }  # fmt: skip


#: other ways, and how each makes a student of at most so many KB
RIVALS: dict[str, Callable[[Study, float, int], Sized]] = {
    "uniform": lambda study, limit, seed: uniform(study.inheritance, limit, seed),
    "torch-pruning": lambda study, limit, seed: pruned(
        study.network, study.teacher.module, limit, everywhere=False
    ),
    "torch-pruning-global": lambda study, limit, seed: pruned(
        study.network, study.teacher.module, limit, everywhere=True
    ),
}
WAYS = (OURS, *RIVALS)
