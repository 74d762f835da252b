"""scikit-learn's handwritten digits: 1,797 grey images of 8×8, installed with the package."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge.preprocess import Preprocess
from teachers.source import Images, Source, Table

NAME = "digits"
SIDE = 8
BRIGHTEST = 16


def open_digits(source: str) -> Table:
    """The digits as a training table alone; pixels 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels: Images = np.rint(digits.images * (255 / BRIGHTEST)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        if preprocess.input_shape == (1, SIDE, SIDE):
            return iter(pixels[start:])
        return _resized(pixels, preprocess, start)

    names = tuple(str(digit) for digit in range(10))
    return Table(NAME, labels, names, len(labels), read, stamp=lambda: NAME)


def _resized(pixels: Images, preprocess: Preprocess, start: int) -> Iterator[Images]:
    from PIL import Image

    for row in range(start, len(pixels)):
        yield preprocess.from_image(Image.fromarray(pixels[row, ..., 0]), f"{NAME} row {row}")


DIGITS = Source(form="'digits'", accepts=lambda source: source == NAME, open=open_digits)
