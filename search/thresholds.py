"""From a job's limits to its reward; loads neither torch nor Optuna, so that readers are quick."""

from __future__ import annotations

from envs.reward import Reward, make_reward
from search.limits import USUAL_DROP, Limits
from search.spec import JobSpec


def reward_of(spec: JobSpec, teacher_kb: float, teacher_accuracy: float) -> Reward:
    """The reward with its thresholds taken from the limits where the job names none."""
    limit = 0.95 if spec.max_kb is None else 1 - spec.max_kb / teacher_kb
    l0 = spec.max_ms if spec.l0 is None else spec.l0
    settings = {
        "alpha": spec.alpha,
        "beta": spec.beta,
        "c0": max(0.0, limit) if spec.c0 is None else spec.c0,
        "a0": max(0.0, teacher_accuracy - drop_of(spec)) if spec.a0 is None else spec.a0,
        "rho": spec.rho,
        "teacher": teacher_accuracy,
        "gamma": spec.gamma,
    }
    return make_reward(spec.reward, settings if l0 is None else settings | {"l0": l0})


def limits_of(spec: JobSpec, teacher_accuracy: float) -> Limits:
    """The hard limits of a job. A drop that nobody asked for bends the reward and is no limit."""
    least = None if spec.max_drop is None else teacher_accuracy - spec.max_drop
    return Limits(spec.max_kb, spec.max_macs, spec.max_ms, least)


def drop_of(spec: JobSpec) -> float:
    """The drop that is asked for, or else the one at which the reward bends."""
    return USUAL_DROP if spec.max_drop is None else spec.max_drop
