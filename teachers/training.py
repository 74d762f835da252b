"""Run a classifier over images, and train one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.preprocess import Preprocess
from teachers import precision as precisions
from teachers.augment import Augment, keep

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]

WARM_UP = 0.15
LAST_RATE = 0.01


class Diverged(RuntimeError):
    """Training reached a loss or an output that is not finite."""

    def __init__(self, what: str, epoch: int) -> None:
        super().__init__(f"training diverged: {what} is not finite in epoch {epoch}")
        self.what = what
        self.epoch = epoch

    def __reduce__(self) -> tuple[object, ...]:
        return Diverged, (self.what, self.epoch)


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
    batch_size: int = 64,
    tap: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
) -> Prediction:
    """Run ``module``, which is on ``device``, in eval mode over uint8 images N×H×W×C, N ≥ 1.

    ``tap`` is the dotted name of a submodule whose input is kept, flattened, as features. The
    module comes back in the mode it had. "fp32" gives the same logits in every batch to within
    rounding; "bf16" and "auto" (see :mod:`teachers.precision`) are about twice as fast and off by
    about 1 % of a logit. Small batches stay in the processor's cache and are the fastest.
    """
    mode = precisions.resolve(precision, module, preprocess.input_shape, device)
    logits, features = [], []
    with precisions.evaluating(module), torch.inference_mode(), Tap(module, tap) as tapped:
        for start in range(0, len(images), batch_size):
            x = to_tensor(preprocess.to_input(images[start : start + batch_size]), device)
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


def to_tensor(array: NDArray[np.float32], device: str = "cpu") -> Tensor:
    """A batch N×C×H×W in channels-last memory, in which convolutions run fastest here."""
    return torch.from_numpy(array).to(device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Schedule:
    """How weights are updated: AdamW; a linear warm-up, then a cosine down to 1 % of the rate."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of ``step`` (from 0) out of ``steps``."""
        warm_up = max(1, round(WARM_UP * steps))
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up - 1)
        fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return self.learning_rate * fall


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows: ``number`` from 1, mean loss, rows seen and seconds taken.

    ``last`` is True for the last one, be it the last planned or the one that was stopped.
    """

    number: int
    loss: float
    rows: int
    seconds: float
    last: bool


def run_epochs(
    module: nn.Module,
    images: Images,
    preprocess: Preprocess,
    loss_of: Callable[[Tensor, Rows], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    device: str = "cpu",
    augment: Augment = keep,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train ``module`` in place, epoch by epoch; the caller decides what to do between them.

    ``loss_of(x, rows)`` runs the module over a batch x (float32 N×C×H×W, the images at ``rows``)
    and gives its scalar loss. The order of rows and what ``augment`` draws depend on ``seed``
    alone. Where ``should_stop`` says so, the epoch ends after the current batch and is the last.
    Raises Diverged as soon as a loss is not finite.
    """
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    rng = np.random.default_rng([seed, 2])
    batches = cut(len(images), schedule.batch_size, _even(device))
    steps = schedule.epochs * len(batches)
    step = 0
    for number in range(1, schedule.epochs + 1):
        started = time.perf_counter()
        module.train()
        order = rng.permutation(len(images))
        total, seen, stopped = 0.0, 0, False
        for start, stop in batches:
            rows = order[start:stop]
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(step, steps)
            pixels = augment(images[rows], rng)
            loss = loss_of(to_tensor(preprocess.to_input(pixels), device), rows)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged("the loss", number)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total, seen, step = total + value * len(rows), seen + len(rows), step + 1
            stopped = should_stop()
            if stopped:
                break
        seconds = time.perf_counter() - started
        yield Epoch(number, total / seen, seen, seconds, stopped or number == schedule.epochs)
        if stopped:
            return


def _even(device: str) -> int:
    """What batches have to be a multiple of.

    oneDNN, as in torch 2.13, reads beyond its memory in the backward pass of a strided 1×1
    convolution of channels-last maps if its threads do not share a batch evenly: 12 → 26 channels,
    14×14, stride 2, 75 images on 2 threads ends the process.
    """
    return torch.get_num_threads() if device == "cpu" else 1


def cut(rows: int, batch_size: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Batches as (start, stop); a last batch of one row joins its neighbour.

    Batch norm has no variance to divide by in a batch of one. With ``multiple`` every batch is a
    multiple of it, and fewer than ``multiple`` rows are left out at the end, as long as there are
    rows for two such batches. ValueError for fewer than two rows.
    """
    if rows < 2 or batch_size < 2:
        raise ValueError(f"training needs at least 2 rows per batch, got {rows=}, {batch_size=}")
    if rows >= 2 * multiple:
        rows -= rows % multiple
        batch_size = max(multiple, batch_size - batch_size % multiple)
    starts = list(range(0, rows, batch_size))
    if rows - starts[-1] == 1 and len(starts) > 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


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
    mode = precisions.resolve(precision, module, preprocess.input_shape, device)

    def loss_of(x: Tensor, rows: Rows) -> Tensor:
        with precisions.autocast(mode, device):
            logits = module(x)
        return F.cross_entropy(logits.float(), torch.from_numpy(labels[rows]).to(device))

    schedule = Schedule(epochs, batch_size, learning_rate, weight_decay)
    with seeded(module, seed, device):
        for epoch in run_epochs(
            module, images, preprocess, loss_of, schedule, seed=seed, device=device
        ):
            if on_epoch is not None:
                on_epoch(epoch)
    module.eval()


@contextmanager
def seeded(module: nn.Module, seed: int, device: str = "cpu") -> Iterator[None]:
    """Training's surroundings: seeded torch generators and channels-last weights.

    Both are put back at the end, whatever ends it, so the weights are saved in the usual order.
    """
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(seed)
        _order(module, torch.channels_last)
        try:
            yield
        finally:
            _order(module, torch.contiguous_format)


def _order(module: nn.Module, memory_format: torch.memory_format) -> None:
    module.to(memory_format=memory_format)  # type: ignore[call-overload]
