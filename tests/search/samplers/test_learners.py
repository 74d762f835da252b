"""Learners find what pays in a toy whose optimum is known, because all of it can be counted out.

Costs are exact and accuracies a formula, so that hundreds of candidates take a second.
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from envs.compression.moves import PRESETS, Moves
from envs.compression.surgery import Inheritance
from envs.fx_import.trace import describe, trace
from envs.reward import ThresholdReward
from search.samplers import SAMPLERS, Observation, Sampler
from search.samplers.dedup import INSURANCE, uniform
from search.samplers.reinforce import Reinforce
from search.scheduling.probe import IMAGES, LinearProbe
from search.space.limits import Limits
from search.space.space import Actions, Space
from teachers.formats import zoo


class Toy:
    """A space with an accuracy that saturates in the coefficient of every layer: each costs
    ``share`` of accuracy where it is removed, and less and less as it widens."""

    def __init__(self, space: Space, shares: list[float], rates: list[float]) -> None:
        self.space, self.shares, self.rates = space, np.array(shares), np.array(rates)
        choices = [np.flatnonzero(mask).tolist() for mask in space.masks]
        self.rewards = {actions: self.observation(actions).reward for actions in product(*choices)}
        self.optimum = max(self.rewards.values())
        #: what a uniform draw brings
        self.mean = float(np.mean(list(self.rewards.values())))

    def observation(self, actions: Actions) -> Observation:
        widths = np.array(self.space.moves.pool)[list(actions)]
        accuracy = float(0.99 - (self.shares * np.exp(-self.rates * widths)).sum())
        return Observation(actions, accuracy, self.space.reward_of(actions, accuracy))


@pytest.fixture(scope="module")
def plain() -> Toy:
    """Four convolutions and the paper's six coefficients: 1,296 candidates, of which 3 have 95 %
    of the optimum."""
    module = zoo.build("small_cnn", input_shape=(1, 8, 8), classes=10)
    moves = Moves((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "o")
    space = Space(trace(module, (1, 8, 8)), moves, ThresholdReward(c0=0.8, a0=0.9))
    toy = Toy(space, [0.3, 0.5, 0.2, 0.4, 0], [6, 4, 9, 5, 1])
    assert len(toy.rewards) == 1296
    assert sum(reward >= 0.95 * toy.optimum for reward in toy.rewards.values()) == 3
    return toy


def found(sampler: Sampler, toy: Toy, budget: int) -> float:
    """The best of ``budget`` proposals, as a share of the optimum."""
    top = 0.0
    for _ in range(budget // 4):
        observations = [toy.observation(actions) for actions in sampler.propose(4)]
        sampler.tell(observations)
        top = max(top, *(observation.reward for observation in observations))
    return top / toy.optimum


def median(name: str, toy: Toy, budget: int, seeds: int) -> float:
    return float(
        np.median([found(SAMPLERS[name](toy.space, s), toy, budget) for s in range(seeds)])
    )


# a uniform draw comes to it once in 432: 100 of them do so in one run of five
@pytest.mark.parametrize(
    ("name", "budget", "seeds"), [("evolution", 100, 5), ("nsga2", 120, 3), ("tpe", 40, 3)]
)
def test_it_comes_to_95_percent_of_the_optimum(
    plain: Toy, name: str, budget: int, seeds: int
) -> None:
    assert median(name, plain, budget, seeds) >= 0.95
    assert median("random", plain, budget, seeds) < 0.9


@pytest.mark.long
def test_the_gaussian_process_too(plain: Toy) -> None:
    assert median("gp", plain, 60, 3) >= 0.95


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_proposing_takes_less_than_a_second_with_500_candidates_behind_it(name: str) -> None:
    """Seconds of one processor, on a ResNet-18 with 20 layers to decide on; probing included."""
    described = describe(zoo.build("resnet18", input_shape=(1, 28, 28), classes=10), (1, 28, 28))
    network, moves, noise = described.spec, PRESETS["default"], np.random.default_rng(1)
    probe = LinearProbe(
        Inheritance.of(network, described.weights),
        moves,
        noise.normal(size=(IMAGES, 1, 28, 28)).astype(np.float32),
        noise.normal(size=(IMAGES, 10)).astype(np.float32),
        seed=0,
    )
    space = Space(network, moves, ThresholdReward(c0=0.977), Limits(1000), probe=probe)
    sampler = SAMPLERS[name](space, 0, agent_rate=1e-4, agent_units=64, baseline_decay=0.9)
    rng = np.random.default_rng(0)
    legal = [np.flatnonzero(mask) for mask in space.masks]
    told = []
    for number in range(500):
        actions = uniform(space, legal, rng)
        accuracy = float(0.99 - 0.5 * np.exp(-np.mean(actions)) + 0.003 * rng.normal())
        reward = space.reward_of(actions, accuracy)
        told.append(Observation(actions, accuracy, reward, key=f"{number:024x}"))
    if not sampler.warm(told):
        sampler.tell(told)
    sampler.propose(INSURANCE)
    seconds = []
    for _ in range(4):
        began = time.process_time()
        sampler.propose(1)
        seconds.append(time.process_time() - began)
    # others on the same machine make a second of its processor longer
    assert min(seconds) < 1


def test_the_policy_comes_to_propose_hardly_anything_else(space: Space) -> None:
    """The paper's agent with a rate ten thousand times its own and 480 episodes: not its best
    proposal, which luck would bring, but what all the last ones bring together."""
    gentle = Space(space.teacher, space.moves, ThresholdReward(alpha=5, beta=5, c0=0.5, a0=0.9))
    toy = Toy(gentle, [0.3, 0.1, 0.1, 0.1, 0], [3, 4, 3, 4, 1])
    agent = Reinforce(gentle, 0, learning_rate=1.0, units=16)
    assert toy.mean < 0.6 * toy.optimum
    brought: list[float] = []
    for _ in range(40):
        observations = [toy.observation(actions) for actions in agent.propose(12)]
        agent.tell(observations)
        brought.append(float(np.mean([observation.reward for observation in observations])))
    assert np.mean(brought[-5:]) >= 0.95 * toy.optimum
