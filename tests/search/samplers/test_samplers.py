"""The contract that every sampler keeps; resuming a search rests on it."""

from __future__ import annotations

from copy import copy
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadInput
from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.reward import ThresholdReward
from search.samplers import SAMPLERS, Observation, Sampler
from search.samplers.dedup import INSURANCE, Known
from search.samplers.evolution import Evolution
from search.samplers.reinforce import Reinforce
from search.space.limits import Limits
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint
from tests.search.conftest import HALVES
from tests.search.evaluators import FakeEvaluator, play

MAX_KB = 20.0  # the toy network has about 25 KB
#: batches of four, all of whose outcomes every learner awaits before it uses them
STARTUP = 3
#: those that propose nothing twice as long as they find something new
NOVEL = {name for name in SAMPLERS if name not in ("random", "reinforce")}


def paid(actions: Actions) -> Observation:
    """An outcome that is known by heart; some fail, and some are stopped at a rung."""
    if actions[:2] == (1, 0):
        return Observation(actions, 0.0, 0.0, failed=True)
    pruned = actions[:2] == (1, 1)
    return Observation(actions, sum(actions) / 20, sum(actions) / 10, pruned=pruned)


def everything(space: Space) -> list[Actions]:
    choices = [np.flatnonzero(mask).tolist() for mask in space.masks]
    return [actions for actions in product(*choices) if space.fits(actions)]


@pytest.fixture(scope="module")
def tight(toy: NetSpec) -> Space:
    return Space(toy, HALVES, ThresholdReward(), Limits(MAX_KB))


#: one that probes untrained students, where the others' space has nobody to ask
PROBING = "model-based, probing"


