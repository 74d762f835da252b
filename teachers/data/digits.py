"""scikit-learn's handwritten digits: 1,797 grey images of 8×8, installed with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.listing import holds_pictures
from teachers.data.source import Images, Source, Table

NAME = "digits"
#: what it is called where a folder has its name
WHOLE_NAME = "sklearn.digits"
SIDE = 8
BRIGHTEST = 16


def open_digits(source: str) -> Table:
    """The digits as a training table alone; pixels 0..16 are scaled to 0..255.

    Raises:
        BadInput: a folder of data beside it has the same name.
    """
    if source == NAME and _is_data(Path(NAME)):
        raise BadInput(
            "two data sets have this name",
            value=f"{NAME!r}, scikit-learn's and the folder {Path(NAME).absolute()}",
            bound=f"{'./' + NAME!r} for the folder, or {WHOLE_NAME!r}",
            remedy="Say which of them you mean.",
        )
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


def _is_data(folder: Path) -> bool:
    """Whether a folder may be meant as data: a run is called by any name, and has pictures too."""
    if not folder.is_dir() or (folder / "job.yaml").exists():
        return False
    return holds_pictures(folder) or next(folder.rglob("*.parquet"), None) is not None


def _resized(pixels: Images, preprocess: Preprocess, start: int) -> Iterator[Images]:
    from PIL import Image

    for row in range(start, len(pixels)):
        yield preprocess.from_image(Image.fromarray(pixels[row, ..., 0]), f"{NAME} row {row}")


DIGITS = Source(
    form="'digits'", accepts=lambda source: source in (NAME, WHOLE_NAME), open=open_digits
)
