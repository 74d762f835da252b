"""The vector environment: the same episodes as the single one, many at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.moves import PRESETS, Moves
from envs.fx_import.trace import trace
from envs.gym.compression import CompressionEnv
from envs.gym.toy import make_toy_env, make_toy_vector_env, pretend_accuracies, toy_spec
from envs.gym.vector import CompressionVectorEnv
from envs.reward import PaperReward, ThresholdReward
from tests.envs.networks import Classifier, all_moves, classifiers

KEEP = PRESETS["default"].keep


def play(
    env: CompressionVectorEnv, actions: NDArray[np.int64]
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """An episode of every environment; actions (num_envs, layers)."""
    observation, info = env.reset()
    observations, rewards = [observation], []
    for column in actions.T:
        observation, reward, done, truncated, info = env.step(column)
        observations.append(observation)
        rewards.append(reward)
        assert not truncated.any()
    assert done.all()
    return observations, rewards, info


def test_gymnasium_makes_it_by_name() -> None:
    env = gym.make_vec("understudy/Compression-v0", num_envs=3, preset="paper")
    assert isinstance(env, CompressionVectorEnv)
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert observation.tolist() == [[1, 3, 1, 1, 10]] * 3
    assert info["action_mask"].shape == (3, 6)
    assert info["_action_mask"].all()
    env.action_space.seed(0)
    assert env.step(env.action_space.sample())[1].tolist() == [0, 0, 0]


@given(classifiers(), all_moves, st.integers(0, 99))
@settings(max_examples=15)
def test_every_episode_is_that_of_the_single_environment(
    teacher: Classifier, moves: Moves, seed: int
) -> None:
    spec = trace(teacher.module, teacher.input_shape)
    vector = CompressionVectorEnv(
        spec, moves, ThresholdReward(), lambda actions: np.full(len(actions), 0.75), num_envs=4
    )
    single = CompressionEnv(spec, moves, ThresholdReward(), lambda student: 0.75)
    rng = np.random.default_rng(seed)
    # illegal ones among them: both take the nearest legal coefficient
    actions = rng.integers(0, len(moves.pool), (4, len(single.layers)))
    observations, rewards, info = play(vector, actions)
    for episode, column in enumerate(actions):
        observation, first = single.reset()
        assert observation.tolist() == observations[0][episode].tolist()
        for step, action in enumerate(column):
            observation, reward, _, _, last = single.step(action)
            assert observation.tolist() == observations[step + 1][episode].tolist()
            assert reward == pytest.approx(rewards[step][episode], rel=1e-12)
        assert info["actions"][episode].tolist() == list(last["student"].actions)
        assert info["compression"][episode] == last["compression"]
        for name in ("parameters", "bytes", "macs", "peak"):
            assert info[name][episode] == getattr(last["cost"], name)
        assert first["action_mask"].tolist() == vector.masks[0].tolist()


def test_the_toy_pretends_the_same_accuracy_either_way() -> None:
    actions = np.array([[3, 4, 17, 5, 17], [0, 0, 0, 0, 17], [17, 17, 17, 17, 17]])
    single = []
    for episode in actions:
        env = make_toy_env()
        env.reset()
        for action in episode:
            info = env.step(action)[4]
        single.append(info["accuracy"])
    assert pretend_accuracies(actions).tolist() == single
    assert play(make_toy_vector_env(3), actions)[2]["accuracy"].tolist() == single


def test_after_the_end_the_next_step_begins_anew_whatever_is_asked() -> None:
    env = make_toy_vector_env(2)
    play(env, np.full((2, 5), KEEP))
    observation, rewards, done, _, info = env.step(np.array([0, 0]))
    assert observation.tolist() == [[1, 3, 1, 1, 10]] * 2
    assert rewards.tolist() == [0, 0]
    assert not done.any()
    assert "actions" not in info
    # the step that began anew took no action: all five are still to come
    for step in range(5):
        _, _, done, _, info = env.step(np.array([KEEP, KEEP]))
        assert done.all() == (step == 4)
    assert info["actions"].tolist() == [[KEEP] * 5] * 2


def test_what_it_hands_out_is_not_written_to_later() -> None:
    env = make_toy_vector_env(2)
    _, _, first = play(env, np.full((2, 5), KEEP))
    kept = first["actions"].copy()
    play(env, np.full((2, 5), 0))
    assert first["actions"].tolist() == kept.tolist()


def test_without_accuracies_it_pays_nothing() -> None:
    env = CompressionVectorEnv(toy_spec(), PRESETS["default"], PaperReward(), num_envs=2)
    _, rewards, info = play(env, np.full((2, 5), 1))
    assert rewards[-1].tolist() == [0, 0]
    assert "accuracy" not in info


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 18], "got 18; expected an index from 0 to 17"),
        ([-1, 0], "got -1; expected an index from 0 to 17"),
        ([0, 0, 0], r"got int64 of shape \(3,\); expected one index per episode, shape \(2,\)"),
        ([0.0, 1.0], "got float64 of shape"),
    ],
)
def test_actions_that_cannot_be_are_refused(actions: list[float], message: str) -> None:
    env = make_toy_vector_env(2)
    env.reset()
    with pytest.raises(BadInput, match=message):
        env.step(np.array(actions))


def test_no_episodes_are_refused() -> None:
    with pytest.raises(BadInput, match="got 0; expected 1 or more"):
        make_toy_vector_env(0)
