"""The environment as an agent meets it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from edge.errors import BadInput
from envs.compression.cost import cost
from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import Student, compress
from envs.fx_import.trace import trace
from envs.gym.compression import CompressionEnv
from envs.gym.toy import make_toy_env, toy_spec
from envs.reward import PaperReward, ThresholdReward
from tests.envs.networks import Classifier, classifiers

#: outputs alone, in eight steps that are worked with by hand
EIGHT = Moves((0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), "o")
KEEP = EIGHT.keep


@pytest.mark.parametrize("preset", PRESETS)
def test_gymnasium_finds_nothing_to_object_to(preset: str) -> None:
    # by way of `make`, which tells the checker how to build a second one
    env = gym.make("understudy/Compression-v0", preset=preset, render_mode="ansi")
    check_env(env.unwrapped)


def test_it_is_made_by_name_where_nobody_imported_it() -> None:
    code = """
import gymnasium
env = gymnasium.make("envs:understudy/Compression-v0", preset="paper")
observation, info = env.reset(seed=3)
print(observation.tolist(), info["action_mask"].tolist(), env.action_space)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split("\n")[0] == "[1.0, 3.0, 1.0, 1.0, 10.0] [1, 1, 1, 1, 1, 1] Discrete(6)"
    assert ran.stderr == ""


