"""The candidates of a run in the order that a reward puts them in; nothing is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput, check_member
from envs.reward import REWARDS, Reward
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.ledger.columns import Columns
from search.ledger.reader import columns_of
from search.space.limits import MEASURES
from search.space.teacher_stats import Facts, read_facts
from search.space.thresholds import (
    beta_of,
    decided_by_accuracy,
    judged,
    limits_of,
    reward_of,
    rho_of,
)
from teachers.distillation.checkpoint import Checkpoint


@dataclass(frozen=True)
class Run:
    """A run as readers need it.

    Attributes:
        folder, spec: where, and what was asked.
        facts: of its teacher.
        columns: its candidates.
        measured: key of a candidate → its accuracy after the full training, where it had one.
        cross_entropies: likewise, on the same rows, where it is known.
    """

    folder: RunFolder
    spec: JobSpec
    facts: Facts
    columns: Columns
    measured: Mapping[str, float] = field(default_factory=dict)
    cross_entropies: Mapping[str, float] = field(default_factory=dict)


def read_run(folder: str) -> Run:
    """A run, finished or not, from its folder; one that is going on is not disturbed.

    Raises:
        BadInput: there is no run, or no candidate in it yet.
    """
    found = RunFolder(folder)
    spec = found.stored_job()
    facts = read_facts(found)
    return Run(found, spec, facts, columns_of(found, spec.storage, facts), *_measured(found))


def _measured(folder: RunFolder) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracies and cross entropies of a run that is finished or not: plain students are trained
    in full before the search."""
    accuracies: dict[str, float] = {}
    entropies: dict[str, float] = {}
    for path in folder.trained.glob("*.safetensors"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            meta = Checkpoint.meta_of(path)
            accuracies[path.stem] = float(meta["accuracy"])
            entropies[path.stem] = float(meta["cross_entropy"])
    with suppress(OSError, ValueError, TypeError, KeyError):  # not finished, or by an earlier one
        finalists = json.loads(folder.result.read_text(encoding="utf-8"))["finalists"]
        accuracies |= {row["key"]: float(row["accuracy"]) for row in finalists}
    return accuracies, entropies


@dataclass(frozen=True)
class Standings:
    """The candidates of a run under one reward and one set of limits.

    A candidate's number counts from 1 in the order in which candidates finished. Its reward is, as
    in the search, of the accuracy that its full training is expected to reach. What a ledger does
    not know is left out: milliseconds, so that neither a limit on them nor the latency factor
    counts.
    """

    run: Run
    spec: JobSpec

    @cached_property
    def reward(self) -> Reward:
        """With the thresholds that follow from the limits, and without the latency factor."""
        untimed: dict[str, Any] = {"gamma": 0.0, "l0": None}
        if self.spec.target == "fastest":
            held = {"rho": rho_of(self.spec), "beta": beta_of(self.spec)}
            untimed |= held | {"target": "balanced"}
        spec = self.spec.model_copy(update=untimed)
        return reward_of(spec, self.run.facts.kb, self.run.facts.accuracy)

    @property
    def reward_rises(self) -> bool:
        """Whether more accuracy, or less size, always earns more."""
        return self.spec.reward != "threshold" or rho_of(self.spec) > 0

    @cached_property
    def compression(self) -> NDArray[np.float64]:
        """C of every candidate (Zhang, Eq. 5)."""
        return 1 - self.run.columns.bytes / self.run.facts.bytes

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """Accuracy of every candidate after the full training, reached where there was one; 0
        where it failed.

        Of no candidate more is expected than the best full training of the run reached.
        """
        columns = self.run.columns
        found = self.run.facts.expectation(self.spec.proxy_gain).many(
            columns.accuracy, columns.epochs
        )
        if not np.isnan(self.reached).all():
            best = np.nanmax(self.reached)
            found = np.where(np.isnan(self.reached), np.minimum(found, best), self.reached)
        return np.where(columns.failed, 0.0, found)

    @cached_property
    def reached(self) -> NDArray[np.float64]:
        """Accuracy of every candidate that was trained in full; nan of the others."""
        return np.array([self.run.measured.get(key, math.nan) for key in self.run.columns.key])

    @property
    def by_accuracy(self) -> bool:
        """Whether candidates are ordered by accuracy alone."""
        return decided_by_accuracy(self.spec.target, self.reward)

    @cached_property
    def objective(self) -> NDArray[np.float64]:
        """What candidates are ordered by, as the last round of a search is: under the target
        accurate their accuracy, of equals those that reached it and then by reward; else the
        reward."""
        if not self.by_accuracy:
            return self.rewards
        known = ~np.isnan(self.reached)
        found = self.expected + 1e-9 * np.minimum(self.rewards, 1.0)
        if not known.any():
            return found
        lost = np.array([self.run.cross_entropies.get(key, 0.0) for key in self.run.columns.key])
        lost[known] -= lost[known].min()
        found[known] += judged(0.0, lost[known], self.run.facts.rows)
        # who was not trained in full is expected to be no better than the best who was
        found[~known] = np.minimum(found[~known], found[known].max()) - 1e-7
        return found

    @cached_property
    def rewards(self) -> NDArray[np.float64]:
        """R of every candidate; 0 where it failed."""
        found = self.reward.many(self.expected, self.compression)
        return np.where(self.run.columns.failed, 0.0, found)

    @cached_property
    def limits(self) -> dict[str, float]:
        """The limits on cost that a ledger can be held against, by field of the job."""
        set_ = limits_of(self.spec, self.run.facts.accuracy).on_cost
        return {name: limit for name, limit in set_.items() if name in self.figures}

    @cached_property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """What the candidates measure, by limit."""
        columns = self.run.columns
        return {"max_kb": columns.kb, "max_macs": columns.macs.astype(np.float64)}

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """Which candidates may win: trained to the end, and within the limits on cost."""
        kept = [self.figures[name] <= limit for name, limit in self.limits.items()]
        found: NDArray[np.bool_] = np.logical_and.reduce([self.run.columns.whole, *kept])
        return found

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Indices of those who may win, the best first; of equals the earlier one."""
        may = np.flatnonzero(self.eligible)
        found: NDArray[np.int64] = may[np.argsort(-self.objective[may], kind="stable")]
        return found

    @property
    def winner(self) -> int:
        """Index of the best.

        Raises:
            BadInput: nobody may win; names the smallest candidate there is, or the one with the
                fewest multiply-accumulates.
        """
        if len(self.order):
            return int(self.order[0])
        columns = self.run.columns
        if not columns.whole.any():
            raise BadInput(
                "no candidate was trained to the end",
                value=f"{len(columns)} that failed or were stopped early",
                bound="at least one",
                remedy="Go on with the run: `understudy search --resume`.",
            )
        for name, limit in self.limits.items():
            about, least = MEASURES[name], float(self.figures[name][columns.whole].min())
            if least > limit:
                raise BadInput(
                    f"no candidate of the run can {about.wish}",
                    value=f"{about.option} {about.text(limit)}",
                    # rounded up: what is named must itself be accepted
                    bound=f"{about.text(about.up(least))} {about.unit} or more",
                    remedy=f"Raise {about.option}, or search again with this one.",
                )
        raise BadInput(
            "no candidate of the run keeps all limits on cost at once",
            value=limits_of(self.spec, self.run.facts.accuracy).options(),
            bound="at least one that does",
            remedy="Raise one of them, or search again with them.",
        )

    def row(self, index: int) -> dict[str, Any]:
        """A candidate as JSON values.

        ``accuracy`` is that of its proxy; ``expected``, and with it ``drop``, is what the full
        training should reach; ``measured`` is what it did reach, None where there was none.
        """
        columns, facts = self.run.columns, self.run.facts
        return {
            "number": index + 1,
            "key": columns.key[index],
            "kb": float(columns.kb[index]),
            "compression": float(self.compression[index]),
            "macs": int(columns.macs[index]),
            "accuracy": float(columns.accuracy[index]),
            "expected": float(self.expected[index]),
            "measured": self.run.measured.get(columns.key[index]),
            "drop": facts.accuracy - float(self.expected[index]),
            "reward": float(self.rewards[index]),
            "coefficients": columns.coefficients[index].tolist(),
        }

    def setting(self) -> dict[str, Any]:
        """The reward, its weights and thresholds, and the limits, as JSON values."""
        spec = self.spec
        limits = {name: getattr(spec, name) for name in ("max_kb", "max_macs", "max_drop")}
        own = self.run.facts.gain if spec.proxy_gain is None else spec.proxy_gain
        gain = {"proxy_gain": own}
        return {"reward": spec.reward} | self.reward.settings | limits | gain


def standings(run: Run, spec: JobSpec) -> Standings:
    """The candidates of ``run`` under the reward and the limits of ``spec``.

    Raises:
        BadInput: there is no such reward.
    """
    check_member("reward", spec.reward, REWARDS, "Choose one of these for --reward.")
    return Standings(run, spec)