@pytest.mark.parametrize("name", sorted([*SAMPLERS, PROBING]))
class TestEverySampler:
    def make(self, name: str, space: Space, seed: int = 0) -> Sampler:
        if name == PROBING:
            name, space = "model-based", copy(space)
            space.probe = lambda actions: actions.mean(1) / 2
        # a large rate, so that what was told decides what comes next
        return SAMPLERS[name](
            space, seed, agent_rate=0.5, agent_units=4, baseline_decay=0.9, imagined=2, probes=1
        )

    def play(self, sampler: Sampler, batches: int, count: int = 4) -> list[list[Actions]]:
        played = []
        for _ in range(batches):
            played.append(sampler.propose(count))
            sampler.tell([paid(actions) for actions in played[-1]])
        return played

    def test_proposals_are_legal_and_within_the_limit(self, name: str, tight: Space) -> None:
        sampler = self.make(name, tight)
        # what a model proposes takes its time, so that there is little of it here
        for batch in (*self.play(sampler, STARTUP), *self.play(sampler, 2, count=1)):
            for actions in batch:
                assert len(actions) == len(tight.layers)
                assert all(type(action) is int for action in actions)
                assert tight.masks[np.arange(len(actions)), actions].all()
                assert tight.cost(actions).kb <= MAX_KB

    def test_one_seed_one_sequence(self, name: str, tight: Space) -> None:
        one, again, other = (self.play(self.make(name, tight, seed), STARTUP) for seed in (7, 7, 8))
        assert one == again
        # so small a space is probed as a whole, whatever the seed
        assert other != one or name == PROBING

    def test_a_replay_restores_it(self, name: str, tight: Space) -> None:
        first = self.make(name, tight)
        played = self.play(first, STARTUP)
        replayed = self.make(name, tight)
        for batch in played:
            assert replayed.propose(len(batch)) == batch
            replayed.tell([paid(actions) for actions in batch])
        assert self.play(replayed, 2, count=1) == self.play(first, 2, count=1)

    def test_rewards_may_come_late_and_in_any_order(self, name: str, tight: Space) -> None:
        def stream(sampler: Sampler) -> list[Actions]:
            self.play(sampler, STARTUP)
            made = [actions for _ in range(3) for actions in sampler.propose(1)]
            # one is still out while the rewards of two arrive
            sampler.tell([paid(made[place]) for place in (2, 0)])
            return made + sampler.propose(1)

        assert stream(self.make(name, tight)) == stream(self.make(name, tight))

    def test_a_checkpoint_restores_it(self, name: str, tight: Space) -> None:
        first = self.make(name, tight)
        self.play(first, STARTUP)
        out = first.propose(2)
        first.tell([paid(out[1])])
        saved = first.save().to_bytes()

        again = self.make(name, tight)
        again.restore(Checkpoint.from_bytes(saved))
        assert again.save().to_bytes() == saved
        following = []
        for sampler in (first, again):
            # what was out when it was saved arrives after it
            sampler.tell([paid(out[0])])
            following.append(sampler.propose(2))
        assert following[0] == following[1]

    def test_a_checkpoint_of_something_else_is_refused(self, name: str, tight: Space) -> None:
        sampler = self.make(name, tight)
        with pytest.raises((ValueError, KeyError)):
            sampler.restore(Checkpoint({}, {"epoch": 3}))

    def test_it_leaves_the_global_generators_alone(self, name: str, tight: Space) -> None:
        import torch

        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        sampler = self.make(name, tight)
        self.play(sampler, STARTUP)
        self.play(sampler, 1, count=1)
        drawn = float(torch.rand(())), float(np.random.rand())  # noqa: NPY002
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        assert drawn == (float(torch.rand(())), float(np.random.rand()))  # noqa: NPY002

    def test_where_all_fail_it_goes_on(self, name: str, tight: Space) -> None:
        sampler = self.make(name, tight)
        for count in (4, 4, 4, 1):
            batch = sampler.propose(count)
            sampler.tell([Observation(actions, 0.0, 0.0, failed=True) for actions in batch])

    def test_a_space_that_is_used_up_ends_the_search(
        self, name: str, toy: NetSpec, tmp_path: Path
    ) -> None:
        moves = Moves(HALVES.pool, "o", protect=("inner", "down"))
        space = Space(toy, moves, ThresholdReward())
        count = len(everything(space))
        evaluator = FakeEvaluator()
        _, records = play(space, tmp_path / "ledger", evaluator, self.make(name, space), budget=99)
        # duplicates were answered for nothing, and 50 of them in a row ended it
        assert len(evaluator.asked) == len(set(evaluator.asked)) == len(records) <= count
        if name in NOVEL or name == PROBING:
            assert len(records) == count

    def test_what_it_is_given_comes_first(self, name: str, tight: Space) -> None:
        given = everything(tight)[5:8]
        first = self.make(name, tight)
        first.begin_with(given)
        assert first.propose(2) == given[:2]
        # one of them is still to come, and two are out
        again = self.make(name, tight)
        again.begin_with(given)  # as a job that is resumed does, whatever it restores
        again.restore(Checkpoint.from_bytes(first.save().to_bytes()))
        following = []
        for sampler in (first, again):
            batch = sampler.propose(2)
            assert batch[0] == given[2]
            sampler.tell([paid(actions) for actions in (*given, batch[1])])
            following.append([batch[1], *sampler.propose(1)])
        assert following[0] == following[1]
        if name in NOVEL or name == PROBING:
            known = {tight.key(actions) for actions in given}
            assert not known & {tight.key(actions) for actions in following[0]}

    def test_evidence_of_earlier_jobs(self, name: str, tight: Space) -> None:
        cold, warm, again = (self.make(name, tight) for _ in range(3))
        evidence = [paid(actions) for actions in everything(tight)[::3]]
        used = warm.warm(evidence)
        assert again.warm(evidence) == used
        proposed = self.play(warm, 1)
        assert proposed == self.play(again, 1)
        if name not in NOVEL and name != PROBING:
            assert used == 0
            assert proposed == self.play(cold, 1)
            return
        assert used == len(evidence)
        # the best of it is made sure of; nothing else of it is proposed
        told = {observation.actions for observation in evidence}
        whole = [
            observation
            for observation in evidence
            if not (observation.failed or observation.pruned)
        ]
        best = max(whole, key=lambda observation: observation.reward)
        assert proposed[0][0] in {o.actions for o in whole if o.reward == best.reward}
        assert [actions in told for actions in proposed[0]] == [True] * INSURANCE + [False]

    def test_it_may_know_all_of_its_space_before_it_begins(self, name: str, tight: Space) -> None:
        sampler = self.make(name, tight)
        sampler.warm([paid(actions) for actions in everything(tight)])
        assert len(sampler.propose(4)) == 4


