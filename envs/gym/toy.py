"""A network of five weight layers, small enough to compress by hand.

It has a residual block, so that every rule shows: a stem that sets the width of a channel group,
a later writer of that group, an inner layer with a width of its own, a strided 5×5 convolution
and a classifier. The tests work both presets through on it.

    image 1×8×8 → stem 3×3, 10 → [inner 3×3, 20 → outer 3×3, 10] + → down 5×5/2, 10 → mean → head 2
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import Student
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.compression import CompressionEnv
from envs.gym.vector import CompressionVectorEnv
from envs.reward import Reward, ThresholdReward


class ToyNet(nn.Module):
    """Maps N×1×8×8 to N×2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 10, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(10)
        self.inner = nn.Conv2d(10, 20, 3, padding=1)
        self.outer = nn.Conv2d(20, 10, 3, padding=1)
        self.down = nn.Conv2d(10, 10, 5, stride=2, padding=2)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(x + self.outer(self.relu(self.inner(x))))
        x = self.pool(self.relu(self.down(x)))
        return self.head(torch.flatten(x, 1))  # type: ignore[no-any-return]


def toy_spec() -> NetSpec:
    """The toy as a netspec."""
    return trace(ToyNet(), (1, 8, 8))


def pretend_accuracy(student: Student) -> float:
    """Stands in for distillation: ½ + ½ · share of the pool's range that the actions kept.

    Exact and instant, so an episode can be checked by hand; it knows nothing of real accuracy.
    """
    highest = max(student.actions)
    return 0.5 + 0.5 * sum(student.actions) / (highest * len(student.actions))


def pretend_accuracies(actions: NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`pretend_accuracy` of many students, from their actions, shape (batch, layers)."""
    highest = actions.max(axis=1)
    found: NDArray[np.float64] = 0.5 + 0.5 * actions.sum(axis=1) / (highest * actions.shape[1])
    return found


def make_toy_env(
    preset: str | Moves = "default", reward: Reward | None = None, **options: Any
) -> CompressionEnv:
    """Entry point of ``understudy/Compression-v0`` without arguments of one's own."""
    moves = PRESETS[preset] if isinstance(preset, str) else preset
    options.setdefault("accuracy", pretend_accuracy)
    return CompressionEnv(toy_spec(), moves, reward or ThresholdReward(), **options)


def make_toy_vector_env(
    num_envs: int = 1,
    preset: str | Moves = "default",
    reward: Reward | None = None,
    **options: Any,
) -> CompressionVectorEnv:
    """Entry point of ``understudy/Compression-v0`` for ``gymnasium.make_vec``."""
    moves = PRESETS[preset] if isinstance(preset, str) else preset
    options.setdefault("accuracies", pretend_accuracies)
    return CompressionVectorEnv(
        toy_spec(), moves, reward or ThresholdReward(), num_envs=num_envs, **options
    )
