"""From a job's target and limits to its reward, and what a space makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.graph.netspec import NetSpec
from envs.reward import N2NReward, PaperReward, Reward, ThresholdReward, TimedReward
from search.job.spec import make_spec
from search.space.limits import Limits
from search.space.space import Space
from search.space.thresholds import TARGETS, judged, limits_of, reward_of, rho_of
from tests.search.conftest import HALVES


def reward(ms: float | None = None, **job: Any) -> Reward:
    """Of a job with a teacher of 400 KB at 97 %."""
    values = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x", "max_kb": 50.0}
    return reward_of(make_spec(values | job), 400, 0.97, ms)


def thresholds(found: Reward) -> tuple[float, float, float]:
    settings = found.settings
    return settings["c0"], settings["a0"], settings["rho"]


# 50 of 400 KB are C = .875; a drop of two points leaves .95, and of one where nobody says .96
WORKED: dict[str, tuple[float, float, float]] = {
    # more accuracy always counts in full, less size than asked for next to nothing
    "accurate": (0.875, 1.0, 0.01),
    # the other way round
    "smallest": (1.0, 0.95, 0.01),
    "fastest": (0.875, 0.95, 0.01),
    "balanced": (0.875, 0.95, 0.1),
}


@pytest.mark.parametrize("target", TARGETS)
def test_thresholds_worked_by_hand(target: str) -> None:
    found = reward(target=target, max_drop=0.02)
    assert thresholds(found) == pytest.approx(WORKED[target])
    assert isinstance(found, ThresholdReward)
    silent = reward(target=target)
    assert silent.settings["a0"] == pytest.approx(1.0 if target == "accurate" else 0.96)
    # what a job names itself stands
    named = reward(target=target, c0=0.5, a0=0.6, rho=0.3)
    assert thresholds(named) == (0.5, 0.6, 0.3)


def test_accurate_is_what_nobody_names() -> None:
    assert reward() == reward(target="accurate")


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_size_limit_a_twentieth_is_asked_for(target: str) -> None:
    expected = 1.0 if target == "smallest" else 0.95
    assert reward(target=target, max_kb=None).settings["c0"] == expected
    # a limit above the teacher asks for nothing
    expected = 1.0 if target == "smallest" else 0.0
    assert reward(target=target, max_kb=500).settings["c0"] == expected


def test_the_fastest_is_rewarded_for_its_milliseconds() -> None:
    found = reward(target="fastest", max_ms=4.0)
    assert isinstance(found, TimedReward)
    assert (found.settings["gamma"], found.settings["l0"]) == (5.0, 4.0)
    # where nobody names a time, a twentieth of the teacher's
    assert reward(ms=20.0, target="fastest").settings["l0"] == pytest.approx(1.0)
    # a weight that the job names stands
    assert reward(target="fastest", max_ms=4.0, gamma=2.0).settings["gamma"] == 2.0
    # twice as fast is worth more, whatever the threshold
    slow, fast = (found(0.96, 0.9, ms) for ms in (8.0, 4.0))
    assert fast > slow
    # of no other target
    for target in ("accurate", "smallest", "balanced"):
        assert isinstance(reward(ms=20.0, target=target), ThresholdReward)


def test_what_each_target_prefers() -> None:
    """Two students: 1 point more accurate, or half as large; both within the limits."""
    accurate, small = (0.965, 0.88), (0.955, 0.94)
    for target, first in (("accurate", accurate), ("smallest", small)):
        found = reward(target=target, max_drop=0.02)
        other = small if first is accurate else accurate
        assert found(*first) > found(*other)


def test_rewards_without_thresholds_have_no_target() -> None:
    for target in TARGETS:
        assert reward(target=target, reward="n2n") == N2NReward(0.97)


def test_the_slope_of_a_job() -> None:
    values = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x"}
    assert rho_of(make_spec(values | {"rho": 0.0})) == 0
    assert rho_of(make_spec(values | {"target": "balanced"})) == 0.1
    assert rho_of(make_spec(values)) == 0.01


ALONE = {"a0": 1.0, "rho": 0.01, "c0": 0.9}


@pytest.mark.parametrize(
    ("found", "limits", "expected"),
    [
        (ThresholdReward(**ALONE), Limits(), True),
        # smaller always pays
        (ThresholdReward(**ALONE | {"rho": 0.1}), Limits(), False),
        # more accuracy than A0 hardly pays
        (ThresholdReward(**ALONE | {"a0": 0.9}), Limits(), False),
        # neither a threshold of size nor a limit: nothing says how large a student may be
        (ThresholdReward(**ALONE | {"c0": 1.0}), Limits(), False),
        (ThresholdReward(**ALONE | {"c0": 1.0}), Limits(max_kb=12), True),
        (ThresholdReward(**ALONE | {"c0": 1.0}), Limits(max_macs=1e5), True),
        (PaperReward(a0=1.0), Limits(max_kb=12), False),
    ],
)
def test_where_nothing_but_accuracy_is_sought(
    toy: NetSpec, found: Reward, limits: Limits, expected: bool
) -> None:
    assert Space(toy, HALVES, found, limits).accuracy_alone is expected


def test_the_more_rows_the_less_the_cross_entropy_counts() -> None:
    # a nat of n rows is worth 20 / √n: .5 on 1,600 rows, .2 on 10,000, and never more than 1
    assert judged(0.9, 0.2, 1_600) == pytest.approx(0.8)
    assert judged(0.9, 0.2, 10_000) == pytest.approx(0.86)
    assert judged(0.9, 0.2, 1) == judged(0.9, 0.2, 100) == pytest.approx(0.7)
    np.testing.assert_allclose(judged(0.9, np.array([0.0, 0.2]), 1_600), [0.9, 0.8])


def test_who_spends_too_much(toy: NetSpec) -> None:
    rows = np.array([(2, 2, 2, 2, 2), (1, 1, 2, 1, 2), (0, 0, 2, 1, 2)])
    free = Space(toy, HALVES, ThresholdReward(c0=0.5))
    kb, half = free.figures(rows)["max_kb"], free.teacher_cost.kb / 2
    assert (free.spent(rows) > 1).tolist() == (kb > half).tolist() == [True, False, False]
    # a limit takes the place of C0
    tight = Space(toy, HALVES, ThresholdReward(c0=0.5), Limits(max_kb=float(kb[2])))
    assert (tight.spent(rows) > 1).tolist() == [True, True, False]


@pytest.mark.parametrize("limit", [{"max_macs": 1e6}, {"max_ms": 2.0}])
def test_a_limit_on_work_alone_asks_for_no_size(limit: dict[str, float]) -> None:
    # 90 % at 400 of the teacher's 400 KB beats 85 % at 5 KB: nobody asked for fewer KB
    found = reward(max_kb=None, **limit)
    assert found.settings["c0"] == 0.0
    assert found.log(0.90, 0.0) > found.log(0.85, 0.9875)


@pytest.mark.parametrize("target", ["smallest", "fastest"])
def test_what_loses_more_than_the_drop_is_no_gain_however_small(target: str) -> None:
    values = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x", "target": target}
    spec = make_spec(values)
    # nobody named a drop, so a point is held: of a teacher of 97 % a student has to have 96 %
    assert limits_of(spec, 0.97).min_accuracy == pytest.approx(0.96)
    assert limits_of(make_spec(values | {"target": "accurate"}), 0.97).min_accuracy is None
    found = reward_of(spec, 400, 0.97)
    assert found.log(0.965, 0.8) > found.log(0.90, 0.99)
    # of two that hold it the smaller one
    if target == "smallest":
        assert found.log(0.961, 0.95) > found.log(0.969, 0.9)
