"""The default: Zhang's two factors with exponents that bend, so that the thresholds bind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.reward.base import Margin, WeightedReward, within


@dataclass(frozen=True)
class ThresholdReward(WeightedReward):
    """Eq. 7 with exponents that are steep below a threshold and gentle above it.

    α·(C − C0) below C0 and ρα·(C − C0) above it; the same for A with β and A0. This is the "heavy
    penalty" below a threshold that the paper's text promises and its formula does not give.

    Attributes:
        rho: slope above a threshold over the slope below it, in [0, 1]; 1 gives Eq. 7 back.
    """

    rho: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        within("rho", self.rho, 0, 1)

    def log(self, accuracy: Margin, compressed: Margin, ms: Margin | None = None) -> Margin:
        return self.alpha * self._bent(compressed - self.c0) + self.beta * self._bent(
            accuracy - self.a0
        )

    def _bent(self, margin: Margin) -> Margin:
        # ρ ≤ 1, so below 0 the first is the smaller one, above it the second
        if isinstance(margin, np.ndarray):
            return np.minimum(margin, self.rho * margin)
        return min(margin, self.rho * margin)
