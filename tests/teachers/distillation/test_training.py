from __future__ import annotations

import subprocess
import sys
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.preprocess import Preprocess
from teachers.acceleration.modes import Mode, Trial
from teachers.data.datasets import Dataset
from teachers.distillation.metrics import accuracy
from teachers.distillation.trainer import Diverged, Epoch, Schedule, Trainer, cut
from teachers.distillation.training import normalise, predict, train_classifier
from teachers.formats.zoo import build

TWO = Preprocess(channels=1, height=1, width=2, mean=(0.0,), std=(1.0,))


class Doubling(nn.Module):
    """Logits (2a, 2b) of an image (a, b) of two pixels, and a batch norm that notices training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False, eps=1e-12)
        self.fc = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(2 * torch.flatten(self.norm(x), 1))
        return y


def _images(rows: int) -> NDArray[np.uint8]:
    return (np.arange(rows * 2) % 256).astype(np.uint8).reshape(rows, 1, 2, 1)


def test_logits_and_tapped_features_by_hand() -> None:
    # Pixels 0..5 as (0, 1), (2, 3), (4, 5); over 255; features are the input of fc, 2x.
    prediction = predict(Doubling(), _images(3), TWO, batch_size=2, tap="fc")
    expected = 2 * np.array([[0, 1], [2, 3], [4, 5]], dtype=np.float32) / 255
    np.testing.assert_allclose(prediction.logits, expected, rtol=1e-6)
    assert prediction.features is not None
    np.testing.assert_allclose(prediction.features, expected, rtol=1e-6)
    assert prediction.logits.dtype == prediction.features.dtype == np.float32


def test_predicting_changes_nothing() -> None:
    module = Doubling().train()
    module.fc.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    prediction = predict(module, _images(5), TWO)
    assert prediction.features is None
    assert module.training
    assert not module.fc.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not module.fc._forward_pre_hooks


def test_the_mode_comes_back_after_an_error() -> None:
    module = Doubling().train()
    with pytest.raises(RuntimeError):
        predict(module, np.zeros((1, 1, 3, 1), np.uint8), Preprocess(1, 1, 3, (0.0,), (1.0,)))
    assert module.training


def test_batches_do_not_matter(
    digits_teacher: nn.Module, digits: Dataset, grey8: Preprocess
) -> None:
    one, many = (
        predict(digits_teacher, digits.images[:50], grey8, batch_size=size).logits
        for size in (50, 7)
    )
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_bf16_is_close_to_fp32(
    digits_teacher: nn.Module, digits: Dataset, grey8: Preprocess
) -> None:
    exact, fast = (
        predict(digits_teacher, digits.images[:200], grey8, precision=precision, tap="fc")
        for precision in ("fp32", "bf16")
    )
    assert fast.logits.dtype == np.float32
    assert not np.array_equal(fast.logits, exact.logits)
    scale = float(np.abs(exact.logits).max())
    np.testing.assert_allclose(fast.logits, exact.logits, atol=0.03 * scale)


@pytest.mark.parametrize(
    ("rows", "batch", "expected"),
    [
        (6, 3, [(0, 3), (3, 6)]),
        (8, 3, [(0, 3), (3, 6), (6, 8)]),
        (7, 3, [(0, 3), (3, 7)]),  # a last batch of one joins its neighbour
        (2, 9, [(0, 2)]),
        (3, 2, [(0, 3)]),
    ],
)
def test_batches_are_never_of_one_row(
    rows: int, batch: int, expected: list[tuple[int, int]]
) -> None:
    assert cut(rows, batch) == expected


@pytest.mark.parametrize(
    ("rows", "batch", "multiple", "expected"),
    [
        # 75 rows on 2 threads: one row is left out, so that the threads share every batch evenly.
        (75, 32, 2, [(0, 32), (32, 64), (64, 74)]),
        # 4 threads cannot share 30 rows; they can share 28.
        (64, 30, 4, [(0, 28), (28, 56), (56, 64)]),
        # Too few rows to leave any out.
        (7, 8, 4, [(0, 7)]),
    ],
)
def test_batches_that_threads_can_share(
    rows: int, batch: int, multiple: int, expected: list[tuple[int, int]]
) -> None:
    assert cut(rows, batch, multiple) == expected


def test_narrow_strided_networks_train_on_two_threads() -> None:
    # In a process of its own: without an even number of images in every batch this one crashes.
    script = """
import numpy as np, torch
from torch import nn
from edge.preprocess import Preprocess
from teachers.distillation.training import train_classifier

