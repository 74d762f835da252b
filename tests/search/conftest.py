"""Instances small enough to work through by hand, and one thread for torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from envs.reward import ThresholdReward
from search.samplers.single_threaded import one_thread
from search.space.space import Space

#: remove, halve, keep
HALVES = Moves((0.0, 0.5, 1.0), "o")
#: .05 and .1 of the toy's 10 outputs are both 1
FINE = Moves((0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), "o")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def toy() -> NetSpec:
    return toy_spec()


@pytest.fixture(scope="session")
def space(toy: NetSpec) -> Space:
    """Every student of the toy network that removing and halving can give; no size limit."""
    return Space(toy, HALVES, ThresholdReward())
