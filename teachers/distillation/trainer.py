"""The training step: what updates a network's weights, an epoch at a time.

Who trains says what a batch looks like (``feed``) and what its loss is (``objective``); number
format, memory layout, optimiser, schedule and averaged weights are the trainer's. An epoch's order
of rows and draws follow from the seed and the epoch's number alone, so a training can go on in
another process after any epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from teachers.acceleration import precision as precisions
from teachers.acceleration.faster import faster
from teachers.acceleration.modes import Mode, Trial
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.training_sets import Rows

#: positions of rows, random numbers → the batch's inputs, b×C×H×W
Feed = Callable[[Rows, np.random.Generator], Tensor]
#: what the network gave for a batch, positions of its rows → scalar loss
Objective = Callable[[Tensor, Rows], Tensor]

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
class Descent:
    """The early end of a schedule: the rate falls evenly from where it was.

    Attributes:
        after: epoch after which it begins.
        epochs: that it lasts.
    """

    after: int
    epochs: int

    @property
    def last(self) -> int:
        """Number of the last epoch."""
        return self.after + self.epochs


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


class Trainer:
    """Trains ``module`` in place. Use it as a context manager: on leaving, memory layout and
    modules are as they were.

    Args:
        module: on ``device``.
        rows: number of rows in an epoch.
        schedule: rate, batches and epochs.
        trial: which modes to choose from, by the time that the first steps take.
        seed: of order, draws and dropout.
        device: as torch names it.
        beside: further weights that are trained along, such as an adapter of features.
        ema: decay of averaged weights per step; 0 for none.
    """

    def __init__(
        self,
        module: nn.Module,
        rows: int,
        schedule: Schedule,
        trial: Trial,
        *,
        seed: int,
        device: str = "cpu",
        beside: nn.Module | None = None,
        ema: float = 0.0,
    ) -> None:
        self.module, self.schedule, self.seed, self.device = module, schedule, seed, device
        self.trial = trial
        self.batches = cut(rows, schedule.batch_size, _even(device))
        self._rows = rows
        self._steps = schedule.epochs * len(self.batches)
        self._faster = faster(module)
        self._faster.__enter__()
        self._parameters = [*module.parameters(), *(beside.parameters() if beside else ())]
        self._beside = beside
        self._optimiser = torch.optim.AdamW(
            self._parameters,
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self._order(trial.mode.memory_format)
        self.averaged = _averaged(module, ema) if ema else None
        #: where the training ends before its schedule does
        self.descent: Descent | None = None

    @property
    def last(self) -> int:
        """Number of the last epoch."""
        return self.schedule.epochs if self.descent is None else self.descent.last

    def _rate(self, step: int) -> float:
        """The learning rate of a step, from 0 over all epochs."""
        if self.descent is None:
            return self.schedule.rate(step, self._steps)
        start = self.descent.after * len(self.batches)
        left = 1 - (step - start + 1) / (self.descent.epochs * len(self.batches))
        return self.schedule.rate(start, self._steps) * max(left, LAST_RATE)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._order(torch.contiguous_format)
        self._faster.__exit__(None, None, None)

    def epoch(
        self,
        number: int,
        feed: Feed,
        objective: Objective,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Epoch:
        """Train for epoch ``number`` (from 1); where ``should_stop`` says so, up to there.

        Raises:
            Diverged: a loss is not finite.
        """
        started = time.perf_counter()
        rng = np.random.default_rng([self.seed, 2, number])
        order = rng.permutation(self._rows)
        total, seen, stopped = 0.0, 0, False
        self.module.train()
        with _seeded([self.seed, number], self.device):
            for index, (start, stop) in enumerate(self.batches):
                picked = order[start:stop]
                step = (number - 1) * len(self.batches) + index
                rate = self._rate(step)
                value = self._step(number, feed(picked, rng), picked, objective, rate)
                total, seen = total + value * len(picked), seen + len(picked)
                stopped = should_stop()
                if stopped:
                    break
        seconds = time.perf_counter() - started
        last = stopped or number == self.last
        return Epoch(number, total / seen, seen, seconds, last)

    def _step(
        self, number: int, x: Tensor, picked: Rows, objective: Objective, rate: float
    ) -> float:
        """One update of the weights; gives the loss before it."""
        with self.trial.timing(self._order) as mode:
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            x = x.contiguous(memory_format=mode.memory_format)
            with precisions.autocast(mode.precision, self.device):
                output = self.module(x)
            loss = objective(output.float(), picked)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged("the loss", number)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            if self.averaged is not None:
                self.averaged.update_parameters(self.module)
            return value

    def _order(self, memory_format: torch.memory_format) -> None:
        """Weights, and what the optimiser keeps about them, in one order of memory.

        The fused optimiser walks over both by address, whatever their strides are.
        """
        self.module.to(memory_format=memory_format)  # type: ignore[call-overload]
        for state in self._optimiser.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.ndim == 4:
                    state[name] = value.contiguous(memory_format=memory_format)

    def save(self) -> Checkpoint:
        """Everything that the next epoch depends on."""
        arrays = dict(_arrays("module", self.module))
        if self._beside is not None:
            arrays |= _arrays("beside", self._beside)
        if self.averaged is not None:
            arrays |= _arrays("averaged", self.averaged)
        for index, parameter in enumerate(self._parameters):
            for name, value in self._optimiser.state[parameter].items():
                arrays[f"optimiser.{index}.{name}"] = value.detach().cpu().numpy().copy()
        descent = self.descent and [self.descent.after, self.descent.epochs]
        return Checkpoint(arrays, {"mode": self.trial.mode.name, "descent": descent})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Into a fresh trainer of the same network and schedule."""
        self.trial = Trial((Mode.named(checkpoint.meta["mode"]),))
        descent = checkpoint.meta.get("descent")
        self.descent = Descent(*descent) if descent else None
        self._order(self.trial.mode.memory_format)
        _load("module", self.module, checkpoint)
        if self._beside is not None:
            _load("beside", self._beside, checkpoint)
        if self.averaged is not None:
            _load("averaged", self.averaged, checkpoint)
        for name, array in checkpoint.part("optimiser").items():
            index, _, field = name.partition(".")
            parameter = self._parameters[int(index)]
            # a fused optimiser keeps all of it, the number of steps too, where the weights are
            self._optimiser.state[parameter][field] = torch.from_numpy(array).to(parameter.device)
        self._order(self.trial.mode.memory_format)


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)


def _arrays(kind: str, module: nn.Module) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for name, value in module.state_dict().items():
        yield f"{kind}.{name}", value.detach().cpu().contiguous().numpy().copy()


def _load(kind: str, module: nn.Module, checkpoint: Checkpoint) -> None:
    module.load_state_dict(
        {name: torch.from_numpy(array) for name, array in checkpoint.part(kind).items()}
    )


@contextmanager
def _seeded(entropy: list[int], device: str) -> Iterator[None]:
    """Torch's generators seeded for the time of a ``with``; dropout draws from them."""
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))
        yield


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
