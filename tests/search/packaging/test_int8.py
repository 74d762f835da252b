"""Which number format ships: what int8 loses and gains, measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edge.session import Session
from envs.export.export import to_onnx
from search.packaging import int8
from search.packaging.int8 import Int8, first, make_int8


def made(quality: float, ms: float) -> Int8:
    return Int8(b"", quality, fp32_quality=0.9, ms=ms, fp32_ms=1.0)


@pytest.mark.parametrize(
    ("quality", "ms", "reason"),
    [
        (0.9, 0.5, ""),
        (0.91, 0.96, ""),
        (0.898, 0.5, ""),  # .2 points, the most that it may lose
        (0.8979, 0.5, "would lose 0.21%"),
        (0.9, 0.98, "no faster here: 0.98 ms against 1"),
    ],
)
def test_int8_ships_where_it_loses_next_to_nothing_and_is_faster(
    quality: float, ms: float, reason: str
) -> None:
    assert reason in made(quality, ms).reason
    assert bool(made(quality, ms).reason) == bool(reason)


def test_a_wide_convolution_is_measured_in_both_forms() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 2),
    )  # fmt: skip
    seen = np.random.default_rng(0).normal(size=(32, 64, 16, 16)).astype(np.float32)
    fp32 = to_onnx(network, (64, 16, 16))
    truth = Session(fp32, "student").run(seen, "logits", (2,)).argmax(1)

    def validation_set(session: Session) -> float:
        return float((session.run(seen, "logits", (2,)).argmax(1) == truth).mean())

    found = make_int8(fp32, [seen], validation_set)

    assert found.fp32_quality == 1.0
    assert found.quality > 0.9
    assert len(found.model) < 0.5 * len(fp32)
    assert 0 < found.ms < 10 * found.fp32_ms


def test_seven_bits_are_tried_where_eight_lose_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def to_int8(model: bytes, seen: object, *, reduce_range: bool = False) -> bytes:
        asked.append(reduce_range)
        return model

    monkeypatch.setattr(int8, "to_int8", to_int8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    grades = iter([0.9, 0.8, 0.895])  # of fp32, of eight bits, of seven
    found = make_int8(
        to_onnx(network, (1, 2, 2)), [np.zeros((1, 1, 2, 2), np.float32)], lambda _: next(grades)
    )
    assert asked == [False, True]
    assert found.quality == 0.895


def test_the_first_rows_of_a_part_are_taken_and_no_more() -> None:
    def batches() -> Iterator[NDArray[np.float32]]:
        for start in range(0, 1000, 40):
            yield np.arange(start, start + 40, dtype=np.float32)

    taken = first(batches(), rows=100)
    np.testing.assert_array_equal(np.concatenate(taken), np.arange(100))
