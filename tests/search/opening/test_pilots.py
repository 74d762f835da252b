"""The plain students' proxies: with norms or without, how long, and what they say of all others."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import pytest
from torch import nn

from edge.errors import BadInput
from envs.compression.training_norms import bare_convolutions
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from search.job.events import CandidateRunning, Event, Note, Stage
from search.opening.pilots import MOST_GAIN, USUAL_GAIN, Flown, fly, gains_of, pilots_of
from search.preparation.prepared import Prepared
from search.space.baselines import plain_students
from search.space.learning_curve import Expectation
from search.space.space import Actions
from tests.search.schools import CHANCE, MOVES, School, heard, pretended


@pytest.fixture(scope="module")
def job(toy: NetSpec) -> Prepared:
    # inner, outer and down have no norm
    assert len(bare_convolutions(toy)) == 3
    return pretended(toy)


@pytest.fixture(scope="module")
def plain(job: Prepared) -> Mapping[str, Actions]:
    return plain_students(job.space)


def flown(job: Prepared, school: School) -> tuple[Flown, list[Event]]:
    return heard(fly(job, school))


def notes(told: list[Event]) -> list[str]:
    return [event.text for event in told if isinstance(event, Note)]


def by_norms(with_norms: float, without: float) -> School:
    return School(lambda prepared, _: with_norms if prepared.normalise else without)


@pytest.mark.parametrize("without", [0.7, 0.8])
def test_norms_that_help_stay_and_so_do_those_that_do_no_harm(
    job: Prepared, plain: dict[str, Actions], without: float
) -> None:
    school = by_norms(0.8, without)
    found, told = flown(job, school)
    assert found.prepared.normalise
    assert list(found.evaluations) == list(plain)
    assert {one.accuracy for one in found.evaluations.values()} == {0.8}
    # all of them with norms, and one without to see
    assert [course.prepared.normalise for course in school.courses] == [True, False]
    assert [course.actions for course in school.courses] == [
        list(plain.values()),
        [plain["uniform"]],
    ]
    assert all(course.closed for course in school.courses)
    (note,) = notes(told)
    assert note.startswith("3 convolutions without normalisation get a batch norm")
    assert f"80.0% with, {without:.1%} without" in note


def test_where_students_learn_better_without_norms_all_are_trained_without(
    job: Prepared, plain: dict[str, Actions]
) -> None:
    school = by_norms(0.7, 0.8)
    found, told = flown(job, school)
    assert not found.prepared.normalise
    assert {one.accuracy for one in found.evaluations.values()} == {0.8}
    assert sorted(found.evaluations) == sorted(plain)
    # the first one is not trained twice
    assert [(c.prepared.normalise, len(c.jobs)) for c in school.courses] == [
        (True, len(plain)),
        (False, 1),
        (False, len(plain) - 1),
    ]
    assert "without batch norms" in notes(told)[0]


@pytest.mark.parametrize(("way", "normalise"), [("batch", True), ("none", False)])
def test_a_job_that_says_so_is_asked_nothing(toy: NetSpec, way: str, normalise: bool) -> None:
    school = by_norms(0.7, 0.8) if normalise else by_norms(0.8, 0.7)
    found, told = flown(pretended(toy, normalise=way), school)
    assert found.prepared.normalise is normalise
    assert len(school.courses) == 1
    assert notes(told) == []


def test_a_network_with_its_own_norms_is_asked_nothing(job: Prepared) -> None:
    layers = {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "pool": nn.AvgPool2d(6)}
    head = {"flat": nn.Flatten(), "head": nn.Linear(4, 2)}
    normed = trace(nn.Sequential(OrderedDict(layers | head)).eval(), (1, 8, 8))
    school = by_norms(0.8, 0.8)
    found, _ = flown(pretended(normed, share=0.8), school)
    assert not found.prepared.normalise
    assert len(school.courses) == 1


def test_it_tells_who_is_under_way(job: Prepared, plain: dict[str, Actions]) -> None:
    _, told = flown(job, by_norms(0.8, 0.7))
    assert isinstance(told[0], Stage)
    assert told[0].name == "pilots"
    assert f"{len(plain)} plain students" in told[0].detail
    running = [event for event in told if isinstance(event, CandidateRunning)]
    assert [(event.key, event.number) for event in running] == [("uniform", 1)] * 2
    assert running[0].kb == job.space.cost(plain["uniform"]).kb


def after(epochs: int, reached: float = 0.8) -> School:
    """Who trains for less is at chance."""
    return School(
        lambda prepared, _: reached if prepared.plan.proxy_epochs >= epochs else CHANCE + 0.09
    )


def test_proxies_at_chance_become_longer(job: Prepared, plain: dict[str, Actions]) -> None:
    # 30 epochs, then 90, of which the full training has but 80
    assert (job.plan.proxy_epochs, job.plan.final_epochs) == (10, 80)
    for epochs, times in ((30, 1), (80, 2)):
        found, told = flown(job, after(epochs, reached=0.61))
        assert found.prepared.plan == replace(job.plan, proxy_epochs=epochs)
        assert {one.epochs for one in found.evaluations.values()} == {epochs}
        assert [text.endswith("3 times as long") for text in notes(told)].count(True) == times
        assert not [event for event in told if isinstance(event, Note) and event.warning]


def test_a_number_of_epochs_that_the_job_names_stands(toy: NetSpec) -> None:
    named = pretended(toy, proxy_epochs=2)
    large = tuple(MOVES.keep for _ in named.space.layers)
    school = School(lambda _, actions: 0.9 if actions == large else CHANCE)
    found, told = flown(named, school)
    assert found.prepared.plan == named.plan
    assert [event.name for event in told if isinstance(event, Note) and event.warning] == [
        "pilots-at-chance"
    ]


def test_limits_that_are_too_tight_are_told_from_a_task_that_cannot_be_learnt(
    job: Prepared, plain: dict[str, Actions]
) -> None:
    large = tuple(MOVES.keep for _ in job.space.layers)
    school = School(lambda _, actions: 0.9 if actions == large else CHANCE)
    found, told = flown(job, school)
    # the search goes on with what it has, but nobody need wonder why
    assert list(found.evaluations) == list(plain)
    (warning,) = [event for event in told if isinstance(event, Note) and event.warning]
    assert warning.name == "pilots-at-chance"
    assert "as large as the teacher comes to 90.0%" in warning.text
    assert "limits are most likely too tight" in warning.text
    assert school.courses[-1].actions == [large]

    hopeless = School(lambda _, actions: CHANCE + 0.1)
    with pytest.raises(BadInput, match="students learn nothing from this teacher") as caught:
        flown(job, hopeless)
    assert "60.0% after" in str(caught.value.value)
    assert "60.0% on 100 validation rows" in str(caught.value.bound)
    assert "mean and std" in caught.value.remedy
    # they were given every chance: thrice, nine times as long, and the largest student there is
    longest = job.plan.lengthened(9).proxy_epochs
    assert {job.epochs for job in hopeless.courses[-1].jobs} == {longest}
    assert hopeless.courses[-1].actions == [large]
    assert all(course.closed for course in hopeless.courses)


def test_one_that_fails_shows_nothing_of_the_others(
    job: Prepared, plain: dict[str, Actions]
) -> None:
    first = plain["uniform"]
    school = School(lambda *_: 0.8, fails=lambda actions: actions == first)
    found, told = flown(job, school)
    assert found.evaluations["uniform"].reason == "MemoryError: no"
    assert found.evaluations["smaller"].accuracy == 0.8
    assert found.prepared.plan == job.plan
    # nor do all of them show that nothing can be learnt
    found, told = flown(job, School(lambda *_: 0.8, fails=lambda _: True))
    assert all(one.reason for one in found.evaluations.values())
    assert found.prepared.plan == job.plan
    assert not [event for event in told if isinstance(event, Note) and event.warning]


@pytest.mark.parametrize(("budget", "count"), [(1, 1), (3, 1), (6, 2), (9, 3), (24, 4)])
def test_they_take_a_third_of_the_budget_at_most(
    job: Prepared, plain: dict[str, Actions], budget: int, count: int
) -> None:
    assert len(plain) == 4
    assert pilots_of(job.space, budget) == dict(list(plain.items())[:count])


# the full training sees 4 times the images of 4 epochs of the proxy
EXPECT = Expectation(teacher=0.99, images=100, full=1600, gain=0.0, rows=1000)


def test_the_gain_worked_by_hand() -> None:
    # errors of 64 and 8 times the teacher's: ln halves in 4 times the images
    gain, spread = gains_of([(0.36, 0.92)], 4, EXPECT)
    assert gain == pytest.approx(0.5)
    # one alone says nothing of how they differ: give or take half of it
    assert spread == pytest.approx(0.25)
    # what grew worse counts as no gain at all; mean and deviation of 0 and ½
    gain, spread = gains_of([(0.36, 0.92), (0.5, 0.36)], 4, EXPECT)
    assert gain == pytest.approx(0.25)
    assert spread == pytest.approx(0.5 / math.sqrt(2))


def test_the_expectation_with_the_gain_goes_through_what_was_seen() -> None:
    gain, _ = gains_of([(0.36, 0.92)], 4, EXPECT)
    assert replace(EXPECT, gain=gain)(0.36, 4) == pytest.approx(0.92)


def test_who_begins_as_good_as_the_teacher_shows_nothing() -> None:
    assert gains_of([(0.99, 0.99), (0.995, 0.99)], 3, EXPECT) == (USUAL_GAIN, USUAL_GAIN)
    assert gains_of([], 3, EXPECT) == (USUAL_GAIN, USUAL_GAIN)
    gain, _ = gains_of([(0.99, 0.99), (0.36, 0.92)], 4, EXPECT)
    assert gain == pytest.approx(0.5)


def test_who_ends_as_good_as_the_teacher_shows_only_that_the_gain_is_large() -> None:
    # of a gap no less than .3 is expected to be left: 4^-g = .3
    most = -math.log(0.3) / math.log(4)
    for full in (0.99, 0.995, 1.0):
        assert gains_of([(0.36, full)], 4, EXPECT)[0] == pytest.approx(most)
    # so two proxies that differ are still expected to end apart
    expect = replace(EXPECT, gain=most)
    assert expect(0.5, 4) < expect(0.7, 4) < 0.98


def test_a_full_training_that_is_hardly_longer_shows_no_more_than_the_most() -> None:
    short = replace(EXPECT, full=401)
    gain, _ = gains_of([(0.36, 0.98)], 4, short)
    assert 0 < gain <= MOST_GAIN


def test_where_one_class_is_most_of_the_rows_a_good_proxy_is_not_taken_for_chance(
    job: Prepared,
) -> None:
    """90 % of 100 rows are of one class: luck reaches .96, and the teacher has .95."""
    assert job.space.expectation is not None
    expectation = replace(job.space.expectation, teacher=0.95, chance=0.9)
    assert expectation.above_chance == pytest.approx(0.96)
    space = copy(job.space)
    space.expectation = expectation
    found, told = flown(replace(job, space=space), by_norms(0.94, 0.93))
    assert found.prepared.plan == job.plan
    assert not [note for note in notes(told) if "at chance" in note]