def test_importing_the_package_registers_it_and_loads_no_torch() -> None:
    assert "understudy/Compression-v0" in gym.registry
    assert envs.__doc__
    code = (
        "import sys, envs, envs.compression.moves, envs.reward; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def play(env: CompressionEnv, actions: list[int]) -> tuple[list[float], dict[str, Any]]:
    rewards: list[float] = []
    done, info = False, dict[str, Any]()
    for action in actions:
        _, reward, done, truncated, info = env.step(action)
        rewards.append(reward)
        assert not truncated
    assert done
    return rewards, info


def test_the_reward_comes_at_the_end() -> None:
    env = make_toy_env(EIGHT)
    env.reset()
    rewards, info = play(env, [3, 4, 7, 5, 7])
    assert rewards[:4] == [0, 0, 0, 0]
    assert rewards[4] == ThresholdReward()(info["accuracy"], info["compression"]) > 0
    assert info["cost"] == cost(info["student"].spec)
    assert info["student"].actions == (3, 4, 7, 5, 7)
    # C of Eq. 5
    assert info["compression"] == 1 - info["cost"].bytes / cost(toy_spec()).bytes


def test_the_accuracy_is_asked_for_once_and_of_the_finished_student() -> None:
    asked: list[Student] = []

    def accuracy(student: Student) -> float:
        asked.append(student)
        return 0.75

    env = CompressionEnv(toy_spec(), EIGHT, PaperReward(), accuracy)
    env.reset()
    rewards, info = play(env, [7, 7, 0, 7, 7])
    assert asked == [info["student"]]
    assert rewards[-1] == PaperReward()(0.75, info["compression"])


def test_without_an_accuracy_it_pays_nothing_and_names_the_student() -> None:
    env = CompressionEnv(toy_spec(), EIGHT, PaperReward())
    env.reset()
    rewards, info = play(env, [1, 1, 0, 1, 7])
    assert rewards == [0] * 5
    assert "accuracy" not in info
    assert info["student"].spec.classes == 2
    assert info["cost"].bytes < cost(toy_spec()).bytes


def test_the_mask_depends_on_the_layer_alone() -> None:
    env = make_toy_env(EIGHT)
    episodes = []
    for actions in ([0, 0, 0, 0, 7], [7, 7, 7, 7, 7], [1, 5, 0, 2, 7]):
        _, info = env.reset()
        masks = [info["action_mask"]]
        masks += [env.step(action)[4]["action_mask"] for action in actions[:-1]]
        episodes.append(np.stack(masks).tolist())
    assert episodes[0] == episodes[1] == episodes[2] == env.masks.tolist()


def test_a_mask_that_is_written_to_changes_no_other_episode() -> None:
    env = make_toy_env(EIGHT)
    observation, info = env.reset()
    observation[:] = 0
    info["action_mask"][:] = 0
    observation, info = env.reset()
    assert observation.tolist() == [1, 3, 1, 1, 10]
    assert info["action_mask"].tolist() == [1] * 8


def test_an_illegal_action_counts_as_the_nearest_legal_one() -> None:
    # pool 0 .05 .1 .2 .4 .6 .8 1; outer may only go or stay, and .4 is nearer to 0, .6 nearer to 1
    env = make_toy_env(EIGHT)
    for asked, taken in ((4, 0), (5, KEEP)):
        env.reset()
        env.step(KEEP)
        env.step(KEEP)
        assert env.step(asked)[4]["action"] == taken
        env.step(KEEP)
        assert env.step(0)[4]["action"] == KEEP  # the classifier stays, whatever is asked


@pytest.mark.parametrize("action", [-1, 8])
def test_an_action_outside_the_pool_is_refused(action: int) -> None:
    env = make_toy_env(EIGHT)
    env.reset()
    with pytest.raises(BadInput, match=f"got {action}; expected an index from 0 to 7"):
        env.step(action)


def test_after_the_end_only_reset_goes_on() -> None:
    env = make_toy_env(EIGHT)
    env.reset()
    play(env, [KEEP] * 5)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(KEEP)
    observation, _ = env.reset()
    assert observation.tolist() == [1, 3, 1, 1, 10]


def test_the_drawing_shows_every_layer_before_and_after() -> None:
    env = make_toy_env(EIGHT, render_mode="ansi")
    env.reset()
    for action in (4, 4, 0):  # .4, .4, removed
        env.step(action)
    drawing = env.render()
    assert drawing is not None
    lines = [" ".join(line.split()) for line in drawing.splitlines()]
    assert lines == [
        "0 stem 3x3, 1 -> 10 x 0.4 3x3, 1 -> 4",
        "1 inner 3x3, 10 -> 20 x 0.4 3x3, 4 -> 8",
        "2 outer 3x3, 20 -> 10 x 0 removed",
        "3 down 5x5, 10 -> 10, /2 x ? ...",
        "4 head linear, 10 -> 2 x ? ...",
        "+ add.1.project repair conv2d -> 4x8x8",
        # kept until decided: down with 4·10·25 + 10 and head with 22, so 36 + 8 + 296 + 32 + 1,010
        # + 22 = 1,404 parameters and 5,656 bytes; 2,304 + 18,432 + 2,048 + 16,000 + 20 MACs
        "24.6 KB, 276,180 MACs -> 5.5 KB, 38,804 MACs",
    ]


def test_without_a_render_mode_nothing_is_drawn() -> None:
    env = make_toy_env(EIGHT)
    env.reset()
    assert env.render() is None
    with pytest.raises(ValueError, match="render_mode is 'human'; expected 'ansi' or None"):
        make_toy_env(EIGHT, render_mode="human")


def test_seeds_make_action_samples_repeatable() -> None:
    env = make_toy_env(EIGHT)
    draws = []
    for _ in range(2):
        _, info = env.reset(seed=5)
        env.action_space.seed(5)
        draws.append([int(env.action_space.sample(info["action_mask"])) for _ in range(20)])
        draws[-1].append(int(env.np_random.integers(1000)))
    assert draws[0] == draws[1]


@given(classifiers(), st.sampled_from(sorted(PRESETS)), st.integers(0, 99))
@settings(max_examples=15)
def test_a_random_episode_on_any_network(teacher: Classifier, preset: str, seed: int) -> None:
    spec = trace(teacher.module, teacher.input_shape)
    env = CompressionEnv(spec, PRESETS[preset], ThresholdReward(), lambda student: 0.5)
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    done, taken = False, []
    while not done:
        assert env.observation_space.contains(observation)
        action = int(rng.choice(np.flatnonzero(info["action_mask"])))
        observation, reward, done, _, info = env.step(action)
        assert info["action"] == action
        assert done or reward == 0
        taken.append(action)
    assert not observation.any()
    assert info["student"].spec.to_json() == compress(spec, PRESETS[preset], taken).spec.to_json()
