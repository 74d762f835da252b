"""Plain students: as large as the limits allow, in the four ways that anybody would try first."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from envs.compression.moves import PRESETS, Moves
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from envs.reward import PaperReward, ThresholdReward
from search.space.baselines import (
    MOST_MACS,
    SMALLER,
    USUAL_SHARE,
    budget_of,
    plain_students,
    tapered,
    uniform_student,
    widened,
)
from search.space.limits import Limits
from search.space.space import Actions, Space

MOVES = PRESETS["default"]
#: stem and outer are tied by a sum, the head keeps its classes; inner and down are their own
STEM, INNER, OUTER, DOWN, HEAD = range(5)
TOY = toy_spec()
#: no limit, and all its costs are kept in mind for the others
LEAST = Space(TOY, MOVES, ThresholdReward())


def limited(**limits: float) -> Space:
    return Space(TOY, MOVES, ThresholdReward(), Limits(**limits))


def wider(space: Space, actions: Actions) -> list[Actions]:
    """One layer by one coefficient."""
    found = []
    for step, mask in enumerate(space.masks):
        more = np.flatnonzero(mask)[np.flatnonzero(mask) > actions[step]]
        if len(more):
            found.append((*actions[:step], int(more[0]), *actions[step + 1 :]))
    return found


SHARES = st.floats(0.02, 1.2)
KB = LEAST.teacher_cost.kb


@settings(max_examples=12, deadline=None)
@given(SHARES)
def test_they_are_as_large_as_the_limit_allows(share: float) -> None:
    space = limited(max_kb=max(share * KB, LEAST.cost(LEAST.smallest).kb))
    students = plain_students(space)
    assert next(iter(students)) == "uniform"
    assert len({space.key(actions) for actions in students.values()}) == len(students)
    for actions in students.values():
        assert space.fits(actions)
        assert space.masks[np.arange(len(actions)), actions].all()
        # where its neighbour sets a layer's width, it is kept: removing it is no width
        assert actions[OUTER] == actions[HEAD] == MOVES.keep
        assert not any(MOVES.removes(action) for action in actions)
    even = students["uniform"]
    free = [even[step] for step in (STEM, INNER, DOWN)]
    assert max(free) - min(free) <= 1
    # nothing is left of the limit for those that stayed a step behind
    behind = [step for step in (STEM, INNER, DOWN) if even[step] < max(free)]
    for actions in wider(space, even):
        assert not any(actions[step] > even[step] for step in behind) or not space.fits(actions)
    if even != (MOVES.keep,) * 5:
        assert not space.fits(tuple(min(action + 1, MOVES.keep) for action in even))
    smaller = students.get("smaller")
    if smaller and smaller != (1, 1, MOVES.keep, 1, MOVES.keep):
        assert space.cost(smaller).kb <= SMALLER * space.cost(even).kb


@settings(max_examples=8, deadline=None)
@given(SHARES)
def test_the_largest_grows_until_nothing_fits(share: float) -> None:
    space = limited(max_kb=max(share * KB, LEAST.cost(LEAST.smallest).kb))
    even = uniform_student(space, space.fits)
    largest = widened(space, even, space.fits)
    most = MOST_MACS * space.cost(even).macs
    assert space.fits(largest)
    assert space.cost(largest).macs <= most
    assert all(one >= other for one, other in zip(largest, even, strict=True))
    assert not any(
        space.fits(actions) and space.cost(actions).macs <= most
        for actions in wider(space, largest)
    )


def test_all_limits_on_cost_count() -> None:
    few = 0.1 * LEAST.teacher_cost.macs
    space = limited(max_kb=KB / 2, max_macs=few)
    for actions in plain_students(space).values():
        assert space.cost(actions).macs <= few
        assert space.cost(actions).kb <= KB / 2


def test_a_limit_that_asks_for_nothing_gives_the_teacher_and_its_half() -> None:
    space = limited(max_kb=2 * KB)
    students = plain_students(space)
    assert students["uniform"] == (MOVES.keep,) * 5
    # nothing can be added, and tapered is the same
    assert list(students) == ["uniform", "smaller"]


def test_without_limits_c0_rules() -> None:
    space = Space(TOY, MOVES, ThresholdReward(c0=0.7))
    fits = budget_of(space)
    for actions in plain_students(space).values():
        assert space.cost(actions).kb <= 0.3 * KB + 1e-9
    even = plain_students(space)["uniform"]
    assert not fits(tuple(min(action + 1, MOVES.keep) for action in even))
    # where C0 asks for nothing but smallness, or there is none, a twentieth of the teacher
    for reward in (ThresholdReward(c0=1.0), PaperReward(c0=1.0)):
        usual = budget_of(Space(TOY, MOVES, reward))
        sizes = {actions: LEAST.cost(actions).kb for actions in map(evenly, range(1, 18))}
        assert {a for a in sizes if usual(a)} == {
            a for a, kb in sizes.items() if kb <= USUAL_SHARE * KB
        }


def evenly(level: int) -> Actions:
    return (level, level, MOVES.keep, level, MOVES.keep)


def test_where_not_even_the_narrowest_fits_they_are_shrunk_into_the_limit() -> None:
    """The smallest student has no block at all: layers are removed only where they must be."""
    least = LEAST.cost(LEAST.smallest).kb
    assert least < LEAST.cost(evenly(1)).kb
    space = limited(max_kb=least)
    students = plain_students(space)
    assert students
    assert all(space.fits(actions) for actions in students.values())


@pytest.fixture(scope="module")
def line() -> NetSpec:
    """image → narrow, 4 → wide, 16 → head."""
    layers = {
        "narrow": nn.Conv2d(1, 4, 3, padding=1),
        "wide": nn.Conv2d(4, 16, 3, padding=1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(16, 2),
    }
    return trace(nn.Sequential(OrderedDict(layers)).eval(), (1, 6, 6))


def test_the_taper_worked_by_hand(line: NetSpec) -> None:
    # φ ∝ outputs^-½: a layer of 4 keeps twice the share of one of 16
    space = Space(line, Moves((0.0, 0.25, 0.5, 1.0), "o"), ThresholdReward())
    wanted = (2, 1, 3)
    limit = space.cost(wanted).bytes
    assert tapered(space, lambda actions: space.cost(actions).bytes <= limit) == wanted
    # a byte less, and the narrow one has to give way
    found = tapered(space, lambda actions: space.cost(actions).bytes < limit)
    assert found == (1, 1, 3)


def test_the_uniform_one_worked_by_hand(line: NetSpec) -> None:
    space = Space(line, Moves((0.0, 0.25, 0.5, 1.0), "o"), ThresholdReward())
    # (½, ½) does not fit by a byte. The narrow one grows first, as it brings fewer bytes;
    # after that the wide one does not fit
    limit = space.cost((2, 2, 3)).bytes - 1
    assert space.cost((2, 1, 3)).bytes < space.cost((1, 2, 3)).bytes <= limit
    assert uniform_student(space, lambda a: space.cost(a).bytes <= limit) == (2, 1, 3)
    # one that may be a byte larger is the half
    assert uniform_student(space, lambda a: space.cost(a).bytes <= limit + 1) == (2, 2, 3)


def test_the_largest_stops_at_three_times_the_work(line: NetSpec) -> None:
    """Everything fits in bytes, but not in time."""
    space = Space(line, Moves((0.0, 0.25, 0.5, 1.0), "o"), ThresholdReward())
    start = (1, 1, 3)
    found = widened(space, start, lambda actions: True)
    assert found != (3, 3, 3)
    assert space.cost(found).macs <= 3 * space.cost(start).macs
    assert space.cost((3, 3, 3)).macs > 3 * space.cost(start).macs
