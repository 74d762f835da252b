"""Run a classifier over images, and train one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.preprocess import Preprocess
from teachers.acceleration import precision as precisions
from teachers.acceleration.modes import Mode, Trial
from teachers.distillation.trainer import Epoch, Schedule, Trainer
from teachers.distillation.training_sets import Images, Rows

#: rows that go through a network at a time: on a processor few, so that they stay in its cache
#: (of 224×224 pixels, 4 at a time were 3 times as fast in bf16 as 64, and took far less memory)
BATCH, LEAST_BATCH, GPU_BATCH = 64, 4, 512
#: most numbers in the inputs that go through it at a time, on a processor
BATCH_NUMBERS = 600_000


def rows_at_a_time(pixel_shape: tuple[int, ...], device: str = "cpu") -> int:
    """How many images of H×W×C to predict in one batch."""
    if device != "cpu":
        return GPU_BATCH
    return max(LEAST_BATCH, min(BATCH, BATCH_NUMBERS // math.prod(pixel_shape)))


@dataclass(frozen=True)
class Prediction:
    """``logits`` float32 N×K; ``features`` float32 N×F where a tap was named, else None."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None


def predict(
    module: nn.Module,
    images: Images,
    preprocess: Preprocess,
    *,
    rows: Rows | None = None,
    batch_size: int | None = None,
    tap: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
) -> Prediction:
    """Run ``module``, which is on ``device``, in eval mode over uint8 images N×H×W×C, N ≥ 1.

    ``rows`` are the images to answer, in that order; all of them for None. ``tap`` is the dotted
    name of a submodule whose input is kept, flattened, as features. The module comes back in the
    mode it had. "fp32" gives the same logits in every batch to within rounding; "bf16" and "auto"
    (see :mod:`teachers.acceleration.precision`) are about twice as fast and off by about 1 % of a
    logit. ``batch_size`` of None is :func:`rows_at_a_time`.
    """
    mode = precisions.resolve(precision, module, preprocess.input_shape, device)
    logits, features = [], []
    count = len(images) if rows is None else len(rows)
    batch_size = batch_size or rows_at_a_time(preprocess.pixel_shape, device)
    with precisions.evaluating(module), torch.inference_mode(), Tap(module, tap) as tapped:
        for start in range(0, count, batch_size):
            batch = slice(start, start + batch_size)
            x = normalise(images[batch if rows is None else rows[batch]], preprocess, device)
            with precisions.autocast(mode, device):
                output = module(x)
            logits.append(output.float().cpu().numpy())
            if tapped.value is not None:
                features.append(tapped.value.float().cpu().numpy())
    return Prediction(np.concatenate(logits), np.concatenate(features) if features else None)


class Tap:
    """Keeps the input of one submodule, flattened to N×F, while used as a context.

    ``value`` is that of the last forward pass; with no name it stays None.
    """

    def __init__(self, module: nn.Module, name: str | None) -> None:
        self.value: Tensor | None = None
        self._target = None if name is None else module.get_submodule(name)

    def __enter__(self) -> Tap:
        if self._target is not None:
            self._hook = self._target.register_forward_pre_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._target is not None:
            self._hook.remove()
        self.value = None

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.value = torch.flatten(inputs[0], 1)


def normalise(pixels: Images, preprocess: Preprocess, device: str = "cpu") -> Tensor:
    """A batch of pixels b×H×W×C as an input b×C×H×W in channels-last memory, on ``device``.

    The same numbers to the bit as :meth:`edge.preprocess.Preprocess.to_input` gives, without
    turning the batch over: pixels lie channels-last already.
    """
    batch = torch.from_numpy(np.ascontiguousarray(pixels))
    if device != "cpu":
        batch = batch.pin_memory().to(device, non_blocking=True)
    height, width, channels = preprocess.pixel_shape
    # one long row per image: a loop over three channels at a time would be slow
    x = batch.reshape(len(batch), -1).to(torch.float32).div_(255)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).repeat(height * width)
        for values in (preprocess.mean, preprocess.std)
    )
    return x.sub_(mean).div_(std).view(-1, height, width, channels).permute(0, 3, 1, 2)


def train_classifier(
    module: nn.Module,
    images: Images,
    labels: Rows,
    preprocess: Preprocess,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-3,
    seed: int,
    precision: str = "auto",
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Train ``module`` in place with cross-entropy on uint8 images N×H×W×C and their labels.

    It comes back in eval mode. The same seed and number of threads give the same weights; torch's
    global generator is left as it was.
    """
    schedule = Schedule(epochs, batch_size, learning_rate, weight_decay)
    # by size and not by time: a teacher's training is to be the same wherever it is repeated
    settled = precisions.resolve(precision, module, preprocess.input_shape, device)
    trial = Trial((Mode(settled, "channels_last"),))

    def feed(rows: Rows, _: np.random.Generator) -> Tensor:
        return normalise(images[rows], preprocess, device)

    def objective(logits: Tensor, rows: Rows) -> Tensor:
        return F.cross_entropy(logits, torch.from_numpy(labels[rows]).to(device))

    with Trainer(module, len(images), schedule, trial, seed=seed, device=device) as trainer:
        for number in range(1, epochs + 1):
            epoch = trainer.epoch(number, feed, objective)
            if on_epoch is not None:
                on_epoch(epoch)
    module.eval()
