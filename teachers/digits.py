"""scikit-learn's handwritten digits: 1,797 grey images of 8×8, installed with the package."""

from __future__ import annotations

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

    def read(preprocess: Preprocess, limit: int | None) -> Images:
        rows: Images = pixels[:limit]
        if preprocess.input_shape == (1, SIDE, SIDE):
            return rows
        return _resized(rows, preprocess)

    return Table(NAME, labels, tuple(str(digit) for digit in range(10)), len(labels), read)


def _resized(rows: Images, preprocess: Preprocess) -> Images:
    from PIL import Image

    images = (Image.fromarray(row[..., 0]) for row in rows)
    decoded = [preprocess.from_image(image, f"{NAME} row {i}") for i, image in enumerate(images)]
    return np.stack(decoded)


DIGITS = Source(form="'digits'", accepts=lambda source: source == NAME, open=open_digits)
