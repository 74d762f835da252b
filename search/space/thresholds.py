"""From a job's limits to its reward; loads neither torch nor Optuna, so that readers are quick."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.reward import Reward, ThresholdReward, make_reward
from search.job.spec import JobSpec
from search.space.limits import USUAL_DROP, Limits

#: a number, or one for each of several
Values = TypeVar("Values", float, NDArray[np.float64])

#: targets of a search
TARGETS = ("accurate", "smallest", "fastest", "balanced")
#: slope above a threshold: where both bend the reward, and where one of them is all that is sought
BALANCED_RHO, OTHER_RHO = 0.1, 0.01
#: targets that are sought up to the drop and no further, and the weight of accuracy below it
KEEP_DROP, STEEP, USUAL_BETA = ("smallest", "fastest"), 300.0, 15.0
#: weight of latency where speed is sought, and the share of the teacher's time that is asked for
#: where nobody names any
FASTEST_GAMMA, USUAL_SPEED = 5.0, 0.05
#: accuracy that a nat of cross entropy is worth on n rows, times √n
WORTH = 20.0


def reward_of(
    spec: JobSpec, teacher_kb: float, teacher_accuracy: float, teacher_ms: float | None = None
) -> Reward:
    """The reward with its thresholds taken from target and limits where the job names none.

    ``teacher_ms`` are the teacher's milliseconds for one input, where they are known.
    """
    limit = 0.95 if spec.max_kb is None else 1 - spec.max_kb / teacher_kb
    if spec.target == "accurate" and spec.max_kb is None and (spec.max_macs or spec.max_ms):
        limit = 0.0  # what is limited is something else than size
    l0 = spec.max_ms if spec.l0 is None else spec.l0
    if l0 is None and teacher_ms is not None:
        l0 = USUAL_SPEED * teacher_ms
    fastest = spec.target == "fastest" and not spec.gamma and l0 is not None
    # what is sought never gets beyond its threshold, so that more of it always counts in full
    c0 = 1.0 if spec.target == "smallest" else max(0.0, limit)
    a0 = 1.0 if spec.target == "accurate" else max(0.0, teacher_accuracy - drop_of(spec))
    settings = {
        "alpha": spec.alpha,
        "beta": beta_of(spec),
        "c0": c0 if spec.c0 is None else spec.c0,
        "a0": a0 if spec.a0 is None else spec.a0,
        "rho": rho_of(spec),
        "teacher": teacher_accuracy,
        "gamma": FASTEST_GAMMA if fastest else spec.gamma,
    }
    return make_reward(spec.reward, settings if l0 is None else settings | {"l0": l0})


def beta_of(spec: JobSpec) -> float:
    """The weight of accuracy that a job asks for, or the one of its target."""
    if spec.beta is not None:
        return spec.beta
    return STEEP if spec.target in KEEP_DROP else USUAL_BETA


def rho_of(spec: JobSpec) -> float:
    """The slope above a threshold that a job asks for, or the one of its target."""
    if spec.rho is not None:
        return spec.rho
    return BALANCED_RHO if spec.target == "balanced" else OTHER_RHO


def decided_by_accuracy(target: str, reward: Reward) -> bool:
    """Whether the last round of a search goes by accuracy alone, and not by the reward."""
    return target == "accurate" and isinstance(reward, ThresholdReward) and reward.a0 >= 1


def judged(accuracy: float, cross_entropy: Values, rows: int) -> Values:
    """What those who were trained in full are ordered by where accuracy alone is sought: more is
    better.

    On few rows several are right about equally many, and the cross entropy tells more. The more
    rows there are the more an accuracy says by itself, so the weight of the cross entropy falls as
    the standard error of an accuracy does.

    Args:
        accuracy: on the validation part.
        cross_entropy: in nats, on the same rows; one number, or one for each candidate.
        rows: of that part.
    """
    return accuracy - min(1.0, WORTH / math.sqrt(max(1, rows))) * cross_entropy


def limits_of(spec: JobSpec, teacher_accuracy: float) -> Limits:
    """The hard limits of a job. A drop that nobody asked for is a limit only where all else is
    sought at its expense."""
    bound = spec.max_drop is not None or spec.target in KEEP_DROP
    least = teacher_accuracy - drop_of(spec) if bound else None
    return Limits(spec.max_kb, spec.max_macs, spec.max_ms, least)


def drop_of(spec: JobSpec) -> float:
    """The drop that is asked for, or else the one at which the reward bends."""
    return USUAL_DROP if spec.max_drop is None else spec.max_drop
