"""A factor for latency that multiplies any other reward."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edge.errors import BadInput
from envs.reward.base import Margin, Reward, within


@dataclass(frozen=True)
class TimedReward(Reward):
    """R · e^{γ(L0 − L)/L0}: fewer multiplications are not always faster, so L is a time.

    Attributes:
        reward: what is multiplied.
        gamma: weight γ of latency.
        l0: latency L0, in milliseconds, at which the factor is 1.
    """

    reward: Reward
    gamma: float
    l0: float

    def __post_init__(self) -> None:
        # e¹⁰⁰ beside the others' e⁶⁰⁰ is still a float
        within("gamma", self.gamma, 0, 100)
        if not 0 < self.l0 < float("inf"):
            raise BadInput(
                "`l0` of the reward is out of range",
                value=self.l0,
                bound="a number of milliseconds above 0",
                remedy="Set --l0 or --max-ms to one.",
            )

    def log(self, accuracy: Margin, compressed: Margin, ms: Margin | None = None) -> Margin:
        """As of :class:`Reward`.

        Raises:
            ValueError: nobody says what the latency is.
        """
        if ms is None:
            raise ValueError("a reward with a latency factor needs the latency of the student")
        return self.reward.log(accuracy, compressed) + self.gamma * (self.l0 - ms) / self.l0

    @property
    def settings(self) -> dict[str, float]:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["reward"]
        return self.reward.settings | own
