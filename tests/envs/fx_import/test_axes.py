"""The algebra of axes against torch: whatever is reshaped and permuted, both say the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from envs.fx_import.reading.axes import (
    BATCH,
    BATCH_SIZE,
    Axes,
    Factor,
    Step,
    join,
    moved,
    plain,
    plan,
    repeated,
    reshape,
    sizes,
    spelled,
    take,
    without_copies,
)
from envs.graph.netspec import Shape
from envs.graph.ops import OPS

Draw = Callable[[st.SearchStrategy[Any]], Any]

WHOLE_BATCH = (Factor(BATCH, BATCH_SIZE, 1),)


def numbered(shape: Shape) -> Tensor:
    """A node's output in which every number is its own place."""
    return torch.arange(BATCH_SIZE * math.prod(shape), dtype=torch.float32).view(-1, *shape)


def run(steps: tuple[Step, ...], x: Tensor) -> Tensor:
    for op, attrs in steps:
        function, options = OPS[op].function(attrs)
        x = function(x, **options)
    return x


def permuted(axes: Axes, order: list[int]) -> Axes:
    return tuple(axes[axis] for axis in order)


def test_a_channel_shuffle_by_hand() -> None:
    axes = plain((6, 4, 5))
    assert axes == (WHOLE_BATCH, (Factor(0, 6, 1),), (Factor(1, 4, 1),), (Factor(2, 5, 1),))
    axes = reshape(axes, (BATCH_SIZE, 2, 3, 4, 5))
    # channel = 3 · group + place
    assert axes[1:3] == ((Factor(0, 2, 3),), (Factor(0, 3, 1),))
    axes = reshape(permuted(axes, [0, 2, 1, 3, 4]), (BATCH_SIZE, 6, 4, 5))
    assert axes[1] == (Factor(0, 3, 1), Factor(0, 2, 3))
    assert plan(axes, (6, 4, 5)) == (("shuffle", {"groups": 2}),)


def test_splitting_and_merging_again_leaves_nothing() -> None:
    axes = reshape(plain((6, 4, 5)), (BATCH_SIZE, 3, 2, 20))
    assert reshape(axes, (BATCH_SIZE, 6, 4, 5)) == plain((6, 4, 5))
    assert plan(plain((6, 4, 5)), (6, 4, 5)) == ()


@pytest.mark.parametrize(
    ("shape", "order", "new", "steps"),
    [
        # maps as a vector, channels slowest or fastest
        ((2, 3, 5), [0, 1, 2, 3], (30,), [("flatten", {"last": False})]),
        ((2, 3, 5), [0, 2, 3, 1], (30,), [("flatten", {"last": True})]),
        # height, channel, width: feature 0, 1 … are those of channel 0 at (0, 0), (0, 1);
        # then channel 1 at (0, 0), which stands at 1 · 4 + 0 after a plain flatten
        ((2, 2, 2), [0, 2, 1, 3], (8,),
         [("flatten", {"last": False}), ("select", {"index": [0, 1, 4, 5, 2, 3, 6, 7]})]),
        # tokens: the pixels in one axis
        ((2, 3, 5), [0, 1, 2, 3], (2, 15), [("flatten_space", {})]),
        # one pixel is a vector, and a vector is one pixel
        ((4, 1, 1), [0, 1, 2, 3], (4,), [("flatten", {"last": False})]),
        ((4,), [0, 1], (4, 1, 1), [("unsqueeze", {"dims": 2})]),
        ((4,), [0, 1], (4, 1), [("unsqueeze", {"dims": 1})]),
        ((4, 1), [0, 1, 2], (4, 1, 1),
         [("flatten", {"last": False}), ("unsqueeze", {"dims": 2})]),
    ],
)  # fmt: skip
def test_layouts_that_operators_give(
    shape: Shape, order: list[int], new: Shape, steps: list[Step]
) -> None:
    axes = reshape(permuted(plain(shape), order), (BATCH_SIZE, *new))
    assert list(plan(axes, shape)) == steps
    wanted = numbered(shape).permute(order).reshape(-1, *new)
    assert torch.equal(run(plan(axes, shape), numbered(shape)), wanted)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([0, 1, 3, 2], "(batch, channels, width, height)"),
        ([0, 2, 3, 1], "(batch, height, width, channels)"),
        ([1, 0, 2, 3], "(channels, batch, height, width)"),
    ],
)
def test_layouts_that_no_operator_gives(order: list[int], words: str) -> None:
    axes = permuted(plain((2, 3, 5)), order)
    assert spelled(axes, (2, 3, 5)) == words
    with pytest.raises(ValueError) as error:
        plan(axes, (2, 3, 5))
    assert str(error.value) == words


