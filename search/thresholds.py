"""From a job's limits to its reward; loads neither torch nor Optuna, so that readers are quick."""

from __future__ import annotations

from envs.reward import REWARDS, Reward
from search.spec import JobSpec


def reward_of(spec: JobSpec, teacher_kb: float, teacher_accuracy: float) -> Reward:
    """The reward with its thresholds taken from the limits where the job names none."""
    limit = 0.95 if spec.max_kb is None else 1 - spec.max_kb / teacher_kb
    options = {
        "alpha": spec.alpha,
        "beta": spec.beta,
        "c0": max(0.0, limit) if spec.c0 is None else spec.c0,
        "a0": max(0.0, teacher_accuracy - spec.max_drop) if spec.a0 is None else spec.a0,
    }
    if spec.reward == "threshold":
        options["rho"] = spec.rho
    return REWARDS[spec.reward](**options)
