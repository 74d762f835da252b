"""Many episodes of one teacher, stepped at once, with the costs counted in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.cost import cost, costs
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.gym.compression import Info, Observation, nearest_legal, observations, states_of
from envs.reward import Reward

Actions = NDArray[np.int64]


class CompressionVectorEnv(VectorEnv[Observation, Actions, NDArray[Any]]):
    """A batch of :class:`envs.gym.compression.CompressionEnv` that share teacher and moves.

    All episodes have one step per layer, so they begin and end together. Observations have the
    shape (num_envs, 5), actions (num_envs,); ``info["action_mask"]`` (num_envs, len(Φ)) marks the
    legal ones, and an illegal one counts as the nearest legal coefficient.

    After the last step the next call of :meth:`step` begins new episodes (Gymnasium's mode
    NEXT_STEP): it ignores its actions and pays 0.

    At the end ``info`` holds arrays with one entry per episode: ``actions`` (num_envs, layers) as
    they were taken, ``parameters``, ``bytes``, ``macs``, ``peak``, ``compression`` and, where
    known, ``accuracy``. No student is described or built: :func:`envs.compression.resolve.compress`
    does that for the few that are wanted.
    """

    # gymnasium declares it without ClassVar, and mypy holds a subclass to that
    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        teacher: NetSpec,
        moves: Moves,
        reward: Reward,
        accuracies: Callable[[Actions], NDArray[np.float64]] | None = None,
        num_envs: int = 256,
        latency: Callable[[Actions], NDArray[np.float64]] | None = None,
    ) -> None:
        """Set up the episodes.

        Args:
            teacher: what is compressed.
            moves: pool and scaled fields.
            reward: of (accuracy, compression).
            accuracies: predicts the accuracies of students from their actions
                (num_envs, layers); without it the environment pays 0.
            num_envs: episodes at once.
            latency: predicts milliseconds for one input, likewise; a reward with a latency factor
                needs it.

        Raises:
            BadInput: not even one episode.
        """
        if num_envs < 1:
            raise BadInput(
                "too few episodes for a vector environment",
                value=num_envs,
                bound="1 or more",
                remedy="Set num_envs.",
            )
        self.teacher, self.moves, self.reward = teacher, moves, reward
        self.accuracies, self.latency, self.num_envs = accuracies, latency, num_envs
        self.layers = anatomy(teacher).layers
        self.masks = moves.masks(self.layers)
        self.legal = nearest_legal(moves, self.masks)
        self.teacher_cost = cost(teacher)
        self._states = states_of(teacher)
        self.single_observation_space = observations(self._states)
        self.single_action_space = spaces.Discrete(len(moves.pool))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._taken = np.zeros((num_envs, len(self.layers)), np.int64)
        self._step = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin all episodes with the first layer of the whole teacher."""
        # nothing here is drawn; a list of seeds is what vector environments are given
        super().reset(seed=seed if isinstance(seed, int) else None)
        self._step = 0
        return self._observation(), self._info()

    def step(
        self, actions: Actions
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """Decide on one layer of every episode.

        Raises:
            BadInput: an action is no index into the pool, or there is not one per episode.
        """
        nothing = np.zeros(self.num_envs)
        never = np.zeros(self.num_envs, bool)
        if self._step == len(self.layers):
            observation, info = self.reset()
            return observation, nothing, never, never.copy(), info
        taken = self.legal[self._step, self._checked(actions)]
        self._taken[:, self._step] = taken
        self._step += 1
        done = self._step == len(self.layers)
        info = self._info() | self._every("action", taken)
        rewards = nothing
        if done:
            rewards = self._finish(info)
        return self._observation(), rewards, np.full(self.num_envs, done), never, info

    def _checked(self, actions: Actions) -> Actions:
        given = np.asarray(actions)
        top = len(self.moves.pool) - 1
        if given.shape != (self.num_envs,) or not np.issubdtype(given.dtype, np.integer):
            raise BadInput(
                "the actions do not fit the episodes",
                value=f"{given.dtype} of shape {given.shape}",
                bound=f"one index per episode, shape ({self.num_envs},)",
                remedy="Give whole numbers.",
            )
        if given.min() < 0 or given.max() > top:
            raise BadInput(
                "an action is outside the pool",
                value=int(given.min() if given.min() < 0 else given.max()),
                bound=f"an index from 0 to {top}",
                remedy=f"Choose a coefficient of {list(self.moves.pool)} by its index.",
            )
        return given

    def _finish(self, info: Info) -> NDArray[np.float64]:
        actions = self._taken.copy()
        spent = costs(self.teacher, self.moves, actions)
        ratio: NDArray[np.float64] = 1 - spent.bytes / self.teacher_cost.bytes
        found: dict[str, NDArray[Any]] = {
            "actions": actions,
            "parameters": spent.parameters,
            "bytes": spent.bytes,
            "macs": spent.macs,
            "peak": spent.peak,
            "compression": ratio,
        }
        rewards = np.zeros(self.num_envs)
        if self.accuracies is not None:
            accuracies = np.asarray(self.accuracies(actions), np.float64)
            found["accuracy"] = accuracies
            ms = None if self.latency is None else self.latency(actions)
            rewards = self.reward.many(accuracies, ratio, ms)
        for name, values in found.items():
            info |= self._every(name, values)
        return rewards

    def _observation(self) -> Observation:
        return np.repeat(self._states[self._step][None], self.num_envs, axis=0)

    def _info(self) -> Info:
        mask = self.masks[min(self._step, len(self.layers) - 1)]
        return self._every("action_mask", np.repeat(mask[None], self.num_envs, axis=0))

    def _every(self, name: str, values: NDArray[Any]) -> Info:
        """Gymnasium's form of an info that all episodes have."""
        return {name: values, f"_{name}": np.ones(self.num_envs, bool)}