def test_parts_of_axes_in_words() -> None:
    axes = reshape(plain((6, 4)), (BATCH_SIZE, 2, 12, 1))
    assert spelled(axes, (6, 4)) == "(batch, part of channels, part of channels×length, 1)"


def test_an_axis_that_would_be_cut_through() -> None:
    with pytest.raises(ValueError, match=r"axes of \(211, 6, 4\) cut into \(211, 4, 6\)"):
        reshape(plain((6, 4)), (BATCH_SIZE, 4, 6))


def test_copies_take_no_place() -> None:
    gate = plain((4, 1, 1))
    wide = repeated(gate, (BATCH_SIZE, 4, 3, 5))
    assert sizes(wide) == (BATCH_SIZE, 4, 3, 5)
    assert without_copies(wide) == gate
    with pytest.raises(ValueError, match="repeated to"):
        repeated(gate, (BATCH_SIZE, 8, 1, 1))


@st.composite
def rearrangements(draw: Draw) -> tuple[Shape, Axes, Tensor]:
    """A node's shape, and the axes and numbers after some permutes and reshapes."""
    shape = draw(st.sampled_from([(6,), (4, 1, 1), (6, 4), (4, 3, 2), (1, 4, 4), (8, 2, 6)]))
    axes, x = plain(shape), numbered(shape)
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            order = [0, *draw(st.permutations(range(1, x.dim())))]
            axes, x = permuted(axes, order), x.permute(order)
            continue
        new = list(x.shape)
        at = draw(st.integers(1, len(new) - 1))
        if draw(st.booleans()) and at + 1 < len(new):
            new[at : at + 2] = [new[at] * new[at + 1]]
        else:
            divisors = [size for size in range(1, new[at] + 1) if new[at] % size == 0]
            size = draw(st.sampled_from(divisors))
            new[at : at + 1] = [size, new[at] // size]
        try:
            axes = reshape(axes, new)
        except ValueError:
            continue
        x = x.reshape(new)
    return shape, axes, x


def gathered(axes: Axes, shape: Shape) -> Tensor:
    """The tensor that the axes say, number by number: place = Σ digit · step over the factors."""
    strides = {BATCH: math.prod(shape)}
    strides |= {dim: math.prod(shape[dim + 1 :]) for dim in range(len(shape))}
    places = torch.zeros((), dtype=torch.int64)
    for axis in axes:
        along = torch.zeros(1, dtype=torch.int64)
        for factor in axis:
            digits = torch.arange(factor.extent) * factor.step * strides[factor.dim]
            along = (along[:, None] + digits).flatten()
        places = places[..., None] + along
    return numbered(shape).flatten()[places]


@given(rearrangements())
def test_the_axes_say_where_every_number_is(case: tuple[Shape, Axes, Tensor]) -> None:
    shape, axes, x = case
    assert sizes(axes) == x.shape
    assert torch.equal(gathered(axes, shape), x)


@given(rearrangements(), st.data())
def test_a_plan_gives_the_layout_or_there_is_none(
    case: tuple[Shape, Axes, Tensor], data: st.DataObject
) -> None:
    shape, axes, x = case
    channel = data.draw(st.integers(1, x.dim() - 1))
    axes, x = moved(axes, channel, 1), x.movedim(channel, 1)
    try:
        steps = plan(axes, shape)
    except ValueError:
        return
    assert torch.equal(run(steps, numbered(shape)), x)


@given(rearrangements(), st.data())
def test_positions_of_an_axis_are_positions_of_the_nodes_own(
    case: tuple[Shape, Axes, Tensor], data: st.DataObject
) -> None:
    shape, axes, x = case
    axis = data.draw(st.integers(1, x.dim() - 1))
    positions = st.integers(0, x.shape[axis] - 1)
    kept = data.draw(st.lists(positions, min_size=1, max_size=6))
    found = take(axes, axis, kept, shape)
    if found is None:
        assert len(axes[axis]) != 1
        return
    dim, indices, rest = found
    cut = numbered(shape).index_select(dim + 1, torch.tensor(indices))
    # the axes speak of the node after the cut, so number its places anew
    values = gathered(rest, tuple(cut.shape[1:])).to(torch.int64)
    assert torch.equal(cut.flatten()[values], x.index_select(axis, torch.tensor(kept)))


@given(rearrangements())
def test_joining_is_idempotent(case: tuple[Shape, Axes, Tensor]) -> None:
    _, axes, _ = case
    assert all(join(axis) == axis for axis in axes)
