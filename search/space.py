"""The candidates of one job: what may be proposed, what it costs, whether it keeps the limit.

A candidate's cost is known exactly without training, so no distillation is spent on one that
breaks a hard limit: samplers draw again until a proposal keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from edge.errors import BadInput
from envs.compression import CompressionEnv
from envs.cost import Cost, cost, costs
from envs.layers import anatomy
from envs.moves import Moves
from envs.netspec import NetSpec
from envs.resolve import Student, compress
from envs.reward import Reward, compression
from search.expectation import Expectation

Actions = tuple[int, ...]

#: draws before a proposal is shrunk into the limit instead
MAX_DRAWS = 100
#: costs that are kept in mind
MAX_KNOWN = 65_536


class Space:
    """All candidates of a teacher under one set of moves and one size limit."""

    def __init__(
        self,
        teacher: NetSpec,
        moves: Moves,
        reward: Reward,
        max_kb: float | None = None,
        expectation: Expectation | None = None,
    ) -> None:
        """Set up the space.

        Args:
            teacher: what is compressed.
            moves: pool and scaled fields.
            reward: of accuracy and cost.
            max_kb: size limit.
            expectation: what the accuracies of proxies say; None takes them at their word.

        Raises:
            BadInput: no candidate at all keeps ``max_kb``; names the smallest there is.
        """
        self.teacher, self.moves, self.reward, self.max_kb = teacher, moves, reward, max_kb
        self.expectation = expectation
        self.layers = anatomy(teacher).layers
        self.masks = moves.masks(self.layers)
        self.teacher_cost = cost(teacher)
        self.env = CompressionEnv(teacher, moves, reward)
        self.student = lru_cache(maxsize=4096)(self._student)
        self._known: dict[Actions, Cost] = {}
        if max_kb is not None:
            self._refuse_unreachable(max_kb)

    def _student(self, actions: Actions) -> Student:
        return compress(self.teacher, self.moves, actions)

    def cost(self, actions: Actions) -> Cost:
        """What a candidate costs."""
        return self.costs([actions])[0]

    def costs(self, candidates: Sequence[Actions]) -> list[Cost]:
        """What many candidates cost; asked at once, each takes a fraction of the time."""
        asked = [actions for actions in dict.fromkeys(candidates) if actions not in self._known]
        if asked:
            if len(self._known) > MAX_KNOWN:
                self._known = {a: self._known[a] for a in candidates if a in self._known}
            spent = costs(self.teacher, self.moves, np.array(asked))
            self._known |= {actions: spent[row] for row, actions in enumerate(asked)}
        return [self._known[actions] for actions in candidates]

    def key(self, actions: Actions) -> str:
        """Equal for two candidates that round to the same network."""
        return self.student(actions).spec.to_json()

    def expected(self, accuracy: float, epochs: int) -> float:
        """Accuracy after the full training, of a candidate with this one after so many epochs."""
        return accuracy if self.expectation is None else self.expectation(accuracy, epochs)

    def reward_of(self, actions: Actions, accuracy: float) -> float:
        """R of a candidate with an accuracy after its full training, measured or expected."""
        ratio = compression(self.cost(actions).bytes, self.teacher_cost.bytes)
        return self.reward(accuracy, ratio)

    def fits(self, actions: Actions) -> bool:
        """Whether a candidate keeps the size limit."""
        return self.max_kb is None or self.cost(actions).kb <= self.max_kb

    def within_limit(self, draw: Callable[[], Actions]) -> Actions:
        """The first of a stream of proposals that keeps the limit.

        After :data:`MAX_DRAWS` the last one is shrunk until it fits: the layer that brings most
        goes down by one coefficient, again and again, so that a tight limit cannot stall a job.
        """
        for _ in range(MAX_DRAWS):
            actions = draw()
            if self.fits(actions):
                return actions
        return self.shrunk(actions)

    def shrunk(self, actions: Actions) -> Actions:
        """``actions``, lowered greedily until the size limit is kept."""
        while not self.fits(actions):
            lower = [self._lowered(actions, step) for step in range(len(actions))]
            choices = [choice for choice in lower if choice is not None]
            self.costs(choices)
            smaller = min(choices, key=lambda choice: self.cost(choice).bytes, default=None)
            if smaller is None or self.cost(smaller).bytes >= self.cost(actions).bytes:
                # a single step can cost more than it saves (a projection); the smallest never does
                return self.smallest
            actions = smaller
        return actions

    def _lowered(self, actions: Actions, step: int) -> Actions | None:
        legal = np.flatnonzero(self.masks[step][: actions[step]])
        if not len(legal):
            return None
        return (*actions[:step], int(legal[-1]), *actions[step + 1 :])

    @property
    def smallest(self) -> Actions:
        """The smallest candidate found by lowering every layer, with and without removal."""
        lowest = tuple(int(np.flatnonzero(mask)[0]) for mask in self.masks)
        narrow = tuple(
            int(np.flatnonzero(mask)[min(1, int(mask.sum()) - 1)])
            if self.moves.removes(int(np.flatnonzero(mask)[0]))
            else int(np.flatnonzero(mask)[0])
            for mask in self.masks
        )
        mixed = tuple(
            low if not layer.sets_width else thin
            for layer, low, thin in zip(self.layers, lowest, narrow, strict=True)
        )
        return min((lowest, narrow, mixed), key=lambda actions: self.cost(actions).bytes)

    def _refuse_unreachable(self, max_kb: float) -> None:
        least = self.cost(self.smallest).kb
        if least > max_kb:
            raise BadInput(
                "no student can be that small",
                value=f"--max-kb {max_kb:g}",
                # rounded up: what is named must itself be accepted
                bound=f"{math.ceil(least * 10) / 10:.1f} KB or more "
                f"(the teacher has {self.teacher_cost.kb:,.0f})",
                remedy=f"Set --max-kb {math.ceil(least * 1.5)} or more.",
            )
