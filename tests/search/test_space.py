"""Candidates: what they cost, which are the same, and which keep the limit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from envs.moves import PRESETS, Moves
from envs.netspec import NetSpec
from envs.reward import PaperReward, ThresholdReward
from envs.surgery import Inheritance
from envs.toy import ToyNet
from envs.trace import trace
from search.space import Actions, Space
from teachers import zoo
from tests.search.conftest import HALVES

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
        Space(toy, HALVES, ThresholdReward(), least * below)
    named = float(caught.value.bound.split(" KB or more")[0])
    advised = float(caught.value.remedy.split("--max-kb ")[1].split()[0])
    assert least <= named <= least + 0.1
    # what the message names is itself accepted
    Space(toy, HALVES, ThresholdReward(), named)
    Space(toy, HALVES, ThresholdReward(), advised)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_shrinking_keeps_limit_and_law(resnet: Space, data: st.DataObject) -> None:
    actions = data.draw(legal(resnet))
    least = resnet.cost(resnet.smallest).kb
    limit = data.draw(st.floats(least, resnet.teacher_cost.kb))
    tight = Space(resnet.teacher, resnet.moves, resnet.reward, limit)
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
    space = Space(toy, PRESETS["default"], ThresholdReward())
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
    space = Space(toy, HALVES, ThresholdReward(), max_kb=20.0)
    fitting = (1, 1, 2, 2, 2)
    assert space.cost(fitting).kb <= 20.0
    stream = iter([(2, 2, 2, 2, 2), (2, 2, 2, 2, 2), fitting])
    assert space.within_limit(lambda: next(stream)) == fitting
