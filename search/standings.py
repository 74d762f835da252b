"""The candidates of a run in the order that a reward puts them in; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput, check_member
from envs.reward import REWARDS, Reward
from search.facts import Facts, read_facts
from search.run_folder import RunFolder
from search.snapshot import Columns, columns_of
from search.spec import JobSpec
from search.thresholds import reward_of


@dataclass(frozen=True)
class Run:
    """A run as readers need it.

    Attributes:
        folder, spec: where, and what was asked.
        facts: of its teacher.
        columns: its candidates.
    """

    folder: RunFolder
    spec: JobSpec
    facts: Facts
    columns: Columns


def read_run(folder: str) -> Run:
    """A run, finished or not, from its folder; one that is going on is not disturbed.

    Raises:
        BadInput: there is no run, or no candidate in it yet.
    """
    found = RunFolder(folder)
    spec = found.stored_job()
    facts = read_facts(found)
    return Run(found, spec, facts, columns_of(found, spec.storage, facts))


@dataclass(frozen=True)
class Standings:
    """The candidates of a run under one reward and one set of limits.

    A candidate's number counts from 1 in the order in which candidates finished.
    """

    run: Run
    spec: JobSpec

    @cached_property
    def reward(self) -> Reward:
        """With the thresholds that follow from the limits."""
        return reward_of(self.spec, self.run.facts.kb, self.run.facts.accuracy)

    @property
    def reward_rises(self) -> bool:
        """Whether more accuracy, or less size, always earns more."""
        return self.spec.reward != "threshold" or self.spec.rho > 0

    def reward_with(self, **changes: float) -> Reward:
        """The reward with other weights or thresholds."""
        return replace(self.reward, **changes)

    @cached_property
    def compression(self) -> NDArray[np.float64]:
        """C of every candidate (Zhang, Eq. 5)."""
        return 1 - self.run.columns.bytes / self.run.facts.bytes

    @cached_property
    def rewards(self) -> NDArray[np.float64]:
        """R of every candidate; 0 where it failed."""
        columns = self.run.columns
        found = self.reward.many(columns.accuracy, self.compression)
        return np.where(np.char.str_len(np.array(columns.reason, str)) > 0, 0.0, found)

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """Which candidates may win: trained to the end, and within the limit on size."""
        columns, limit = self.run.columns, self.spec.max_kb
        return columns.whole & (True if limit is None else columns.kb <= limit)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Indices of those who may win, the best first; of equals the earlier one."""
        may = np.flatnonzero(self.eligible)
        found: NDArray[np.int64] = may[np.argsort(-self.rewards[may], kind="stable")]
        return found

    @property
    def winner(self) -> int:
        """Index of the best.

        Raises:
            BadInput: nobody may win; names the smallest candidate there is.
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
        least = float(columns.kb[columns.whole].min())
        raise BadInput(
            "no candidate of the run is that small",
            value=f"--max-kb {self.spec.max_kb:g}",
            # rounded up: what is named must itself be accepted
            bound=f"{np.ceil(least * 10) / 10:.1f} KB or more",
            remedy="Raise --max-kb, or search again with this one.",
        )

    def row(self, index: int) -> dict[str, Any]:
        """A candidate as JSON values."""
        columns, facts = self.run.columns, self.run.facts
        return {
            "number": index + 1,
            "key": columns.key[index],
            "kb": float(columns.kb[index]),
            "compression": float(self.compression[index]),
            "accuracy": float(columns.accuracy[index]),
            "drop": facts.accuracy - float(columns.accuracy[index]),
            "reward": float(self.rewards[index]),
            "coefficients": columns.coefficients[index].tolist(),
        }

    def setting(self) -> dict[str, Any]:
        """The reward, its weights and thresholds, and the limits, as JSON values."""
        spec, reward = self.spec, self.reward
        found = {
            "reward": spec.reward,
            "alpha": reward.alpha,
            "beta": reward.beta,
            "c0": reward.c0,
            "a0": reward.a0,
            "max_kb": spec.max_kb,
            "max_drop": spec.max_drop,
        }
        return found | ({"rho": spec.rho} if spec.reward == "threshold" else {})


def standings(run: Run, spec: JobSpec) -> Standings:
    """The candidates of ``run`` under the reward and the limits of ``spec``.

    Raises:
        BadInput: there is no such reward.
    """
    check_member("reward", spec.reward, REWARDS, "Choose one of these for --reward.")
    return Standings(run, spec)
