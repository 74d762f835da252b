"""The parts of model-based search, each on something that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from envs.compression.cost import cost
from envs.compression.moves import PRESETS, Moves
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from envs.reward import ThresholdReward, TimedReward
from search.samplers.acquisition import GROWTH, LEAST_SMOOTH, MOST_SMOOTH, Acquisition, kept
from search.samplers.base import Observation
from search.samplers.features import Features
from search.samplers.model_based import REGION, ModelBased, Settings
from search.samplers.policy_trainer import PolicyTrainer, PolicyTraining
from search.samplers.single_threaded import SingleThreaded
from search.samplers.surrogate import MOST, Surrogate, accuracy_of, halvings
from search.samplers.variation import Variation
from search.samplers.zero_cost_proxy import SPREAD, ZeroCostProxy
from search.space.baselines import plain_students
from search.space.learning_curve import Expectation
from search.space.limits import Limits
from search.space.space import Space
from teachers.formats import zoo

FINE = Moves((0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), "o")
Batch = NDArray[np.int64]


@pytest.fixture(scope="module")
def fine(toy: NetSpec) -> Space:
    return Space(toy, FINE, ThresholdReward(c0=0.6, a0=0.8))


def accuracies(space: Space, actions: Batch) -> NDArray[np.float64]:
    """A student's accuracy, were it a matter of how wide each layer is: it saturates."""
    places = actions / (len(space.moves.pool) - 1)
    found: NDArray[np.float64] = 1 - np.exp(-1 - 3 * places @ np.array([0.4, 0.1, 0.1, 0.4, 0.0]))
    return found


def observations(space: Space, actions: Batch) -> list[Observation]:
    rows = [tuple(map(int, row)) for row in actions]
    return [
        Observation(row, float(accuracy), space.reward_of(row, float(accuracy)))
        for row, accuracy in zip(rows, accuracies(space, actions), strict=True)
    ]


def drawn(space: Space, count: int, seed: int = 0) -> Batch:
    return np.unique(Variation(space).drawn(count, np.random.default_rng(seed)), axis=0)


# --- what the surrogate sees


def test_features_worked_by_hand(toy: NetSpec) -> None:
    space = Space(toy, Moves((0.0, 0.5, 1.0), "o"), ThresholdReward())
    seen = Features(space)(np.array([[2, 2, 2, 2, 2], [1, 0, 0, 2, 2]]))
    # places of stem, inner, outer ("remove" and "keep" alone) and down; the head has no choice.
    # Then the marks of those four: all can be removed
    assert seen.layers.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [0.5, 0, 0, 1, 0, 1, 1, 0]]
    assert seen.whole[0].tolist() == [0, 0, 0, 1]  # the teacher itself: log₂ 1, and all layers
    assert seen.whole[1, 3] == 0.6
    spent = space.cost((1, 0, 0, 2, 2))
    assert seen.whole[1, 0] == pytest.approx(np.log2(spent.bytes / space.teacher_cost.bytes))


# --- the surrogate


@given(st.floats(0, 1))
def test_halvings_are_undone(accuracy: float) -> None:
    (again,) = accuracy_of(halvings(np.array([accuracy])))
    assert again == pytest.approx(accuracy, abs=1e-9)


def test_it_ranks_what_it_has_not_seen(fine: Space) -> None:
    actions = drawn(fine, 300)
    known, asked = actions[::4], np.delete(actions, np.s_[::4], axis=0)
    features, surrogate = Features(fine), Surrogate()
    surrogate.fit(features(known), halvings(accuracies(fine, known)))
    mean, spread = surrogate.predict(features(asked))
    truth = halvings(accuracies(fine, asked))
    assert np.corrcoef(mean, truth)[0, 1] > 0.98
    # and says how far off it may be
    assert (np.abs(mean - truth) < 3 * np.hypot(spread, surrogate.noise)).mean() > 0.95
    there, _ = surrogate.predict(features(known))
    np.testing.assert_allclose(there, halvings(accuracies(fine, known)), atol=0.2)


