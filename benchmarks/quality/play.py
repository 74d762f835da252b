"""One search of one sampler, as a job would do it, with real distillation looked up.

The same rules as :class:`search.scheduling.loop` in synchronous mode: a batch of proposals, the
sampler told of all of them, duplicates answered at no cost and not counted, the end after 50 of
them in a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.quality.task import Task
from search.job.spec import JobSpec
from search.samplers import SAMPLERS, Observation, Sampler
from search.scheduling.trial_state import MAX_REPEATS
from search.space.space import Actions, Space

#: candidates of a search, and proposals at a time: the job's default
BUDGET = 100
BATCH = int(JobSpec.model_fields["batch"].default)
#: candidates after which a search is scored
MARKS = (25, 50, 100)
#: candidates, not met by the search, that a sampler's predictions are compared on
HELD_OUT = 1000


@dataclass
class Search:
    """What came of a search.

    Attributes:
        sampler, task, reward, seed: what was played.
        found: distinct candidates in the order in which they were met.
        incumbents: place in ``found`` of the best one after each of them.
        logs: log-reward of that one, as the search saw it.
        proposals: with duplicates.
        duplicates: proposals that cost nothing.
        seconds: spent in the sampler, proposing and learning.
        slowest: seconds of the slowest batch, per proposal.
        told: by what the sampler says of itself, (candidates, value) after every batch.
    """

    sampler: str
    task: str
    reward: str
    seed: int
    found: list[Actions] = field(default_factory=list)
    incumbents: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    proposals: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    told: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def incumbent(self, mark: int) -> Actions:
        """The best candidate after ``mark`` of them, or after all where there are fewer."""
        return self.found[self.incumbents[min(mark, len(self.found)) - 1]]


def make_sampler(name: str, space: Space, seed: int) -> Sampler:
    """As a job makes it, with the job's defaults."""
    options = ("agent_rate", "agent_units", "baseline_decay", "probes")
    defaults = {option: JobSpec.model_fields[option].default for option in options}
    return SAMPLERS[name](space, seed, **defaults)


def play(
    task: Task,
    reward: str,
    name: str,
    seed: int,
    make: Callable[[str, Space, int], Sampler] = make_sampler,
    budget: int = BUDGET,
    batch: int = BATCH,
    held_out: NDArray[np.integer[Any]] | None = None,
) -> Search:
    """Play one search.

    Args:
        task: whose candidates.
        reward: one of the task's.
        name: of the sampler.
        seed: of the sampler.
        make: makes the sampler.
        budget: distinct candidates.
        batch: proposals at a time.
        held_out: action vectors (candidates, layers) on which predictions are looked at.
    """
    space = task.space(reward)
    player = _Player(task, space, Search(name, task.name, reward, seed), held_out)
    began = time.perf_counter()
    sampler = make(name, space, seed)
    player.search.seconds += time.perf_counter() - began
    repeats = 0
    while len(player.search.found) < budget and repeats < MAX_REPEATS:
        asked = min(batch, budget - len(player.search.found))
        fresh = player.turn(sampler, asked)
        repeats = 0 if fresh else repeats + asked
    return player.search


class _Player:
    def __init__(
        self,
        task: Task,
        space: Space,
        search: Search,
        held_out: NDArray[np.integer[Any]] | None,
    ) -> None:
        self.task, self.space, self.search, self.held_out = task, space, search, held_out
        self.seen: dict[str, float | None] = {}

    def turn(self, sampler: Sampler, asked: int) -> int:
        """A batch; how many candidates of it are new."""
        search = self.search
        began = time.perf_counter()
        proposals = sampler.propose(asked)
        proposing = time.perf_counter() - began
        before = len(search.found)
        outcomes = [self._outcome(actions) for actions in proposals]
        began = time.perf_counter()
        sampler.tell(outcomes)
        spent = proposing + time.perf_counter() - began
        fresh = len(search.found) - before
        search.proposals += len(proposals)
        search.duplicates += len(proposals) - fresh
        search.seconds += spent
        search.slowest = max(search.slowest, spent / len(proposals))
        self._listen(sampler, before)
        return fresh

    def _outcome(self, actions: Actions) -> Observation:
        """What the sampler is told, from the first candidate that rounded to the same network."""
        key = self.task.truth.key(actions)
        if key not in self.seen:
            accuracy = self.task.truth.searched(actions)
            self.seen[key] = accuracy
            self._meet(actions, self._log(actions, accuracy))
        accuracy = self.seen[key]
        if accuracy is None:
            return Observation(actions, 0.0, 0.0, failed=True, key=key)
        expected = self._expected(accuracy)
        return Observation(actions, expected, self.space.reward_of(actions, expected), key=key)

    def _expected(self, accuracy: float) -> float:
        """After the full training, as a job's samplers and rewards are told."""
        return self.space.expected(accuracy, self.task.searched.epochs)

    def _log(self, actions: Actions, accuracy: float | None) -> float:
        if accuracy is None:
            return -np.inf
        return float(self.space.log_rewards([actions], np.array([self._expected(accuracy)]))[0])

    def _meet(self, actions: Actions, log: float) -> None:
        search = self.search
        search.found.append(actions)
        better = not search.logs or log > search.logs[-1]
        search.incumbents.append(len(search.found) - 1 if better else search.incumbents[-1])
        search.logs.append(log if better else search.logs[-1])

    def _listen(self, sampler: Sampler, before: int) -> None:
        """What the sampler says of itself: ``diagnose()`` and ``predict(actions)``, if it can."""
        found = len(self.search.found)
        said = dict(getattr(sampler, "diagnose", dict)())
        crossed = any(before < mark <= found for mark in MARKS)
        if self.held_out is not None and crossed and hasattr(sampler, "predict"):
            said |= self._foresight(sampler.predict)
        for name, value in said.items():
            self.search.told.setdefault(name, []).append((found, float(value)))

    def _foresight(self, predict: Callable[[Sequence[Actions]], Any]) -> dict[str, float]:
        """Rank correlation of predicted and true log-rewards on candidates that are new to it."""
        assert self.held_out is not None
        rows = (tuple(map(int, row)) for row in self.held_out)
        fresh = [actions for actions in rows if self.task.truth.key(actions) not in self.seen]
        truth = np.array(
            [self._log(actions, self.task.truth.searched(actions)) for actions in fresh]
        )
        said = np.asarray(predict(fresh), np.float64)
        logs = self.space.log_rewards(fresh, said)
        top = truth >= np.quantile(truth, 0.9)
        return {
            "rank_correlation": float(stats.spearmanr(logs, truth).statistic),
            "rank_correlation_top": float(stats.spearmanr(logs[top], truth[top]).statistic),
        }
