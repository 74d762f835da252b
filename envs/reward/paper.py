"""Zhang's reward as printed. Its thresholds scale every reward alike."""

from __future__ import annotations

from dataclasses import dataclass

from envs.reward.base import Margin, WeightedReward


@dataclass(frozen=True)
class PaperReward(WeightedReward):
    """Zhang, Eq. 6 and 7 as printed: R = e^{α(C − C0)} · e^{β(A − A0)}.

    R = e^{αC + βA} · const, so C0 and A0 **cannot change which candidate wins**.
    """

    def log(self, accuracy: Margin, compressed: Margin, ms: Margin | None = None) -> Margin:
        return self.alpha * (compressed - self.c0) + self.beta * (accuracy - self.a0)
