"""How a coefficient rounds, and what the mask forbids."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from edge.errors import BadInput
from envs.compression.layers import Layer, anatomy
from envs.compression.moves import PRESETS, Moves
from envs.gym.toy import toy_spec

PAPER, DEFAULT = PRESETS["paper"], PRESETS["default"]
#: every coefficient with two decimals, as text and so as the exact number that was meant
HUNDREDTHS = [f"{number / 100:.2f}" for number in range(1, 101)]
ALL = Moves((0.0, *map(float, HUNDREDTHS)), "kdpo")


def exact(action: int) -> Fraction:
    return Fraction(action, 100)


@pytest.mark.parametrize("size", [*range(1, 41), 64, 100, 512])
def test_outputs_and_stride_round_half_up_and_never_reach_0(size: int) -> None:
    for action in range(1, 101):
        expected = max(1, floor(exact(action) * size + Fraction(1, 2)))
        assert ALL.outputs(size, action) == expected
        assert ALL.stride(size, action) == expected


def test_a_coefficient_is_the_decimal_that_was_written() -> None:
    # .35 · 10 = 3.5 rounds to 4. In binary .35 is a little less, and .145 · 100 a little less
    # than 14.5: rounding those would give 3 and 14.
    assert Moves((0.35, 1.0), "o").outputs(10, 0) == 4
    assert Moves((0.145, 1.0), "o").outputs(100, 0) == 15


@pytest.mark.parametrize("size", range(1, 12))
def test_a_kernel_takes_the_nearest_size_of_its_parity(size: int) -> None:
    for action in range(1, 101):
        kernel, target = ALL.kernel(size, action), exact(action) * size
        assert kernel % 2 == size % 2
        assert 1 <= kernel <= size
        # no other size of that parity is nearer, and of two equally near the smaller was taken
        assert kernel == 1 or kernel == 2 or target - (kernel - 2) > 1
        assert kernel == size or (kernel + 2) - target >= 1


def test_the_side_effects_of_equation_4() -> None:
    """Why the default preset leaves kernel and stride alone."""
    pool = PAPER.pool
    # stride 2 · .6 = 1.2 → 1: the "shrunk" layer writes larger maps
    assert [PAPER.stride(2, action) for action in range(1, 6)] == [1, 1, 1, 2, 2]
    # 3 · φ → 1 for φ ≤ .6: strong shrinking mixes no pixels
    assert [PAPER.kernel(3, action) for action in range(1, 6)] == [1, 1, 1, 3, 3]
    assert [PAPER.kernel(5, action) for action in range(1, 6)] == [1, 1, 3, 3, 5]
    assert [PAPER.kernel(7, action) for action in range(1, 6)] == [1, 3, 5, 5, 7]
    assert [PAPER.kernel(2, action) for action in range(1, 6)] == [2, 2, 2, 2, 2]
    assert pool[3] == 0.6
    # a tie goes down: 4 · .75 = 3 lies between 2 and 4
    assert Moves((0.75, 1.0), "k").kernel(4, 0) == 2


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("size", range(1, 12))
def test_padding_that_kept_the_size_goes_on_keeping_it(size: int, dilation: int) -> None:
    same, odd = divmod(dilation * (size - 1), 2)
    if odd:
        return  # no symmetric padding keeps the size of such a kernel
    for action in range(1, 101):
        kernel = ALL.kernel(size, action)
        assert 2 * ALL.padding(same, size, kernel, dilation, action) == dilation * (kernel - 1)


def test_other_padding_is_scaled_like_the_rest() -> None:
    # a 5×5 kernel with padding 1 is not "same": ⌊.6 · 1 + ½⌋ = 1, ⌊.4 · 1 + ½⌋ = 0, and 0 is legal
    assert PAPER.padding(1, 5, 3, 1, PAPER.pool.index(0.6)) == 1
    assert PAPER.padding(1, 5, 1, 1, PAPER.pool.index(0.4)) == 0
    assert PAPER.padding(0, 5, 3, 1, PAPER.pool.index(0.6)) == 0


@pytest.mark.parametrize("scaled", ["k", "d", "p", "o"])
def test_a_field_that_is_not_scaled_stays(scaled: str) -> None:
    moves = Moves((0.2, 1.0), scaled)
    changed = {
        "k": moves.kernel(7, 0) != 7,
        "d": moves.stride(5, 0) != 5,
        "p": moves.padding(5, 7, 7, 1, 0) != 5,
        "o": moves.outputs(10, 0) != 10,
    }
    assert [field for field, is_changed in changed.items() if is_changed] == [scaled]


@pytest.mark.parametrize("moves", [PAPER, DEFAULT, ALL], ids=["paper", "default", "all"])
def test_keep_changes_nothing(moves: Moves) -> None:
    for size in range(1, 12):
        assert moves.outputs(size, moves.keep) == size
        assert moves.kernel(size, moves.keep) == size
        assert moves.stride(size, moves.keep) == size
        assert moves.padding(size, 5, 5, 1, moves.keep) == size


def test_the_masks_of_the_toy() -> None:
    layers = anatomy(toy_spec()).layers
    steps = len(DEFAULT.pool)
    free = [1] * steps
    assert DEFAULT.masks(layers).tolist() == [
        free,
        free,
        # outer writes the stem's group: with outputs alone to scale, it can go or stay
        [1, *[0] * (steps - 2), 1],
        free,
        # the classifier keeps its outputs, and cannot go
        [*[0] * (steps - 1), 1],
    ]
    # `paper` scales outer's kernel, whatever the group's width
    assert PAPER.masks(layers).tolist() == [*[[1] * 6] * 4, [0, 0, 0, 0, 0, 1]]


def test_a_coefficient_that_would_do_nothing_is_not_legal() -> None:
    def layer(kind: str, sets_width: bool) -> Layer:
        return Layer(0, "x", kind, 1, 1, 0, 8, (), (0,), sets_width, classifier=False)

    # a linear layer has nothing but its outputs, and here they belong to another layer's group
    assert PAPER.mask(layer("linear", sets_width=False)).tolist() == [1, 0, 0, 0, 0, 1]
    assert PAPER.mask(layer("linear", sets_width=True)).tolist() == [1] * 6
    kernels = Moves((0.0, 0.5, 1.0), "k")
    assert kernels.mask(layer("linear", sets_width=True)).tolist() == [1, 0, 1]
    assert kernels.mask(layer("conv2d", sets_width=False)).tolist() == [1, 1, 1]
    assert kernels.mask(layer("conv1d", sets_width=False)).tolist() == [1, 1, 1]


def test_a_pool_without_0_removes_nothing() -> None:
    moves = Moves((0.5, 1.0), "o")
    assert not any(moves.removes(action) for action in range(2))
    assert np.all(moves.masks(anatomy(toy_spec()).layers)[:, moves.keep] == 1)


@pytest.mark.parametrize("coefficient", [-0.1, 1.2, float("nan"), float("inf")])
def test_a_coefficient_outside_0_to_1_is_refused(coefficient: float) -> None:
    with pytest.raises(BadInput, match=f"coefficient .* got {coefficient}; expected numbers from"):
        Moves((0.0, coefficient, 1.0), "o")


@pytest.mark.parametrize("pool", [(), (1.0,), (0.0, 0.5), (0.5, 0.0, 1.0), (0.5, 0.5, 1.0)])
def test_a_pool_that_cannot_be_used_is_refused(pool: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="pool .* ascending order, the last one 1. Mend `pool`"):
        Moves(pool, "o")


@pytest.mark.parametrize("scaled", ["", "x", "ox", "oo", "K"])
def test_fields_that_cannot_be_scaled_are_refused(scaled: str) -> None:
    with pytest.raises(BadInput, match=f"got '{scaled}'; expected some of the letters k"):
        Moves((0.0, 1.0), scaled)