def test_where_it_has_been_it_is_surer(fine: Space) -> None:
    features, surrogate = Features(fine), Surrogate()
    known = np.array([[6, 6, 6, 6, 6], [5, 6, 6, 6, 6], [6, 5, 6, 5, 6], [5, 5, 6, 6, 6]])
    surrogate.fit(features(known), np.array([3.0, 2.9, 2.8, 2.7]))
    _, spread = surrogate.predict(features(np.array([[6, 6, 6, 5, 6], [1, 0, 0, 1, 6]])))
    assert spread[0] < 0.5 * spread[1]


def test_what_is_supposed_makes_it_surer_and_can_be_taken_back(fine: Space) -> None:
    actions = drawn(fine, 60)
    features, surrogate = Features(fine), Surrogate()
    surrogate.fit(features(actions[:20]), halvings(accuracies(fine, actions[:20])))
    asked = features(actions[20:21])
    (before,), (spread,) = surrogate.predict(asked)
    surrogate.condition_on(asked)
    (after,), (less,) = surrogate.predict(asked)
    assert after == pytest.approx(before, abs=1e-6)
    assert less < spread
    surrogate.forget()
    np.testing.assert_allclose(np.ravel(surrogate.predict(asked)), [before, spread])


def test_parameters_stay_where_they_are_not_tuned(fine: Space) -> None:
    actions = drawn(fine, 60)
    features, surrogate = Features(fine), Surrogate()
    surrogate.fit(features(actions[:20]), halvings(accuracies(fine, actions[:20])))
    tuned = surrogate.parameters.copy()
    surrogate.fit(features(actions), halvings(accuracies(fine, actions)), tune=False)
    np.testing.assert_array_equal(surrogate.parameters, tuned)


# --- what is expected of candidates


def test_expected_improvement_is_a_mean_over_many_outcomes(fine: Space) -> None:
    actions = drawn(fine, 80)
    acquisition = Acquisition(fine)
    acquisition.fit(observations(fine, actions[:12]))
    asked = actions[12:40]
    mean, spread = acquisition.surrogate.predict(acquisition.features(asked))
    best = max(
        fine.reward.log(
            accuracy_of(acquisition.surrogate.predict(acquisition.features(row[None]))[0]),
            np.array([1 - fine.cost(tuple(map(int, row))).bytes / fine.teacher_cost.bytes]),
        )[0]
        for row in actions[:12]
    )
    rng = np.random.default_rng(0)
    for place, row in enumerate(asked):
        z = rng.normal(mean[place], spread[place], 40_000)
        ratio = 1 - fine.cost(tuple(map(int, row))).bytes / fine.teacher_cost.bytes
        gains = fine.reward.log(accuracy_of(z), np.full(len(z), ratio)) - best
        expected = np.maximum(gains, 0).mean()
        found = np.exp(acquisition.log_ei(row[None])[0])
        # smoothing adds at most τ·log 2
        assert found == pytest.approx(expected, rel=0.05, abs=0.008)


def test_the_closer_the_best_are_the_less_their_improvement_is_smoothed(fine: Space) -> None:
    actions = drawn(fine, 40)[:30]

    def tau(accuracy: Callable[[Batch], NDArray[np.float64]]) -> float:
        flat = Space(fine.teacher, FINE, ThresholdReward(alpha=0, a0=1.0))
        rows = [tuple(map(int, row)) for row in actions]
        told = [
            Observation(row, float(a), flat.reward_of(row, float(a)))
            for row, a in zip(rows, accuracy(actions), strict=True)
        ]
        acquisition = Acquisition(flat)
        acquisition.fit(told)
        return acquisition._tau

    assert tau(lambda asked: np.full(len(asked), 0.9)) == LEAST_SMOOTH
    assert tau(lambda asked: accuracies(fine, asked)) == MOST_SMOOTH
    # log R rises by 15 for 1 of accuracy; the twelve best are some .004 apart, a tenth of .06
    between = tau(lambda asked: 0.9 + 0.08 * accuracies(fine, asked))
    assert LEAST_SMOOTH < between < MOST_SMOOTH


