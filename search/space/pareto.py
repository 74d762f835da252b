"""Which candidates no other beats in size and accuracy, and how much they cover together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (KB, accuracy) no other point beats in both, in ascending order of KB.

    Of equal points the first is kept.
    """
    front: list[int] = []
    best = -np.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if points[i][1] > best:
            best = points[i][1]
            front.append(i)
    return front


def rectangles(
    kb: ArrayLike, accuracy: ArrayLike, teacher_kb: float, chance: float
) -> NDArray[np.float64]:
    """Both axes from 0 (the teacher's size; a guess) to 1 (no size; no error), shape (n, 2).

    Their product is what a candidate covers alone.
    """
    small = 1 - np.asarray(kb, float) / teacher_kb
    right = (np.asarray(accuracy, float) - chance) / (1 - chance)
    return np.clip(np.column_stack([small, right]), 0, 1)


def hypervolume(
    kb: ArrayLike, accuracy: ArrayLike, teacher_kb: float, chance: float
) -> NDArray[np.float64]:
    """The share of the plane that the first 1, 2, … candidates cover together, shape (n,).

    The plane reaches from the reference point, a guess at the teacher's size, to a student without
    size or error; a candidate covers all that is larger and less accurate than itself.
    """
    front: list[tuple[float, float]] = []  # first axis descending, second ascending
    volumes: list[float] = []
    for point in rectangles(kb, accuracy, teacher_kb, chance).tolist():
        x, y = point
        if not any(a >= x and b >= y for a, b in front):
            front = [(a, b) for a, b in front if a > x or b > y]
            front = sorted([*front, (x, y)], reverse=True)
        below = [0.0, *(b for _, b in front)]
        volumes.append(sum(a * (b - low) for (a, b), low in zip(front, below, strict=False)))
    return np.array(volumes, float)
