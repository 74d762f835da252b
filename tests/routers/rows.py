"""Invented students: logits that are right more often where they are confident."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


def student(rows: int, classes: int, seed: int, *, lead: float = 4.0, noise: float = 2.0) -> Rows:
    """Gaussian logits, the label's own raised by ``lead``: about 15 % errors at 10 classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(0, noise, (rows, classes))
    logits[np.arange(rows), labels] += lead
    return Rows(logits.astype(np.float32), labels)


def teacher_right(rows: int, seed: int, accuracy: float = 0.97) -> NDArray[np.int64]:
    return (np.random.default_rng(seed).random(rows) < accuracy).astype(np.int64)


def crooked(rows: int, seed: int) -> Rows:
    """A student that errs wherever logit 0 is high, however sure it is: scores cannot see it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (rows, 4)).astype(np.float32)
    labels = logits.argmax(axis=1)
    wrong = logits[:, 0] > 1.0
    labels[wrong] = (labels[wrong] + 1) % 4
    return Rows(logits, labels)