def test_before_anything_is_distilled_costs_alone_are_guessed_by(toy: NetSpec) -> None:
    expectation = Expectation(teacher=0.98, images=1, full=1, gain=0.0, rows=1000)
    space = Space(toy, FINE, ThresholdReward(c0=0.5, a0=0.9), expectation=expectation)
    whole, part = np.array([6, 6, 6, 6, 6]), np.array([2, 2, 6, 2, 6])
    share = space.cost(tuple(map(int, part))).bytes / space.teacher_cost.bytes
    # the teacher's error of .02 grows 2^.3 times for each halving of the size
    error = 0.02 * (1 / share) ** GROWTH
    expected = space.reward.log(np.array([0.98, 1 - error]), np.array([0.0, 1 - share]))
    assert Acquisition(space).prior_mean(np.stack([whole, part])) == pytest.approx(expected)


def test_where_size_is_limited_the_first_are_not_the_smallest() -> None:
    module = zoo.build("resnet18", input_shape=(1, 14, 14), classes=10)
    network = trace(module, (1, 14, 14))
    kb = cost(network).kb
    expectation = Expectation(teacher=0.99, images=1, full=1, gain=0.0, rows=1000)
    # a fiftieth of the teacher: all candidates keep C0, so none gains much by being smaller
    reward = ThresholdReward(c0=0.98, a0=0.98)
    space = Space(network, PRESETS["default"], reward, Limits(kb / 50), expectation=expectation)
    for seed in range(3):
        first = ModelBased(space, seed).propose(8)
        sizes = np.array([space.cost(actions).kb for actions in first])
        assert np.median(sizes) > kb / 50 / 4
        assert len(set(first)) == 8


def test_the_excess_over_a_limit_is_the_log_of_the_ratio(toy: NetSpec) -> None:
    tight = Space(toy, FINE, ThresholdReward(), Limits(max_kb=12.0))
    actions = drawn(tight, 60)
    for row, excess in zip(actions, Acquisition(tight).excess(actions), strict=True):
        kb = tight.cost(tuple(map(int, row))).kb
        assert excess == pytest.approx(max(0.0, np.log(kb / 12.0)))


