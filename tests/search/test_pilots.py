"""Pilots: a few students tell how fast accuracies rise, before any candidate is proposed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.netspec import NetSpec
from envs.reward import ThresholdReward
from search.answers import Telling
from search.events import Event, Note, Stage
from search.expectation import Expectation
from search.limits import Limits
from search.pilots import USUAL_GAIN, choose_pilots, fly, gain_of
from search.space import Space
from tests.search.conftest import HALVES
from tests.search.evaluators import EPOCHS, FakeEvaluator, accuracy

EXPECT = Expectation(teacher=0.99, images=100, full=1600, gain=0.0, rows=1000)


@pytest.fixture(scope="module")
def space(toy: NetSpec) -> Space:
    return Space(toy, HALVES, ThresholdReward(), expectation=EXPECT)


def heard(telling: Telling[float]) -> tuple[float, list[Event]]:
    told = []
    while True:
        try:
            told.append(next(telling))
        except StopIteration as end:
            return end.value, told


def test_the_gain_worked_by_hand() -> None:
    # errors of 64, 16 and 4 times the teacher's: ln halves from the first to the last, in 4 epochs
    halved = -math.log(math.log(8) / math.log(64)) / math.log(4)
    assert halved == pytest.approx(0.5)
    assert gain_of([(0.36, 0.92)], 4, EXPECT) == pytest.approx(0.5)
    # the median, whoever stands at the ends
    assert gain_of([(0.36, 0.36), (0.36, 0.92), (0.36, 0.99)], 4, EXPECT) == pytest.approx(0.5)
    # what grew worse counts as no gain at all
    assert gain_of([(0.5, 0.36)], 4, EXPECT) == 0


def test_the_expectation_with_the_gain_goes_through_what_was_seen() -> None:
    gain = gain_of([(0.36, 0.92)], 4, EXPECT)
    # were the full training the pilot's own, it would be expected to end where it did
    short = Expectation(teacher=0.99, images=100, full=400, gain=gain, rows=1000)
    assert short(0.36, 1) == pytest.approx(0.92)


def test_who_begins_as_good_as_the_teacher_shows_nothing() -> None:
    assert gain_of([(0.99, 0.99), (0.995, 0.99)], 3, EXPECT) == USUAL_GAIN
    assert gain_of([(0.99, 0.99), (0.36, 0.92)], 4, EXPECT) == pytest.approx(0.5)
    assert gain_of([], 3, EXPECT) == USUAL_GAIN


def test_pilots_are_of_one_width_and_of_many_sizes(space: Space) -> None:
    chosen = choose_pilots(space)
    # the pool is {0, ½, 1}: everything halved where it may be, and the teacher itself
    sizes = [space.cost(actions).bytes for actions in chosen]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == space.teacher_cost.bytes
    for actions in chosen:
        assert all(mask[action] for mask, action in zip(space.masks, actions, strict=True))


def test_pilots_keep_the_limits(toy: NetSpec, space: Space) -> None:
    limit = space.teacher_cost.kb / 3
    small = Space(toy, HALVES, ThresholdReward(), Limits(max_kb=limit), expectation=EXPECT)
    assert choose_pilots(small)
    assert all(small.fits(actions) for actions in choose_pilots(small))


def test_they_are_trained_as_candidates_are(space: Space) -> None:
    evaluator = FakeEvaluator(talks=True)
    gain, told = heard(fly(space, evaluator, EPOCHS))
    chosen = choose_pilots(space)
    assert [job.epochs for job in evaluator.jobs] == [1] * len(chosen) + [EPOCHS] * len(chosen)
    pairs = [(accuracy(actions, 1), accuracy(actions)) for actions in chosen]
    assert gain == gain_of(pairs, EPOCHS, EXPECT) > 0
    assert [type(event) for event in told] == [Stage, Note]
    assert f"--proxy-gain {gain:.2f}" in told[1].text  # type: ignore[union-attr]


def test_one_that_fails_is_left_out(space: Space) -> None:
    chosen = choose_pilots(space)
    gain, _ = heard(
        fly(space, FakeEvaluator(reasons=lambda a: "no" if a == chosen[0] else ""), EPOCHS)
    )
    pairs = [(accuracy(actions, 1), accuracy(actions)) for actions in chosen[1:]]
    assert gain == gain_of(pairs, EPOCHS, EXPECT)
    nobody, _ = heard(fly(space, FakeEvaluator(fails_at=EPOCHS), EPOCHS))
    assert nobody == USUAL_GAIN


def test_a_single_epoch_cannot_tell(space: Space) -> None:
    evaluator = FakeEvaluator()
    gain, told = heard(fly(space, evaluator, 1))
    assert (gain, evaluator.jobs) == (USUAL_GAIN, [])
    assert "single epoch" in told[0].text  # type: ignore[union-attr]


def test_what_they_show_is_expected_from_then_on(toy: NetSpec) -> None:
    space = Space(toy, HALVES, ThresholdReward(), expectation=EXPECT)
    keep = tuple(int(np.flatnonzero(mask)[-1]) for mask in space.masks)
    before = space.reward_of(keep, space.expected(0.84, 4))
    space.expect(0.5)
    assert space.expected(0.84, 4) == pytest.approx(0.96)
    assert space.reward_of(keep, space.expected(0.84, 4)) > before
