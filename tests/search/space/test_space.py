"""Candidates: what they cost, which are the same, and which keep the limit."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.moves import PRESETS, Moves
from envs.compression.surgery import Inheritance
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import ToyNet
from envs.reward import PaperReward, ThresholdReward, TimedReward
from search.space.limits import MEASURES, Limits
from search.space.space import Actions, Space, Values
from teachers.formats import zoo
from tests.search.conftest import FINE, HALVES

FEW = settings(max_examples=25, deadline=None)


def everything(space: Space) -> list[Actions]:
    return [
        tuple(actions)
        for actions in product(*(np.flatnonzero(mask).tolist() for mask in space.masks))
    ]


def legal(space: Space) -> st.SearchStrategy[Actions]:
    return st.tuples(*(st.sampled_from(np.flatnonzero(m).tolist()) for m in space.masks))


def residual(preset: str) -> Space:
    module = zoo.build("resnet18", input_shape=(1, 16, 16), classes=10)
    return Space(trace(module, (1, 16, 16)), PRESETS[preset], ThresholdReward())


@pytest.fixture(scope="module", params=["default", "paper"])
def resnet(request: pytest.FixtureRequest) -> Space:
    return residual(request.param)


@pytest.mark.parametrize("scaled", ["o", "kdpo"])
def test_smallest_is_the_smallest_of_all(toy: NetSpec, scaled: str) -> None:
    space = Space(toy, Moves((0.0, 0.5, 1.0), scaled), ThresholdReward())
    sizes = [space.cost(actions).bytes for actions in everything(space)]
    assert len(sizes) == (54 if scaled == "o" else 81)
    assert space.cost(space.smallest).bytes == min(sizes)


@pytest.mark.parametrize("below", [0.999, 0.01])
def test_a_limit_that_nothing_keeps_names_what_could_be(
    toy: NetSpec, space: Space, below: float
) -> None:
    least = space.cost(space.smallest).kb
    with pytest.raises(BadInput) as caught:
        Space(toy, HALVES, ThresholdReward(), Limits(max_kb=least * below))
    named = float(caught.value.bound.split(" KB or more")[0])
    advised = float(caught.value.remedy.split("--max-kb ")[1].split()[0])
    assert least <= named <= least + 0.1
    # what the message names is itself accepted
    Space(toy, HALVES, ThresholdReward(), Limits(max_kb=named))
    Space(toy, HALVES, ThresholdReward(), Limits(max_kb=advised))


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_shrinking_keeps_limit_and_law(resnet: Space, data: st.DataObject) -> None:
    actions = data.draw(legal(resnet))
    least = resnet.cost(resnet.smallest).kb
    limit = data.draw(st.floats(least, resnet.teacher_cost.kb))
    tight = Space(resnet.teacher, resnet.moves, resnet.reward, Limits(max_kb=limit))
    shrunk = tight.shrunk(actions)
    assert tight.cost(shrunk).kb <= limit
    assert tight.masks[np.arange(len(shrunk)), shrunk].all()
    if resnet.cost(actions).kb <= limit:
        assert shrunk == actions


@FEW
@given(data=st.data())
def test_the_cost_is_that_of_the_student_that_is_built(space: Space, data: st.DataObject) -> None:
    actions = data.draw(legal(space))
    torch.manual_seed(0)
    teacher = ToyNet().eval()
    module = Inheritance.of(space.teacher, teacher.state_dict()).student(space.student(actions), 0)
    state = module.state_dict().values()
    assert space.cost(actions).bytes == sum(t.numel() * t.element_size() for t in state)
    assert space.cost(actions).parameters == sum(p.numel() for p in module.parameters())


def test_what_rounds_to_the_same_network_is_the_same_candidate(toy: NetSpec) -> None:
    space = Space(toy, FINE, ThresholdReward())
    # the stem has 10 outputs: ⌊.05·10 + ½⌋ = 1 = ⌊.1·10 + ½⌋
    assert space.key((1, 7, 7, 7, 7)) == space.key((2, 7, 7, 7, 7))
    # the inner layer has 20: 1 and 2
    assert space.key((7, 1, 7, 7, 7)) != space.key((7, 2, 7, 7, 7))


def test_different_keys_are_different_networks(space: Space) -> None:
    known: dict[str, str] = {}
    for actions in everything(space):
        known.setdefault(space.key(actions), space.student(actions).spec.to_json())
    assert len(set(known.values())) == len(known) > 20


def test_the_reward_is_of_accuracy_and_exact_size(toy: NetSpec) -> None:
    space = Space(toy, HALVES, PaperReward(alpha=2, beta=3, c0=0.5, a0=0.5))
    keep = (2, 2, 2, 2, 2)
    # the teacher itself: C = 0, so R = e^{2·(0 − .5)} · e^{3·(.9 − .5)} = e^{.2}
    assert space.reward_of(keep, 0.9) == pytest.approx(np.exp(0.2), abs=1e-12)
    half = (2, 1, 2, 2, 2)
    compressed = 1 - space.cost(half).bytes / space.teacher_cost.bytes
    assert space.reward_of(half, 0.9) == pytest.approx(np.exp(2 * compressed + 0.2), abs=1e-12)


def test_draws_are_repeated_before_anything_is_shrunk(toy: NetSpec) -> None:
    space = Space(toy, HALVES, ThresholdReward(), Limits(max_kb=20.0))
    fitting = (1, 1, 2, 2, 2)
    assert space.cost(fitting).kb <= 20.0
    stream = iter([(2, 2, 2, 2, 2), (2, 2, 2, 2, 2), fitting])
    assert space.within_limit(lambda: next(stream)) == fitting


# -- several limits


def by_layers(rows: NDArray[np.int64]) -> Values:
    """A made-up device: half a millisecond per layer that stays, and one more for the first."""
    left: Values = 0.5 * (rows > 0).sum(axis=1) + (rows[:, 0] > 0)
    return left


@pytest.mark.parametrize("scaled", ["o", "kdpo"])
@pytest.mark.parametrize("name", list(MEASURES))
def test_the_least_of_every_measure_is_found(toy: NetSpec, scaled: str, name: str) -> None:
    space = Space(toy, Moves((0.0, 0.5, 1.0), scaled), ThresholdReward(), latency=by_layers)
    least = space.figures(np.array(everything(space)))[name].min()
    assert space.reach.least(name) == least
    # rounding up, and no more, is between the least and what is refused
    Space(toy, space.moves, space.reward, Limits(**{name: least}), by_layers)
    with pytest.raises(BadInput, match=MEASURES[name].wish) as caught:
        Space(toy, space.moves, space.reward, Limits(**{name: 0.9 * least}), by_layers)
    named = float(caught.value.bound.split(" or more")[0].split()[0])
    assert least <= named <= least + 10.0 ** -MEASURES[name].digits
    Space(toy, space.moves, space.reward, Limits(**{name: named}), by_layers)


@FEW
@given(shares=st.tuples(*[st.floats(0.02, 1.2)] * 3))
def test_limits_that_no_candidate_keeps_together_are_found_out(
    toy: NetSpec, shares: tuple[float, float, float]
) -> None:
    free = Space(toy, HALVES, ThresholdReward(), latency=by_layers)
    candidates = everything(free)
    figures = free.figures(np.array(candidates))
    limits = Limits(
        *(share * figures[name].max() for share, name in zip(shares, MEASURES, strict=True))
    )
    kept = (limits.ratios(figures) <= 1).all(axis=0)
    try:
        tight = Space(toy, HALVES, ThresholdReward(), limits, by_layers)
    except BadInput as refusal:
        assert not kept.any()
        options = dict(re.findall(r"--(max-\w+) ([\d.]+)", refusal.bound))
        named = Limits(**{key.replace("-", "_"): float(value) for key, value in options.items()})
        tight = Space(toy, HALVES, ThresholdReward(), named, by_layers)
    else:
        assert kept.any()
    assert tight.fits(tight.smallest)
    for actions in candidates[::7]:
        shrunk = tight.shrunk(actions)
        assert tight.fits(shrunk)
        assert shrunk == actions or not tight.fits(actions)


def test_a_residual_network_under_two_limits(resnet: Space) -> None:
    figures = resnet.figures(np.array([resnet.smallest]))
    macs = 8 * figures["max_macs"][0]
    tight = Space(resnet.teacher, resnet.moves, resnet.reward, Limits(200.0, macs))
    keep = tuple(int(np.flatnonzero(mask)[-1]) for mask in tight.masks)
    shrunk = tight.cost(tight.shrunk(keep))
    assert shrunk.kb <= 200
    assert shrunk.macs <= macs


def test_many_rewards_are_what_each_is(toy: NetSpec) -> None:
    reward = TimedReward(ThresholdReward(), gamma=2, l0=2)
    space = Space(toy, HALVES, reward, latency=by_layers)
    candidates = everything(space)
    accuracies = np.linspace(0.1, 0.99, len(candidates))
    singly = [space.reward_of(*pair) for pair in zip(candidates, accuracies, strict=True)]
    np.testing.assert_allclose(space.rewards(candidates, accuracies), singly, rtol=1e-12)
    np.testing.assert_allclose(
        np.exp(space.log_rewards(np.array(candidates), accuracies)), singly, rtol=1e-12
    )
