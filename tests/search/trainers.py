"""Trainers that train nothing: what a worker does with them is the test's to say."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from search.execution.worker import Step


class Pretence:
    """A candidate whose accuracy follows from its actions; the first action decides what happens.

    0 is well. 1 raises, 2 hangs, 3 takes all memory, 4 kills its process, 5 kills its process
    once, 6 diverges, 7 has no number for an accuracy. The room is a dictionary with ``epochs``,
    ``seconds`` (per epoch) and ``folder``.
    """

    def __init__(self, room: dict[str, Any], actions: tuple[int, ...], done: int = 0) -> None:
        self.room, self.actions, self.done = room, actions, done

    def epoch(self, examine: bool) -> Step:
        """An epoch of sleep, or a fault."""
        time.sleep(self.room["seconds"])
        FAULTS[self.actions[0]](self)
        self.done += 1
        total = self.room["epochs"]
        return Step(
            epoch=self.done,
            epochs=total,
            loss=1 / self.done,
            accuracy=self._accuracy() if examine else None,
            samples_per_second=100.0,
            done=self.done == total,
            mode="fp32 contiguous",
        )

    def _accuracy(self) -> float:
        return math.nan if self.actions[0] == 7 else accuracy_of(self.actions, self.done)

    def save(self) -> bytes:
        """The number of epochs."""
        return json.dumps(self.done).encode()

    def weights(self) -> dict[str, Any]:
        """One number."""
        return {"done": np.array(self.done)}

    def close(self) -> None:
        """Nothing is held."""


def accuracy_of(actions: tuple[int, ...], epochs: int) -> float:
    """What the test expects."""
    return (sum(actions) % 7 + epochs) / 20


def _well(_: Pretence) -> None:
    pass


def _raises(_: Pretence) -> None:
    raise ValueError("no such network\nsecond line")


def _hangs(_: Pretence) -> None:
    time.sleep(600)


def _hoards(_: Pretence) -> None:
    hoard = [np.ones(8 << 20) for _ in range(100)]
    assert not hoard, "6 GB were to be had"


def _dies(_: Pretence) -> None:
    os._exit(1)


def _dies_once(pretence: Pretence) -> None:
    mark = Path(pretence.room["folder"]) / f"died-{'-'.join(map(str, pretence.actions))}"
    if not mark.exists():
        mark.touch()
        os._exit(1)


def _diverges(_: Pretence) -> None:
    from teachers.distillation.distill import Diverged

    raise Diverged("the loss", 1)


FAULTS = (_well, _raises, _hangs, _hoards, _dies, _dies_once, _diverges, _well)
NAMES = (
    "is well",
    "raises",
    "hangs",
    "exhausts its memory",
    "kills its process",
    "kills its process once",
    "diverges",
    "has an accuracy of NaN",
)


def fault_of(actions: tuple[int, ...]) -> int:
    """What happens to a candidate of :class:`Mixed`."""
    digits: int = sum(action * 3**place for place, action in enumerate(actions))
    return digits % len(FAULTS)


class Pretending:
    """Opens a room of :class:`Pretence`."""

    def __init__(self, room: dict[str, Any]) -> None:
        self.room = room

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> Pretence:
        """A candidate."""
        return Pretence(self.room, actions, 0 if state is None else json.loads(state))


class Mixed(Pretending):
    """As :class:`Pretending`, for actions of any kind."""

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> Pretence:
        """A candidate to whom happens what its actions add up to."""
        return super().begin((fault_of(actions), *actions), state)
