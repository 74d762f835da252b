"""Rewards: small callables of a student's accuracy and cost.

The ledger keeps accuracy and cost, never only the reward, so a change of thresholds re-ranks every
candidate that was ever paid for.

Two facts, both property tests. Under Zhang's Eq. 7, R = e^{αC + βA} · const: C0 and A0 scale every
reward alike and **cannot change which candidate wins**. Under the default the exponents bend at
the thresholds, so they can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from edge.errors import check_member
from envs.reward.base import Reward as Reward
from envs.reward.base import WeightedReward as WeightedReward
from envs.reward.base import compression as compression
from envs.reward.n2n import N2NReward as N2NReward
from envs.reward.paper import PaperReward as PaperReward
from envs.reward.threshold import ThresholdReward as ThresholdReward
from envs.reward.timed import TimedReward as TimedReward

REWARDS: dict[str, type[Reward]] = {
    "threshold": ThresholdReward,
    "paper": PaperReward,
    "n2n": N2NReward,
}


def make_reward(name: str, settings: Mapping[str, float]) -> Reward:
    """A reward by name, which takes of ``settings`` what it knows.

    Args:
        name: key of :data:`REWARDS`.
        settings: of any of them. With a ``gamma`` above 0 the reward gets a latency factor, and
            ``l0`` has to be there.

    Raises:
        BadInput: no such reward, or a setting out of range.
    """
    check_member("reward", name, REWARDS, "Choose one of these for --reward.")
    known = {field.name for field in fields(REWARDS[name])}
    reward = REWARDS[name](**{key: value for key, value in settings.items() if key in known})
    if settings.get("gamma", 0) > 0:
        return TimedReward(reward, settings["gamma"], settings["l0"])
    return reward
