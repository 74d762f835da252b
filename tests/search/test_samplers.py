"""The contract that every sampler keeps; resuming a search rests on it."""

from __future__ import annotations

import numpy as np
import pytest

from envs.netspec import NetSpec
from envs.reward import ThresholdReward
from search.limits import Limits
from search.samplers import SAMPLERS, Outcome, Sampler
from search.space import Actions, Space
from tests.search.conftest import HALVES

MAX_KB = 20.0  # the toy network has about 25 KB


def paid(actions: Actions, scale: float = 1.0) -> Outcome:
    """An outcome that is known by heart."""
    return Outcome(actions, sum(actions) / 20, scale * sum(actions) / 10)


@pytest.fixture(scope="module")
def tight(toy: NetSpec) -> Space:
    return Space(toy, HALVES, ThresholdReward(), Limits(MAX_KB))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
class TestEverySampler:
    def make(self, name: str, space: Space, seed: int = 0) -> Sampler:
        # a large rate, so that what was told decides what comes next
        return SAMPLERS[name](space, seed, agent_rate=0.5, agent_units=4, baseline_decay=0.9)

    def play(self, sampler: Sampler, batches: int, scale: float = 1.0) -> list[list[Actions]]:
        played = []
        for _ in range(batches):
            played.append(sampler.propose(4))
            sampler.tell([paid(actions, scale) for actions in played[-1]])
        return played

    def test_proposals_are_legal_and_within_the_limit(self, name: str, tight: Space) -> None:
        for batch in self.play(self.make(name, tight), 6):
            assert len(batch) == 4
            for actions in batch:
                assert len(actions) == len(tight.layers)
                assert all(type(action) is int for action in actions)
                assert tight.masks[np.arange(len(actions)), actions].all()
                assert tight.cost(actions).kb <= MAX_KB

    def test_one_seed_one_sequence(self, name: str, tight: Space) -> None:
        one, again = (self.play(self.make(name, tight, 7), 5) for _ in range(2))
        assert one == again
        assert self.play(self.make(name, tight, 8), 5) != one

    def test_a_replay_restores_it(self, name: str, tight: Space) -> None:
        first = self.make(name, tight)
        played = self.play(first, 3)
        replayed = self.make(name, tight)
        for batch in played:
            assert replayed.propose(len(batch)) == batch
            replayed.tell([paid(actions) for actions in batch])
        assert self.play(replayed, 4) == self.play(first, 4)

    def test_rewards_may_come_late_and_in_any_order(self, name: str, tight: Space) -> None:
        def stream(sampler: Sampler) -> list[Actions]:
            made = [actions for _ in range(5) for actions in sampler.propose(1)]
            # two are still out while the rewards of three arrive
            for arrived in ([4, 0, 2], [5, 3, 1]):
                sampler.tell([paid(made[place]) for place in arrived])
                made += sampler.propose(1)
            return made

        assert stream(self.make(name, tight)) == stream(self.make(name, tight))

    def test_it_leaves_the_global_generators_alone(self, name: str, tight: Space) -> None:
        import torch

        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        self.play(self.make(name, tight), 2)
        drawn = float(torch.rand(())), float(np.random.rand())  # noqa: NPY002
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        assert drawn == (float(torch.rand(())), float(np.random.rand()))  # noqa: NPY002


def test_a_learner_hears_its_rewards_and_random_does_not(space: Space) -> None:
    def after(name: str, reward: float) -> list[Actions]:
        sampler = SAMPLERS[name](space, 0, agent_rate=5.0, agent_units=4, baseline_decay=0.9)
        batch = sampler.propose(4)
        sampler.tell([Outcome(actions, 0.5, reward * index) for index, actions in enumerate(batch)])
        return sampler.propose(8)

    assert after("random", 0.0) == after("random", 1.0)
    assert after("reinforce", 0.0) != after("reinforce", 1.0)


def test_a_limit_too_tight_for_luck_does_not_stall(toy: NetSpec, space: Space) -> None:
    least = space.cost(space.smallest).kb
    narrow = Space(toy, HALVES, ThresholdReward(), Limits(least))
    sampler = SAMPLERS["random"](narrow, 0)
    assert all(narrow.cost(actions).kb == least for actions in sampler.propose(2))
