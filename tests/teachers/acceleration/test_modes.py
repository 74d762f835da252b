from __future__ import annotations

import pytest
import torch
from torch import nn

from edge.errors import BadInput
from teachers.acceleration import precision as precisions
from teachers.acceleration.modes import Mode, Trial, modes

BF16 = Mode("bf16", "channels_last")
FP32 = Mode("fp32", "channels_last")
USUAL = Mode("fp32", "contiguous")


def _run(seconds: dict[Mode, list[float]], *candidates: Mode) -> tuple[list[Mode], Trial]:
    """The modes of steps that take the seconds given, and the trial in the end."""
    now = [0.0]
    trial = Trial(candidates, clock=lambda: now[0])
    left = {mode: iter(times) for mode, times in seconds.items()}
    taken: list[Mode] = []
    while not trial.decided:
        with trial.timing(lambda memory_format: None) as mode:
            taken.append(mode)
            now[0] += next(left[mode])
    return taken, trial


def test_the_fastest_mode_wins_and_first_steps_do_not_count() -> None:
    # One warm-up step and three timed ones each; their fastest: 2.0 against 1.5.
    taken, trial = _run({BF16: [9, 2.1, 2.0, 2.5], FP32: [0.1, 1.6, 1.5, 3]}, BF16, FP32)
    assert taken == [BF16] * 4 + [FP32] * 4
    assert trial.mode == FP32


def test_a_gain_within_noise_changes_nothing() -> None:
    _, trial = _run({BF16: [9, 2.0, 2.0, 2.0], FP32: [9, 1.95, 1.95, 1.95]}, BF16, FP32)
    assert trial.mode == BF16


def test_a_hopeless_mode_is_given_up_after_one_timed_step() -> None:
    times: dict[Mode, list[float]] = {
        BF16: [9, 1, 1, 1],
        FP32: [9, 2.0],
        USUAL: [9, 1.1, 0.8, 1],
    }
    taken, trial = _run(times, BF16, FP32, USUAL)
    assert taken == [BF16] * 4 + [FP32] * 2 + [USUAL] * 4
    assert trial.mode == USUAL


def test_weights_are_reordered_exactly_where_the_layout_changes() -> None:
    orders: list[torch.memory_format] = []
    trial = Trial((BF16, FP32, USUAL), clock=lambda: 0.0)
    while not trial.decided:
        with trial.timing(orders.append):
            pass
    # To the usual layout for its trial, and back for the winner, the first of equals.
    assert orders == [torch.contiguous_format, torch.channels_last]
    assert trial.mode == BF16


def test_one_mode_needs_no_trial() -> None:
    assert Trial((USUAL,)).decided
    with pytest.raises(ValueError, match="at least one"):
        Trial(())


def _network(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1))


# A layer of w×w 3×3 weights on 32×32 pixels is 9,216·w² MACs: .15, 2.4 and 37.7 million.
@pytest.mark.parametrize(
    ("width", "native", "expected"),
    [
        (4, True, (FP32,)),
        (16, True, (BF16, FP32, USUAL)),
        (64, True, (BF16,)),
        (4, False, (FP32,)),
        (64, False, (FP32,)),
    ],
)
def test_only_what_size_leaves_open_is_tried(
    width: int, native: bool, expected: tuple[Mode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "has_native_bf16", lambda device="cpu": native)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert modes("auto", "auto", _network(width), (1, 32, 32)) == expected
    finally:
        torch.set_num_threads(threads)


def test_what_is_asked_for_is_not_tried() -> None:
    network = _network(16)
    assert modes("fp32", "contiguous", network, (1, 32, 32)) == (USUAL,)
    assert modes("bf16", "channels_last", network, (1, 32, 32)) == (BF16,)
    assert modes("fp32", "auto", network, (1, 32, 32)) == (FP32, USUAL)
    assert modes("bf16", "contiguous", network, (1, 32, 32)) == (Mode("bf16", "contiguous"),)
    with pytest.raises(BadInput, match="layout"):
        modes("fp32", "blocked", network, (1, 32, 32))


def test_a_mode_is_known_by_its_name() -> None:
    assert Mode.named(BF16.name) == BF16
    with pytest.raises(BadInput, match="precision"):
        Mode.named("int8 contiguous")
