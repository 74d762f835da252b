"""Carrying a surrogate to another network shows where that helps, and where it harms."""

from __future__ import annotations

from itertools import product

import numpy as np

from benchmarks.quality.transfer import Known, compared
from envs.gym.toy import toy_spec
from envs.reward import ThresholdReward
from search.samplers.features import Features
from search.space.space import Space
from tests.search.conftest import HALVES


def _known(name: str, sign: float) -> Known:
    """All candidates of the toy, where size decides how often the error is halved, and little
    more: a ripple that tells nothing keeps four candidates from saying it all."""
    space = Space(toy_spec(), HALVES, ThresholdReward())
    legal = [np.flatnonzero(mask) for mask in space.masks]
    seen = Features(space)(np.array(list(product(*legal))))
    ripple = 0.3 * np.random.default_rng(0).normal(size=len(seen))
    return Known(name, seen, sign * seen.whole[:, 0] + ripple)


def test_another_network_helps_as_far_as_costs_mean_the_same_to_it() -> None:
    target = _known("other", 1.0)
    alone, gains = compared(_known("one", 1.0), target, count=6, seeds=4)
    _, noise = compared(_known("one", 0.0), target, count=6, seeds=4)
    mean, low, high = gains["mean"]

    assert alone < 0.95  # six candidates leave something to be told
    assert 0 < low <= mean <= high
    assert noise["mean"][0] < mean