@pytest.mark.parametrize("name", sorted(NOVEL))
def test_nothing_is_proposed_twice_as_long_as_there_is_something_new(
    name: str, toy: NetSpec
) -> None:
    # .05 and .1 of 10 outputs are both 1
    space = Space(toy, Moves((0.05, 0.1, 1.0), "o"), ThresholdReward())
    known, networks = Known(space), set(map(space.key, everything(space)))
    assert (len(networks), len(everything(space))) == (12, 27)
    sampler = SAMPLERS[name](space, 0)
    for _ in range(len(networks)):
        (actions,) = sampler.propose(1)
        assert actions not in known
        known.add(actions)
        sampler.tell([paid(actions)])


def test_the_oldest_leaves_the_population_however_good_it_is(space: Space) -> None:
    sampler = Evolution(space, 0, population=2, tournament=2)
    best, other, third = (2, 2, 2, 2, 2), (1, 1, 2, 2, 2), (0, 0, 2, 2, 2)

    def parents_of(actions: Actions) -> list[Actions]:
        """Those of which it is a child: one layer differs."""
        return [p for p in (best, other, third) if sum(map(int.__ne__, p, actions)) == 1]

    sampler.tell([Observation(best, 0.9, 9.0), Observation(other, 0.5, 5.0)])
    assert all(best in parents_of(actions) for actions in sampler.propose(3))
    sampler.tell([Observation(third, 0.1, 1.0)])
    assert all(other in parents_of(actions) for actions in sampler.propose(2))


def test_a_tournament_larger_than_the_population_is_refused(space: Space) -> None:
    with pytest.raises(BadInput, match="5 of 4"):
        Evolution(space, 0, population=4, tournament=5)


def test_a_learner_hears_its_rewards_and_random_does_not(space: Space) -> None:
    def after(name: str, reward: float) -> list[Actions]:
        sampler = SAMPLERS[name](space, 0, agent_rate=5.0, agent_units=4, baseline_decay=0.9)
        batch = sampler.propose(4)
        sampler.tell(
            [Observation(actions, 0.5, reward * index) for index, actions in enumerate(batch)]
        )
        return sampler.propose(8)

    assert after("random", 0.0) == after("random", 1.0)
    assert after("reinforce", 0.0) != after("reinforce", 1.0)


def test_the_agent_learns_from_its_own_episodes_alone(space: Space) -> None:
    agent = Reinforce(space, 0, units=4, learning_rate=1.0)
    given = everything(space)[:2]
    agent.begin_with(given)
    *theirs, own = agent.propose(3)
    assert theirs == given
    before = agent.save()
    agent.tell([Observation(actions, 0.9, 5.0) for actions in given])
    for name, value in agent.save().arrays.items():
        np.testing.assert_array_equal(value, before.arrays[name])
    assert agent.save().meta["baseline"] is None
    agent.tell([Observation(own, 0.5, 2.0)])
    assert agent.save().meta["baseline"] == 2.0
    # the same candidate, drawn by the policy, is an episode as any other
    agent.tell([Observation(given[0], 0.9, 5.0)])
    assert agent.save().meta["baseline"] == pytest.approx(0.9 * 2 + 0.1 * 5)


def test_a_limit_too_tight_for_luck_does_not_stall(toy: NetSpec, space: Space) -> None:
    least = space.cost(space.smallest).kb
    narrow = Space(toy, HALVES, ThresholdReward(), Limits(least))
    sampler = SAMPLERS["random"](narrow, 0)
    assert all(narrow.cost(actions).kb == least for actions in sampler.propose(2))