torch.set_num_threads(2)
module = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.Conv2d(12, 26, 1, stride=2, bias=False),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(26, 10),
)
images = np.random.default_rng(0).integers(0, 256, (128 + 75, 14, 14, 1), dtype=np.uint8)
labels = np.arange(203) % 10
look = Preprocess(1, 14, 14, (0.5,), (0.5,))
train_classifier(module, images, labels, look, epochs=20, seed=0, precision="fp32")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(("rows", "batch"), [(1, 8), (0, 8), (5, 1)])
def test_a_batch_of_one_cannot_be_asked_for(rows: int, batch: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        cut(rows, batch)


def test_the_rate_rises_then_falls_to_a_hundredth() -> None:
    # 20 steps, 15 % of them are 3: thirds of the rate, then a cosine over the other 17.
    schedule = Schedule(epochs=1, batch_size=2, learning_rate=3.0, weight_decay=0.0)
    rates = [schedule.rate(step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert all(a > b for a, b in pairwise(rates[3:]))
    assert rates[11] == pytest.approx(3 * (0.01 + 0.99 / 2))
    assert rates[19] == pytest.approx(0.03)
    assert schedule.rate(0, 1) == 3.0


def _trainer(module: nn.Module, schedule: Schedule) -> Trainer:
    return Trainer(module, 10, schedule, Trial((Mode("fp32", "channels_last"),)), seed=0)


def _feed(rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    return normalise(_images(10)[rows], TWO)


def test_every_row_is_seen_once_per_epoch() -> None:
    seen: list[list[int]] = []

    def feed(rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        seen.append(rows.tolist())
        return _feed(rows, rng)

    def objective(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        assert len(logits) == len(rows)
        return logits.square().mean()

    schedule = Schedule(epochs=2, batch_size=4, learning_rate=1e-3, weight_decay=0.0)
    with _trainer(Doubling(), schedule) as trainer:
        epochs = [trainer.epoch(number, feed, objective) for number in (1, 2)]
    assert [len(rows) for rows in seen] == [4, 4, 2, 4, 4, 2]
    first, second = (list(chain(*half)) for half in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [(epoch.number, epoch.rows, epoch.last) for epoch in epochs] == [
        (1, 10, False),
        (2, 10, True),
    ]


def test_a_loss_that_is_not_finite_ends_training_before_the_weights_are_touched() -> None:
    module = Doubling()
    schedule = Schedule(epochs=1, batch_size=4, learning_rate=1.0, weight_decay=0.0)

    def objective(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        return logits.mean() * float("nan")

    with (
        _trainer(module, schedule) as trainer,
        pytest.raises(Diverged, match="the loss is not finite in epoch 1"),
    ):
        trainer.epoch(1, _feed, objective)
    assert torch.equal(module.fc.weight.detach(), torch.eye(2))


def test_states_of_the_optimiser_follow_the_weights_into_another_layout() -> None:
    # A fused optimiser walks over memory: with weights and states in different orders it would
    # train on, wrongly. So steps in turns of both layouts must give what one layout gives.
    def trained(*layouts: str) -> Tensor:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.Conv2d(2, 3, 1), nn.Flatten())
        now = iter(range(10**6))
        trial = Trial([Mode("fp32", layout) for layout in layouts],  # type: ignore[arg-type]
                      clock=lambda: float(next(now)))  # fmt: skip
        schedule = Schedule(epochs=4, batch_size=2, learning_rate=0.1, weight_decay=0.0)
        with Trainer(module, 10, schedule, trial, seed=0) as trainer:
            for number in range(1, 5):
                trainer.epoch(number, _feed, lambda logits, rows: logits.square().mean())
        return module[1].weight.detach().clone()  # type: ignore[operator]

    torch.testing.assert_close(
        trained("channels_last", "contiguous"), trained("channels_last"), atol=1e-6, rtol=1e-5
    )


def test_pixels_are_normalised_as_the_edge_does_it(digits: Dataset, grey8: Preprocess) -> None:
    rgb = Preprocess(3, 5, 4, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    colours = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    for pixels, look in ((digits.images[:9], grey8), (colours, rgb)):
        x = normalise(pixels, look)
        assert torch.equal(x, torch.from_numpy(look.to_input(pixels)))
        assert x.is_contiguous(memory_format=torch.channels_last)


def _trained(digits: Dataset, grey8: Preprocess, seed: int) -> tuple[nn.Module, list[Epoch]]:
    torch.manual_seed(0)
    module = build("small_cnn", input_shape=(1, 8, 8), classes=10)
    epochs: list[Epoch] = []
    train_classifier(
        module,
        digits.images[:128],
        digits.labels[:128],
        grey8,
        epochs=2,
        batch_size=32,
        seed=seed,
        on_epoch=epochs.append,
    )
    return module, epochs


def test_training_is_repeatable_to_the_bit(digits: Dataset, grey8: Preprocess) -> None:
    (one, epochs), (same, _), (other, _) = (_trained(digits, grey8, seed) for seed in (5, 5, 6))
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[1].loss < epochs[0].loss
    assert not one.training
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        assert value.is_contiguous()
    assert not torch.equal(one.state_dict()["fc.weight"], other.state_dict()["fc.weight"])


def test_training_leaves_the_random_state_alone(digits: Dataset, grey8: Preprocess) -> None:
    _trained(digits, grey8, seed=1)  # ends with the state that manual_seed(0) and build leave
    after = torch.rand(1)
    torch.manual_seed(0)
    build("small_cnn", input_shape=(1, 8, 8), classes=10)
    assert torch.equal(torch.rand(1), after)


def test_a_teacher_learns_digits(
    digits_teacher: nn.Module, digits: Dataset, grey8: Preprocess
) -> None:
    logits = predict(digits_teacher, digits.images[1200:], grey8).logits
    assert accuracy(logits, digits.labels[1200:]) > 0.9