def test_a_long_history_is_cut_to_its_best_and_its_last() -> None:
    rewards = np.r_[9.0, np.zeros(MOST), np.ones(49)]
    told = [Observation((place,), 0.5, float(reward)) for place, reward in enumerate(rewards)]
    left = kept(told)
    assert len(left) == MOST
    assert left[0] is told[0]
    assert left[-MOST // 2 :] == told[-MOST // 2 :]
    assert kept(told[:MOST]) == told[:MOST]


# --- where candidates come from


def test_neighbours_differ_in_one_layer(fine: Space) -> None:
    centre = np.array([3, 3, 6, 3, 6])
    around = Variation(fine).neighbours(centre)
    assert ((around != centre).sum(1) == 1).all()
    # up, down and removed for three layers; `outer` can only be removed, the head not at all
    assert len(around) == 3 * 3 + 1
    assert all(fine.masks[np.arange(5), row].all() for row in around)


def test_draws_reach_every_size(fine: Space) -> None:
    kb = np.array([fine.cost(tuple(map(int, row))).kb for row in drawn(fine, 400)])
    assert kb.min() < 0.03 * fine.teacher_cost.kb
    assert kb.max() > 0.8 * fine.teacher_cost.kb


def test_children_are_legal_and_like_their_parents(fine: Space) -> None:
    parents = np.array([[3, 3, 6, 3, 6], [5, 5, 6, 5, 6]])
    children = Variation(fine).varied(parents, 300, np.random.default_rng(0))
    assert all(fine.masks[np.arange(5), row].all() for row in children)
    changed = (children[:, None] != parents).sum(2).min(1)
    assert 1 <= np.median(changed) <= 2


# --- the agent


def dreaming(space: Space, **settings: float) -> PolicyTrainer:
    options = {"units": 8, "episodes": 32, "rate": 0.03} | settings
    return PolicyTrainer(space, 0, PolicyTraining(**options))  # type: ignore[arg-type]


def test_the_agent_learns_what_its_episodes_pay(fine: Space) -> None:
    agent = dreaming(fine, updates=40)
    wide = agent.entropy()

    def stem_pays(actions: Batch) -> NDArray[np.float64]:
        return np.where(actions[:, 0] == 3, 0.99, 0.2)

    agent.learn(stem_pays, lambda a: np.zeros(len(a)), np.zeros((0, 5), int), np.zeros(0))
    assert (agent.sample(64)[:, 0] == 3).mean() > 0.6
    assert agent.entropy() < wide
    assert all(fine.masks[np.arange(5), row].all() for row in agent.sample(64))


def test_it_is_charged_for_breaking_a_limit(fine: Space) -> None:
    def narrow(charge: float) -> float:
        """Share of narrow stems, which pay, where a limit forbids them."""
        agent = dreaming(fine, updates=40, charge=charge)
        agent.learn(
            lambda actions: np.full(len(actions), 0.9),
            lambda actions: np.where(actions[:, 0] < 3, 1.0, 0.0),
            np.zeros((0, 5), int),
            np.zeros(0),
        )
        return float((agent.sample(64)[:, 0] < 3).mean())

    assert narrow(10.0) < 0.2
    assert narrow(0.0) > 0.8


def test_it_imitates_real_candidates_that_are_better_than_its_dreams(fine: Space) -> None:
    def after(reward: float) -> float:
        agent = dreaming(fine, updates=40, real=3.0)
        real = np.array([[1, 1, 6, 1, 6]])
        agent.learn(
            lambda actions: np.full(len(actions), 0.5),
            lambda actions: np.zeros(len(actions)),
            real,
            np.array([reward]),
        )
        return float((agent.sample(128)[:, 1] == 1).mean())

    assert after(1e3) > after(-1e3) + 0.2


def test_its_checkpoint_is_exact(fine: Space) -> None:
    def dream(agent: PolicyTrainer) -> Batch:
        agent.learn(
            lambda actions: accuracies(fine, actions),
            lambda actions: np.zeros(len(actions)),
            np.array([[1, 1, 6, 1, 6]]),
            np.array([0.0]),
        )
        return agent.sample(16)

    agent, other = dreaming(fine, updates=2), dreaming(fine, updates=2)
    dream(agent)
    other.take(agent.arrays())
    np.testing.assert_array_equal(dream(agent), dream(other))
    for one, same in zip(agent.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(one, same)


# --- all of it


def best_of(space: Space, settings: Settings, seed: int, budget: int) -> float:
    """The highest log-reward of ``budget`` candidates."""
    sampler = ModelBased(space, seed, settings)
    best = -np.inf
    for _ in range(budget // 4):
        told = observations(space, np.array(sampler.propose(4)))
        sampler.tell(told)
        best = max(best, *(np.log(observation.reward) for observation in told))
    return best


def searched(space: Space, settings: Settings, budget: int) -> float:
    """Share of the optimum's log-reward, over that of the worst, that a search reaches."""
    best = best_of(space, settings, 0, budget)
    legal = [np.flatnonzero(mask) for mask in space.masks]
    every = np.stack(np.meshgrid(*legal, indexing="ij"), -1).reshape(-1, len(legal))
    ratio = Acquisition(space).features(every).costs.bytes / space.teacher_cost.bytes
    all_rewards = space.reward.log(accuracies(space, every), 1 - ratio)
    return float((best - np.median(all_rewards)) / (all_rewards.max() - np.median(all_rewards)))


def test_what_breaks_the_limits_is_learnt_from_and_no_incumbent(toy: NetSpec) -> None:
    free = Space(toy, FINE, ThresholdReward(c0=0.6, a0=0.8))
    limit = free.teacher_cost.kb / 3
    space = Space(toy, FINE, free.reward, Limits(max_kb=limit))
    known = observations(space, drawn(space, 40))
    kept_to = [observation for observation in known if space.fits(observation.actions)]
    assert 0 < len(kept_to) < len(known)
    acquisition = Acquisition(space)
    acquisition.fit(known)
    best, _ = acquisition.best(len(known))
    assert {tuple(map(int, row)) for row in best} == {
        observation.actions for observation in kept_to
    }
    # where none keeps them, there is still something to begin with
    acquisition.fit([observation for observation in known if not space.fits(observation.actions)])
    assert len(acquisition.best(3)[0]) == 3


def test_it_searches_under_a_reward_of_latency(fine: Space, toy: NetSpec) -> None:
    def by_first(rows: Batch) -> NDArray[np.float64]:
        return np.asarray(1 + rows[:, 0], np.float64)

    reward = TimedReward(fine.reward, gamma=1.0, l0=2.0)
    space = Space(toy, FINE, reward, latency=by_first)
    sampler = ModelBased(
        space, 0, Settings(start=4, policy_training=PolicyTraining(units=8, updates=1))
    )
    for _ in range(3):
        sampler.tell(observations(space, np.array(sampler.propose(4))))


def test_asked_one_at_a_time_it_learns_after_every_few(
    fine: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(start=4, policy_training=PolicyTraining(units=8, updates=1))
    sampler, other = ModelBased(fine, 0, settings), ModelBased(fine, 0, settings)
    learnt = []
    train = sampler._train_policy

    def heard() -> None:
        learnt.append(len(sampler.observations))
        train()

    monkeypatch.setattr(sampler, "_train_policy", heard)
    for _ in range(14):
        sampler.tell(observations(fine, np.array(sampler.propose(1))))
    assert learnt == [4, 8, 12]
    # stopped between two of them, it goes on with the same
    other.restore(sampler.save())
    for _ in range(4):
        proposed = sampler.propose(1)
        assert other.propose(1) == proposed
        for one in (sampler, other):
            one.tell(observations(fine, np.array(proposed)))


def test_its_arithmetic_is_done_on_one_thread(fine: Space) -> None:
    seen = []

    class Watched(ModelBased):
        def _draw(self, rng: np.random.Generator) -> tuple[int, ...]:
            seen.append(torch.get_num_threads())
            return super()._draw(rng)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        SingleThreaded(Watched(fine, 0)).propose(2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_asking_what_it_predicts_changes_nothing(fine: Space) -> None:
    asked, left_alone = (
        ModelBased(fine, 3, Settings(policy_training=PolicyTraining(units=8, updates=1)))
        for _ in range(2)
    )
    with pytest.raises(ValueError, match="nothing was told"):
        asked.predict([(6, 6, 6, 6, 6)])
    for _ in range(4):
        proposed = asked.propose(4)
        assert proposed == left_alone.propose(4)
        for sampler in (asked, left_alone):
            sampler.tell(observations(fine, np.array(proposed)))
        said = asked.predict(proposed)
        assert said.shape == (4,)
        assert asked.diagnose()["entropy"] > 0
    # of what it was told it knows nearly what it was told
    assert said == pytest.approx(accuracies(fine, np.array(proposed)), abs=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(policy_training=PolicyTraining(units=16, updates=8)),
        Settings(agent=False),
        Settings(mutation=False, policy_training=PolicyTraining(units=16, updates=8)),
    ],
    ids=["whole", "no-agent", "no-mutation"],
)
def test_it_finds_the_optimum_of_a_space_that_is_known(fine: Space, settings: Settings) -> None:
    assert searched(fine, settings, 32) > 0.95


# --- what untrained students promise


def probed(space: Space, asked: list[Batch]) -> Space:
    """The space with somebody who says what accuracy a student will have, and keeps questions."""

    def probe(actions: Batch) -> NDArray[np.float64]:
        asked.append(actions)
        return accuracies(space, actions)

    found = copy(space)
    found.probe = probe
    return found


def test_promises_that_are_kept_lead_to_the_best_sooner(fine: Space) -> None:
    settings = Settings(agent=False)
    with_them = [best_of(probed(fine, []), settings, seed, 8) for seed in range(6)]
    without = [best_of(fine, settings, seed, 8) for seed in range(6)]
    assert np.mean(with_them) > np.mean(without)
    assert min(with_them) > min(without)


def test_so_many_are_probed_and_nobody_twice(fine: Space) -> None:
    asked: list[Batch] = []
    sampler = ModelBased(probed(fine, asked), 0, Settings(agent=False, probes=5))
    first = sampler.propose(1)
    # 8 times 5 before the first proposal
    assert sum(map(len, asked)) <= 40 + 1
    for _ in range(4):
        sampler.tell(observations(fine, np.array(first)))
        before = sum(map(len, asked))
        first = sampler.propose(1)
        assert sum(map(len, asked)) <= before + 5 + 1
    for _ in range(4):
        sampler.tell(observations(fine, np.array(first)))
        first = sampler.propose(1)
        # what is proposed was probed, and had most to expect of those that were
        assert first[0] in {tuple(map(int, row)) for row in np.concatenate(asked)}
    rows = [tuple(map(int, row)) for row in np.concatenate(asked)]
    assert len(rows) == len(set(rows))


def test_without_probes_nobody_is_asked(fine: Space) -> None:
    asked: list[Batch] = []
    sampler = ModelBased(probed(fine, asked), 0, Settings(agent=False, probes=0))
    plain = ModelBased(fine, 0, Settings(agent=False))
    for _ in range(4):
        proposed = sampler.propose(4)
        assert proposed == plain.propose(4)
        for one in (sampler, plain):
            one.tell(observations(fine, np.array(proposed)))
    assert not asked


def test_promises_are_seen_in_the_units_of_the_first(fine: Space) -> None:
    features = Features(fine)
    zero_cost = ZeroCostProxy(lambda actions: actions.mean(1) / 6, features)

    def of(*actions: tuple[int, ...]) -> list[float]:
        return list(zero_cost(np.array(actions), features(np.array(actions))))

    some = [(0, 0, 0, 0, 6), (6, 6, 6, 6, 6)]
    assert of(*some) == [0, 0]  # nothing is known
    zero_cost.probe(some)
    zero_cost.learn(tune=True)
    # 1/5 and 1: mean 3/5, standard deviation 2/5; so one of each lies SPREAD from the middle
    assert of(*some) == pytest.approx([-SPREAD, SPREAD])
    zero_cost.probe([(6, 6, 6, 3, 6)])
    zero_cost.learn(tune=False)
    # 27/30 lies .75 deviations above the old middle
    assert of((6, 6, 6, 3, 6)) == pytest.approx([0.75 * SPREAD])
    (between,) = of((6, 6, 6, 5, 6))
    assert 0.75 * SPREAD < between < 1.1 * SPREAD


def test_units_wait_for_promises_that_differ(fine: Space) -> None:
    features = Features(fine)
    zero_cost = ZeroCostProxy(lambda actions: actions.mean(1) / 6, features)
    zero_cost.probe([(6, 6, 6, 6, 6)])  # all that a warm start may leave to look at
    zero_cost.learn(tune=True)
    zero_cost.probe([(0, 0, 0, 0, 6)])
    zero_cost.learn(tune=False)
    both = np.array([(0, 0, 0, 0, 6), (6, 6, 6, 6, 6)])
    assert zero_cost(both, features(both)) == pytest.approx([-SPREAD, SPREAD])


def test_the_best_by_what_they_are_expected_to_promise_are_probed_and_ranked_anew(
    fine: Space,
) -> None:
    asked: list[Batch] = []
    sampler = ModelBased(probed(fine, asked), 0, Settings(agent=False, probes=5))
    for _ in range(3):
        sampler.tell(observations(fine, np.array(sampler.propose(4))))
    sampler.propose(1)  # the last outcomes are fitted
    pool = np.array([row for row in drawn(fine, 200) if tuple(map(int, row)) not in sampler.known])
    expected = sampler.acquisition.log_ei(pool)
    found = sampler._probed(pool, expected)
    chosen = np.argsort(-expected, kind="stable")[:5]
    assert np.flatnonzero(np.isfinite(found)).tolist() == sorted(chosen)
    assert found[chosen] == pytest.approx(sampler.acquisition.log_ei(pool[chosen]))
    assert not np.allclose(found[chosen], expected[chosen])
    assert set(map(tuple, pool[chosen])) <= {tuple(row) for row in np.concatenate(asked)}


def test_what_promises_know_is_restored_to_where_it_was_learnt(fine: Space) -> None:
    features = Features(fine)

    def probe(actions: Batch) -> NDArray[np.float64]:
        return np.asarray(0.5 + 0.3 * np.sin(actions @ np.array([1.0, 2.0, 3.0, 4.0, 0.0])))

    zero_cost, again = ZeroCostProxy(probe, features), ZeroCostProxy(probe, features)
    rows = [tuple(map(int, row)) for row in drawn(fine, 60)]
    zero_cost.probe(rows[:20])
    zero_cost.learn(tune=False)  # the first time tunes, asked or not
    zero_cost.probe(rows[20:25])  # which is not fitted yet
    assert zero_cost.learnt < len(zero_cost.known)
    others = np.array(rows[30:])
    before = zero_cost(others, features(others))
    again.take(zero_cost.arrays())
    np.testing.assert_array_equal(again(others, features(others)), before)
    for one in (zero_cost, again):
        one.learn(tune=False)
    now = zero_cost(others, features(others))
    assert not np.allclose(now, before)
    np.testing.assert_array_equal(again(others, features(others)), now)


FILLED = Space(toy_spec(), PRESETS["default"], ThresholdReward())
FREE = np.flatnonzero(FILLED.masks.sum(axis=1) > 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 1.2), st.booleans())
def test_filled_candidates_are_as_wide_as_the_limits_allow(
    seed: int, share: float, named: bool
) -> None:
    """By a limit, or where there is none by C0."""
    space, kb = copy(FILLED), share * FILLED.teacher_cost.kb
    if named:
        space.limits = Limits(max_kb=kb)
    else:
        space.reward = ThresholdReward(c0=max(0.0, 1 - share))
    variation, rng = Variation(space), np.random.default_rng(seed)
    before = variation.drawn(12, rng)
    found = variation.filled(before)
    keep, spent = space.moves.keep, space.spent(found) > 1
    for old, new, over in zip(before, found, spent, strict=True):
        assert space.masks[np.arange(len(new)), new].all()
        # what is removed stays removed, and nothing else is
        assert [space.moves.removes(a) for a in new] == [space.moves.removes(a) for a in old]
        stays = [step for step in FREE if not space.moves.removes(int(old[step]))]
        if over:
            # not even its narrowest fits: it is left for others to refuse
            narrowest = old.copy()
            narrowest[stays] = 1
            assert space.spent(narrowest[None])[0] > 1
            np.testing.assert_array_equal(new, old)
            continue
        wider = new.copy()
        wider[stays] = np.minimum(new[stays] + 1, keep)
        assert np.array_equal(wider, new) or space.spent(wider[None])[0] > 1
        # all go up or down by equally many, as far as there are coefficients, and then some of them
        # by one more
        shifts = {int(new[step] - old[step]) for step in stays if 2 < new[step] < keep}
        assert max(shifts, default=0) - min(shifts, default=0) <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.02, 0.6))
def test_what_is_drawn_near_keeps_within_the_region_and_what_its_centre_keeps(
    seed: int, radius: float
) -> None:
    variation, rng = Variation(FILLED), np.random.default_rng(seed)
    centres = variation.drawn(3, rng)
    near = variation.near(variation.drawn(20, rng), centres, radius)
    reach = np.maximum(1, np.rint(radius * variation.counts))
    removes = np.vectorize(FILLED.moves.removes)
    for one in near:
        assert FILLED.masks[np.arange(len(one)), one].all()
        within = [
            centre
            for centre in centres
            if (np.abs(one - centre) <= reach).all() and (removes(one) == removes(centre)).all()
        ]
        assert within
    np.testing.assert_array_equal(variation.near(centres, centres, radius), centres)


def test_what_is_tilted_is_wider_at_one_end() -> None:
    variation = Variation(FILLED)
    (parent,) = variation.filled(np.full((1, len(FILLED.masks)), 8))
    children = variation.tilted(parent[None], 40, np.random.default_rng(0))
    first, last = FREE[0], FREE[-1]
    moved = children[:, [first, last]] - parent[[first, last]]
    assert (moved[:, 0] * moved[:, 1] <= 0).all()
    assert len(np.unique(children, axis=0)) > 4


def test_where_accuracy_alone_is_sought_the_first_proposals_vary_the_plain_students() -> None:
    space = copy(FILLED)
    space.reward = ThresholdReward(c0=0.7, a0=1.0, rho=0.01)
    space.limits = Limits(max_kb=0.3 * space.teacher_cost.kb)
    assert space.accuracy_alone
    plain = list(plain_students(space).values())
    sampler = ModelBased(space, 0)
    sampler.begin_with(plain)
    first = sampler.propose(len(plain))
    assert first == plain
    sampler.tell([Observation(one, 0.9 + i / 100, 1.0) for i, one in enumerate(first)])
    proposed = sampler.propose(6)
    places, reach = np.array(proposed), np.ceil(REGION * sampler.variation.counts)
    for one in places:
        # a fill may go a step further than what is drawn near
        assert min(np.abs(one - centre).max() for centre in plain) <= 2 * reach.max() + 1
        assert not any(space.moves.removes(int(action)) for action in one)
        assert space.fits(tuple(one))
        assert space.spent(one[None])[0] > 0.6


def test_filled_worked_by_hand() -> None:
    # from (.03, .1) everything goes up by two: (.075, .15) is the last that fits
    space = copy(FILLED)
    stem, inner, outer, down, head = 1, 4, 17, 1, 17
    limit = space.cost((stem + 2, inner + 2, outer, down + 2, head)).kb
    assert space.cost((stem + 3, inner + 3, outer, down + 3, head)).kb > limit
    space.limits = Limits(max_kb=limit)
    (found,) = Variation(space).filled(np.array([(stem, inner, outer, down, head)]))
    # one more costs nothing where it rounds to as many channels
    assert found.tolist() == [4, 6, 17, 4, 17]
    assert space.cost(tuple(found)).kb == limit
    # a removed layer lets the others grow further
    (gone,) = Variation(space).filled(np.array([(stem, 0, 0, down, head)]))
    assert gone[[1, 2]].tolist() == [0, 0]
    assert gone[3] > 4
    assert gone[0] - gone[3] in (0, 1)
    assert len(Variation(space).filled(np.zeros((0, 5), int))) == 0
