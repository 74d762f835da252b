"""Number format and memory layout of a training, chosen by the time that its first steps take.

Wide networks train twice as fast in bfloat16 and channels-last memory, narrow ones may lose. The
steps that are timed are steps of the training itself, so choosing wastes none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from edge.errors import check_member
from teachers.acceleration import precision as precisions
from teachers.acceleration.precision import Precision

Layout = Literal["channels_last", "contiguous"]
LAYOUTS = ("auto", "channels_last", "contiguous")

#: steps in each mode before the clock counts: the first one builds its kernels
WARM_UP_STEPS = 1
#: steps in each mode that count; the fastest of them stands for the mode
TIMED_STEPS = 3
#: another mode than the first must be faster by this share: noise should not decide
MARGIN = 0.05
#: a mode whose first timed step is slower than the fastest mode by this factor is given up at once
HOPELESS = 1.3


@dataclass(frozen=True)
class Mode:
    """How the steps of a training are computed."""

    precision: Precision
    layout: Layout

    @property
    def memory_format(self) -> torch.memory_format:
        """Torch's name of the layout."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format

    @property
    def name(self) -> str:
        """As in "bf16 channels_last"."""
        return f"{self.precision} {self.layout}"

    @classmethod
    def named(cls, name: str) -> Mode:
        """The inverse of :attr:`name`."""
        precision, _, layout = name.partition(" ")
        check_member("precision", precision, precisions.PRECISIONS[1:])
        check_member("layout", layout, LAYOUTS[1:])
        return cls(precision, layout)  # type: ignore[arg-type]


def check_layout(layout: str) -> None:
    """BadInput unless ``layout`` is one of :data:`LAYOUTS`."""
    check_member("layout", layout, LAYOUTS)


def modes(
    precision: str,
    layout: str,
    module: nn.Module,
    input_shape: tuple[int, int, int],
    device: str = "cpu",
) -> tuple[Mode, ...]:
    """The modes worth trying for ``module``, the likeliest first; "auto" leaves a choice open.

    The usual layout is tried in float32 alone: kernels for bfloat16 are made for channels-last.
    Networks whose size settles their number format are not tried at all, so that the training of
    small ones can be repeated to the bit.
    """
    check_layout(layout)
    formats = precisions.candidates(precision, module, input_shape, device)
    if layout == "auto" and precision == "auto" and len(formats) == 1:
        return (Mode(formats[0], "channels_last"),)
    layouts = LAYOUTS[1:] if layout == "auto" else (layout,)
    every = [Mode(one, other) for other in layouts for one in formats]  # type: ignore[arg-type]
    likely = [mode for mode in every if mode != Mode("bf16", "contiguous") or layout != "auto"]
    return tuple(likely)


class Trial:
    """Goes through the modes once, a few steps each, and stays with the fastest."""

    def __init__(
        self, candidates: Sequence[Mode], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if not candidates:
            raise ValueError("a trial needs at least one mode")
        self.mode = candidates[0]
        self._first = candidates[0]
        self._left = list(candidates) if len(candidates) > 1 else []
        self._clock = clock
        self._step = 0
        self._times: dict[Mode, list[float]] = {mode: [] for mode in candidates}

    @property
    def decided(self) -> bool:
        """Whether the mode will not change any more."""
        return not self._left

    @contextmanager
    def timing(self, order: Callable[[torch.memory_format], None]) -> Iterator[Mode]:
        """The mode of one step; ``order`` is called where the layout changes before it."""
        if self.decided:
            yield self.mode
            return
        start = self._clock()
        yield self.mode
        self._note(self._clock() - start)
        if self._over():
            self._left.pop(0)
            self._change(self._left[0] if self._left else self._fastest(), order)

    def _note(self, seconds: float) -> None:
        self._step += 1
        if self._step > WARM_UP_STEPS:
            self._times[self.mode].append(seconds)

    def _over(self) -> bool:
        """Whether the present mode has been timed enough."""
        times = self._times[self.mode]
        others = [min(taken) for mode, taken in self._times.items() if taken and mode != self.mode]
        hopeless = bool(times and others) and min(times) > HOPELESS * min(others)
        return hopeless or len(times) == TIMED_STEPS

    def _fastest(self) -> Mode:
        best = min(self._times, key=lambda mode: min(self._times[mode]))
        gains = min(self._times[best]) < (1 - MARGIN) * min(self._times[self._first])
        return best if gains else self._first

    def _change(self, mode: Mode, order: Callable[[torch.memory_format], None]) -> None:
        if mode.layout != self.mode.layout:
            order(mode.memory_format)
        self.mode, self._step = mode, 0
