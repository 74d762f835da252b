"""The compression of one teacher as a Gymnasium environment (Zhang, section IV-B)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.graph.netspec import NetSpec
from envs.gym.viewer import draw
from envs.reward import Reward, compression

Observation = NDArray[np.float32]
Info = dict[str, Any]


class CompressionEnv(gym.Env[Observation, np.int64]):
    """Shrink or remove one weight layer per step; the last step pays.

    Observation, shape (5,), float32: the state s_t = (l, k, d, p, o) of the layer to decide on
    (Eq. 2): type (1 convolution, 2 linear), kernel, stride, padding, outputs. All zeros after
    the last layer.

    Action: index into the pool Φ (Eq. 3). ``info["action_mask"]`` (int8, shape (len(Φ),)) marks
    the legal ones. An illegal action counts as the nearest legal coefficient, and
    ``info["action"]`` says which was taken.

    Reward: 0 until the episode ends; then R of accuracy and compression (γ = 1). Without an
    ``accuracy`` the environment cannot know R, pays 0 and leaves it to whoever distils
    ``info["student"]`` elsewhere, as the search does on Ray.

    At the end ``info`` holds ``student`` (:class:`envs.compression.resolve.Student`), ``cost``
    (:class:`envs.compression.cost.Cost`), ``compression`` (C of Eq. 5) and, where known,
    ``accuracy``.
    """

    # gymnasium declares it without ClassVar, and mypy holds a subclass to that
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        teacher: NetSpec,
        moves: Moves,
        reward: Reward,
        accuracy: Callable[[Student], float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Set up an episode.

        Args:
            teacher: what is compressed.
            moves: pool and scaled fields.
            reward: of (accuracy, compression).
            accuracy: distils or predicts; accuracy of a student in [0, 1].
            render_mode: ``"ansi"`` or None.
        """
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode is {render_mode!r}; expected 'ansi' or None")
        self.teacher, self.moves, self.reward, self.accuracy = teacher, moves, reward, accuracy
        self.render_mode = render_mode
        self.layers = anatomy(teacher).layers
        self.masks = moves.masks(self.layers)
        self.legal = nearest_legal(moves, self.masks)
        self.teacher_cost = cost(teacher)
        self._states = states_of(teacher)
        self.observation_space = observations(self._states)
        self.action_space = spaces.Discrete(len(moves.pool))
        self._taken: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin with the first layer of the whole teacher."""
        super().reset(seed=seed)
        self._taken = []
        return self._states[0].copy(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, Info]:
        """Decide on one layer.

        Raises:
            RuntimeError: the episode is over.
            BadInput: the action is no index into the pool.
        """
        if len(self._taken) == len(self.layers):
            raise RuntimeError("the episode is over: call reset() first")
        if not 0 <= int(action) < len(self.moves.pool):
            raise BadInput(
                "the action is outside the pool",
                value=action,
                bound=f"an index from 0 to {len(self.moves.pool) - 1}",
                remedy=f"Choose a coefficient of {list(self.moves.pool)} by its index.",
            )
        self._taken.append(int(self.legal[len(self._taken), int(action)]))
        info = self._info() | {"action": self._taken[-1]}
        done = len(self._taken) == len(self.layers)
        value = 0.0
        if done:
            student = compress(self.teacher, self.moves, self._taken)
            spent = cost(student.spec)
            ratio = compression(spent.bytes, self.teacher_cost.bytes)
            info |= {"student": student, "cost": spent, "compression": ratio}
            if self.accuracy is not None:
                info["accuracy"] = self.accuracy(student)
                value = self.reward(info["accuracy"], ratio)
        return self._states[len(self._taken)].copy(), value, done, False, info

    def render(self) -> str | None:
        """The layers before and after the actions so far, one line each."""
        if self.render_mode is None:
            return None
        undecided = [self.moves.keep] * (len(self.layers) - len(self._taken))
        return draw(self.teacher, self.moves, [*self._taken, *undecided], len(self._taken))

    def _info(self) -> Info:
        step = min(len(self._taken), len(self.layers) - 1)
        return {"action_mask": self.masks[step].copy()}


def states_of(teacher: NetSpec) -> Observation:
    """States of an episode and the zeros after its end, shape (layers + 1, 5)."""
    return np.vstack([anatomy(teacher).states(), np.zeros((1, 5), np.float32)])


def observations(states: Observation) -> spaces.Space[Observation]:
    """The space of one observation."""
    highest = float(states.max())
    space: spaces.Space[Any] = spaces.Box(0.0, highest, shape=(5,), dtype=np.float32)
    return space


def nearest_legal(moves: Moves, masks: NDArray[np.int8]) -> NDArray[np.int64]:
    """(layer, action) → the legal action whose coefficient is nearest, ties down."""
    pool = np.array(moves.pool)
    distance = np.abs(pool[:, None] - pool)
    nearest: NDArray[np.int64] = np.where(masks[:, None, :] == 1, distance, np.inf).argmin(axis=2)
    return nearest
