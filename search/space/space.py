"""The candidates of one job: what may be proposed, what it costs, whether it keeps the limits.

A candidate's cost is known exactly without training, so no distillation is spent on one that
breaks a hard limit: samplers draw again until a proposal keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compression.cost import Cost, cost, costs
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.graph.netspec import NetSpec
from envs.gym.compression import CompressionEnv
from envs.reward import Reward, ThresholdReward, compression
from search.space.feasibility import Reach
from search.space.learning_curve import Expectation
from search.space.limits import Limits

Actions = tuple[int, ...]
Values = NDArray[np.float64]
#: predicts milliseconds for one input from actions, shape (batch, layers)
Latency = Callable[[NDArray[np.int64]], Values]
#: what candidates, shape (batch, layers), promise untrained: :mod:`search.scheduling.probe`
Probe = Callable[[NDArray[np.int64]], Values]

#: draws before a proposal is shrunk into the limits instead
MAX_DRAWS = 100
#: slope of the reward above a threshold that is as good as level
LEVEL = 0.05
#: costs that are kept in mind
MAX_KNOWN = 65_536


class Space:
    """All candidates of a teacher under one set of moves and hard limits."""

    def __init__(
        self,
        teacher: NetSpec,
        moves: Moves,
        reward: Reward,
        limits: Limits | None = None,
        latency: Latency | None = None,
        expectation: Expectation | None = None,
        probe: Probe | None = None,
    ) -> None:
        """Set up the space.

        Args:
            teacher: what is compressed.
            moves: pool and scaled fields.
            reward: of accuracy and cost.
            limits: hard ones; None for none at all.
            latency: of candidates; needed for a limit, or a reward, on latency.
            expectation: what the accuracies of proxies say; None takes them at their word.
            probe: what candidates promise untrained; it costs a moment each, so samplers ask it
                about few. None where nobody can say.

        Raises:
            BadInput: no candidate at all keeps the limits; names the nearest that one does.
        """
        self.teacher, self.moves, self.reward = teacher, moves, reward
        self.limits, self.latency = limits or Limits(), latency
        self.expectation, self.probe = expectation, probe
        self.layers = anatomy(teacher).layers
        self.masks = moves.masks(self.layers)
        self.teacher_cost = cost(teacher)
        self.env = CompressionEnv(teacher, moves, reward)
        self.student = lru_cache(maxsize=4096)(self._student)
        self._known: dict[Actions, tuple[Cost, float]] = {}
        #: digest of a network → its accuracy after a full training, where there was one
        self.reached: dict[str, float] = {}
        widths = [layer.sets_width for layer in self.layers]
        self.reach = Reach(self.masks, moves, widths, self.figures)
        keeping = self.reach.extremes[:-1]
        if self.limits.on_cost:
            keeping = self.reach.keeping(self.limits)
        self._smallest = min(
            (tuple(map(int, row)) for row in keeping), key=lambda row: self.cost(row).bytes
        )

    def _student(self, actions: Actions) -> Student:
        return compress(self.teacher, self.moves, actions)

    def cost(self, actions: Actions) -> Cost:
        """What a candidate costs."""
        return self.costs([actions])[0]

    def costs(self, candidates: Sequence[Actions]) -> list[Cost]:
        """What many candidates cost; asked at once, each takes a fraction of the time."""
        return [spent for spent, _ in self._look_up(candidates)]

    def ms(self, actions: Actions) -> float:
        """Predicted milliseconds for one input; nan where nobody predicts them."""
        return self._look_up([actions])[0][1]

    def _look_up(self, candidates: Sequence[Actions]) -> list[tuple[Cost, float]]:
        asked = [actions for actions in dict.fromkeys(candidates) if actions not in self._known]
        if asked:
            if len(self._known) > MAX_KNOWN:
                self._known = {a: self._known[a] for a in candidates if a in self._known}
            rows = np.array(asked)
            spent, ms = costs(self.teacher, self.moves, rows), self._ms(rows)
            self._known |= {
                actions: (spent[row], float(ms[row])) for row, actions in enumerate(asked)
            }
        return [self._known[actions] for actions in candidates]

    def _ms(self, rows: NDArray[np.int64]) -> Values:
        return np.full(len(rows), np.nan) if self.latency is None else self.latency(rows)

    def figures(self, candidates: NDArray[np.int64]) -> dict[str, Values]:
        """What candidates, shape (batch, layers), measure by every key of
        :data:`search.space.limits.MEASURES`; nothing is kept in mind."""
        spent = costs(self.teacher, self.moves, candidates)
        found = {"max_kb": spent.kb, "max_macs": spent.macs.astype(np.float64)}
        if self.latency is not None:
            found["max_ms"] = self.latency(candidates)
        return found

    def key(self, actions: Actions) -> str:
        """Equal for two candidates that round to the same network."""
        return self.student(actions).spec.to_json()

    def expect(self, gain: float, spread: float = 0.0) -> None:
        """Expect accuracies to rise so fast: g of :mod:`search.space.learning_curve` and its
        deviation."""
        assert self.expectation is not None
        self.expectation = replace(self.expectation, gain=gain, spread=spread)

    def expected(self, accuracy: float, epochs: float, key: str = "") -> float:
        """Accuracy after the full training, of a candidate with this one after so many epochs.

        One that was trained in full counts with what it reached; ``key`` is its digest.
        """
        if key in self.reached:
            return self.reached[key]
        return accuracy if self.expectation is None else self.expectation(accuracy, epochs)

    def reward_of(self, actions: Actions, accuracy: float) -> float:
        """R of a candidate with an accuracy after its full training, measured or expected."""
        spent, ms = self._look_up([actions])[0]
        ratio = compression(spent.bytes, self.teacher_cost.bytes)
        return self.reward(accuracy, ratio, None if self.latency is None else ms)

    def rewards(
        self, candidates: Sequence[Actions] | NDArray[np.int64], accuracies: Values
    ) -> Values:
        """R of many candidates, from their exact costs and accuracies after the full training.

        Args:
            candidates: (batch, layers).
            accuracies: (batch,).
        """
        return self.reward.many(*self._facts(candidates, accuracies))

    def log_rewards(
        self, candidates: Sequence[Actions] | NDArray[np.int64], accuracies: Values
    ) -> Values:
        """The exponents of :meth:`rewards`."""
        return self.reward.log(*self._facts(candidates, accuracies))

    def _facts(
        self, candidates: Sequence[Actions] | NDArray[np.int64], accuracies: Values
    ) -> tuple[Values, Values, Values | None]:
        """A, C and, where it is known, L of candidates."""
        rows = np.asarray(candidates, np.int64).reshape(-1, len(self.layers))
        ratio = 1 - costs(self.teacher, self.moves, rows).bytes / self.teacher_cost.bytes
        ms = None if self.latency is None else self.latency(rows)
        return np.asarray(accuracies, np.float64), ratio, ms

    @property
    def accuracy_alone(self) -> bool:
        """Whether, within the limits or C0, nothing but accuracy is sought, so that a student had
        better be as large as it may be."""
        reward = self.reward
        if not isinstance(reward, ThresholdReward):
            return False
        return reward.a0 >= 1 and reward.rho <= LEVEL and (reward.c0 < 1 or self._limited)

    @property
    def _limited(self) -> bool:
        return bool(self.limits.on_cost)

    def spent(self, candidates: NDArray[np.int64]) -> Values:
        """The share of the limits on cost that candidates, shape (batch, layers), use up, above 1
        where one is broken; without any limit, of the size that C0 asks for."""
        figures = self.figures(candidates)
        if self._limited:
            return np.asarray(self.limits.ratios(figures).max(axis=0))
        c0 = self.reward.settings.get("c0", 0.0)
        return np.asarray(figures["max_kb"] / ((1 - c0) * self.teacher_cost.kb))

    def fits(self, actions: Actions) -> bool:
        """Whether a candidate keeps the limits on cost."""
        return not self.limits.on_cost or bool((self._ratios([actions]) <= 1).all())

    def _ratios(self, candidates: Sequence[Actions]) -> Values:
        """As :meth:`search.space.limits.Limits.ratios`, of candidates that are kept in mind."""
        known = self._look_up(candidates)
        figures: dict[str, Any] = {
            "max_kb": np.array([spent.kb for spent, _ in known]),
            "max_macs": np.array([float(spent.macs) for spent, _ in known]),
            "max_ms": np.array([ms for _, ms in known]),
        }
        return self.limits.ratios(figures)

    def within_limit(self, draw: Callable[[], Actions]) -> Actions:
        """The first of a stream of proposals that keeps the limits.

        After :data:`MAX_DRAWS` the last one is shrunk until it fits: the layer that brings most
        goes down by one coefficient, again and again, so that a tight limit cannot stall a job.
        """
        for _ in range(MAX_DRAWS):
            actions = draw()
            if self.fits(actions):
                return actions
        return self.shrunk(actions)

    def shrunk(self, actions: Actions) -> Actions:
        """``actions``, lowered greedily until the limits are kept."""
        while not self.fits(actions):
            lower = [self._lowered(actions, step) for step in range(len(actions))]
            choices = [choice for choice in lower if choice is not None]
            if not choices:
                return self.smallest
            excess = np.log(self._ratios([actions, *choices]))
            # a limit that is kept must stay so, but need not be kept by more
            excess[excess[:, 0] <= 0] = np.maximum(excess[excess[:, 0] <= 0], 0)
            total = excess.sum(axis=0)
            best = int(total[1:].argmin())
            if total[1 + best] >= total[0]:
                # a single step can cost more than it saves (a projection, a larger map)
                return self.smallest
            actions = choices[best]
        return actions

    def _lowered(self, actions: Actions, step: int) -> Actions | None:
        legal = np.flatnonzero(self.masks[step][: actions[step]])
        if not len(legal):
            return None
        return (*actions[:step], int(legal[-1]), *actions[step + 1 :])

    @property
    def smallest(self) -> Actions:
        """The smallest candidate, in bytes, among those that were found to keep the limits."""
        return self._smallest
