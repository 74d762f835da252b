"""What every source of data gives: a table of labelled images that has been opened, not yet read.

Labels are read at once, because they are small and tell most of what can be wrong; pixels only on
request. The members stand in :data:`teachers.datasets.DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Preprocess

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """Labelled images in memory.

    ``images`` is uint8 N×H×W×C, ``labels`` int64 N in [0, len(class_names)). Rows [0, train_rows)
    are the training table in its own order, rows [train_rows, N) the test table, which may be
    empty.
    """

    name: str
    images: Images
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_rows: int


@dataclass(frozen=True)
class Table:
    """An opened source: ``labels`` and ``train_rows`` as in :class:`Dataset`.

    ``class_names`` is empty where the source names none. ``read(preprocess, limit)`` decodes the
    first ``limit`` rows, or all of them for None, as uint8 N×H×W×C; it raises BadInput for an image
    that cannot be read or has another size, and names it.
    """

    name: str
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_rows: int
    read: Callable[[Preprocess, int | None], Images]


@dataclass(frozen=True)
class Source:
    """One kind of source: which texts it ``accepts``, how it is told to users, how it opens."""

    form: str
    accepts: Callable[[str], bool]
    open: Callable[[str], Table]


def stack(images: Iterable[Images], rows: int, preprocess: Preprocess) -> Images:
    """Gather ``rows`` decoded images into one array without holding them twice."""
    out = np.empty((rows, *preprocess.pixel_shape), dtype=np.uint8)
    for row, image in enumerate(images):
        out[row] = image
    return out
