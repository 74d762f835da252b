"""Floats and the pixels behind them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from edge.preprocess import Preprocess
from understudy.pixels import Scale, batch_of, scale_of


def drawn(shape: tuple[int, ...], most: int = 255, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, most + 1, shape)
    found.flat[:2] = 0, most
    return found


@settings(max_examples=40, deadline=None)
@given(
    mean=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    std=st.lists(st.floats(0.05, 5), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_whatever_normalised_them_the_floats_come_back(
    mean: list[float], std: list[float], seed: int
) -> None:
    pixels = drawn((50, 6, 6, 3), seed=seed).astype(np.uint8)
    network = Preprocess(3, 6, 6, tuple(mean), tuple(std))
    floats = network.to_input(pixels).transpose(0, 2, 3, 1)
    found = scale_of([floats[:30], floats[30:]])
    assert found.exact
    again = Preprocess(3, 6, 6, found.mean, found.std)
    back = again.to_input(found.pixels(floats)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(back, floats, atol=2e-5 * float(np.ptp(floats)))


def test_pixels_from_0_to_1_are_recognised() -> None:
    pixels = drawn((20, 4, 4, 1))
    found = scale_of([(pixels / 255).astype(np.float32)])
    assert found == Scale((0.0,), (1.0,))


def test_a_few_levels_are_spread_over_all_pixels() -> None:
    levels = drawn((200, 4, 4, 1), most=16) / 16
    found = scale_of([levels])
    assert found.exact
    assert found.pixels(levels).max() == 240
    network = Preprocess(1, 4, 4, found.mean, found.std)
    np.testing.assert_allclose(network.to_input(found.pixels(levels))[:, 0], levels[..., 0],
                               atol=1e-6)  # fmt: skip


def test_floats_from_no_pixels_are_cut_into_256_steps() -> None:
    floats = np.random.default_rng(0).normal(size=(500, 4, 4, 1))
    found = scale_of([floats])
    assert not found.exact
    network = Preprocess(1, 4, 4, found.mean, found.std)
    back = network.to_input(found.pixels(floats))[:, 0, ..., None]
    assert np.abs(back - floats).max() <= np.ptp(floats) / 510 * 1.01


def test_a_channel_of_one_value_is_no_division_by_zero() -> None:
    floats = np.zeros((3, 2, 2, 3))
    floats[..., 1] = 7
    found = scale_of([floats])
    assert np.isfinite([*found.mean, *found.std]).all()
    network = Preprocess(3, 2, 2, found.mean, found.std)
    np.testing.assert_allclose(network.to_input(found.pixels(floats))[:, 1], 7, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((5, 8, 8), (5, 8, 8, 1)),
        ((5, 8, 9, 3), (5, 8, 9, 3)),
        ((5, 3, 8, 9), (5, 8, 9, 3)),
        ((5, 1, 8, 9), (5, 8, 9, 1)),
    ],
)
def test_the_order_of_axes_is_told_by_the_channels(
    shape: tuple[int, ...], found: tuple[int, ...]
) -> None:
    assert batch_of(np.zeros(shape, np.uint8)).shape == found


@pytest.mark.parametrize("shape", [(8,), (8, 8), (5, 4, 8, 9), (1, 2, 3, 4, 5)])
def test_other_shapes_are_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="another shape than images"):
        batch_of(np.zeros(shape, np.uint8))
