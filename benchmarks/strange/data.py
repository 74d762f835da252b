"""Strangers' data: digits, drawn shapes, and the first rows of real tables, written as people do.

Everything that a benchmark's own training reads is in ``arrays.npz``, decoded from the very files
that the product reads, so that all contenders answer about the same pixels.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))

#: rows of the real test tables that are answered: enough for one point, quick enough for 28 cases
REAL_TEST_ROWS = 4000
DIGITS_TRAIN_ROWS = 1000
SHAPES_TEST_ROWS = 2500
SHAPES_SIDE = 24
#: standard deviation of the noise on drawn shapes: strong enough that no network is right always
SHAPES_NOISE = 42.0

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Both tables of a data set: pixels uint8 N×H×W×C, labels int64 N in order of the names."""

    names: tuple[str, ...]
    train: Pixels
    train_labels: Labels
    test: Pixels
    test_labels: Labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        height, width, channels = self.train.shape[1:]
        return channels, height, width

    @cached_property
    def scale(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel, as a stranger computes and rounds them."""
        pixels = self.train[:5000].reshape(-1, self.train.shape[3]) / 255
        return pixels.mean(0).round(3).tolist(), pixels.std(0).round(3).tolist()


def digits(rows: int) -> Images:
    """scikit-learn's scanned digits at 16×16, grey; what is not trained on is tested."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    pixels = np.stack([_enlarged(found.images[row]) for row in order])[..., None]
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    names = tuple(sorted(words))  # as folders stand in their parent
    labels = np.array([names.index(words[found.target[row]]) for row in order])
    return _cut(names, pixels, labels, rows)


def _enlarged(image: NDArray[Any]) -> Pixels:
    small = Image.fromarray((image * 255 / 16).astype(np.uint8))
    return np.asarray(small.resize((16, 16), Image.Resampling.BILINEAR))


def shapes(rows: int, noise: float = SHAPES_NOISE) -> Images:
    """Eight shapes of any colour on any ground, shifted, turned and scaled, under noise."""
    rng = np.random.default_rng(0)
    count, side = rows + SHAPES_TEST_ROWS, SHAPES_SIDE
    names = tuple(sorted(SHAPES))
    labels = rng.integers(len(names), size=count)
    turn = rng.uniform(-0.3, 0.3, count)[:, None, None]
    size = rng.uniform(0.22, 0.4, count)[:, None, None] * side
    middle = rng.uniform(0.38, 0.62, (2, count, 1, 1)) * side
    y, x = np.mgrid[:side, :side] + 0.5
    dx, dy = x[None] - middle[0], y[None] - middle[1]
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / size
    v = (np.cos(turn) * dy - np.sin(turn) * dx) / size
    inside = np.zeros((count, side, side), bool)
    for label, name in enumerate(names):
        chosen = labels == label
        inside[chosen] = SHAPES[name](u[chosen], v[chosen])
    ground, ink = rng.uniform(40, 215, (2, count, 1, 1, 3))
    # ink that is hardly seen on its ground says nothing of shapes
    near = np.abs(ink - ground).max(-1, keepdims=True) < 60
    ink = np.where(near, 255 - ground, ink)
    pixels = np.where(inside[..., None], ink, ground)
    pixels += rng.normal(0, noise, pixels.shape)
    return _cut(names, np.clip(pixels, 0, 255).astype(np.uint8), labels, rows)


_Plane = NDArray[np.float64]
#: name → whether a point (u, v) is inside; the shape is about 2 wide and high
SHAPES: dict[str, Callable[[_Plane, _Plane], NDArray[np.bool_]]] = {
    "disc": lambda u, v: u**2 + v**2 < 1,
    "ring": lambda u, v: np.abs(u**2 + v**2 - 0.7) < 0.32,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.9,
    "frame": lambda u, v: np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.75) < 0.22,
    "triangle": lambda u, v: (v < 0.8) & (v > 2 * np.abs(u) - 1),
    "cross": lambda u, v: (
        (np.minimum(np.abs(u), np.abs(v)) < 0.28) & (np.maximum(np.abs(u), np.abs(v)) < 1)
    ),
    "saltire": lambda u, v: (
        (np.abs(np.abs(u) - np.abs(v)) < 0.35) & (np.maximum(np.abs(u), np.abs(v)) < 0.9)
    ),
    "bars": lambda u, v: (np.abs(np.abs(v) - 0.55) < 0.28) & (np.abs(u) < 1),
}


def _cut(names: tuple[str, ...], pixels: Pixels, labels: NDArray[Any], rows: int) -> Images:
    labels = labels.astype(np.int64)
    return Images(names, pixels[:rows], labels[:rows], pixels[rows:], labels[rows:])


#: data that are made, by name; the others are tables of :data:`DATA`
MADE: dict[str, Callable[[int], Images]] = {"digits": digits, "shapes": shapes}


def write(source: str, rows: int | None, form: str, place: Path) -> None:
    """Write a data set as a stranger has it, with ``arrays.npz`` beside it.

    Args:
        source: "digits", "shapes", or a folder of ``$UNDERSTUDY_DATA``.
        rows: of the training table; None for all.
        form: "folder" (train/CLASS, test/CLASS) or "parquet" (the hub's layout).
        place: folder that is made whole or not at all; ``place / "data"`` is what a job is given.
    """
    if (place / "arrays.npz").exists():
        return
    data = place / "data"
    if source in MADE:
        made = MADE[source](DIGITS_TRAIN_ROWS if rows is None else rows)
        (_write_folder if form == "folder" else _write_parquet)(made, data)
    else:
        made = _write_slices(DATA / "data" / source, rows, data)
    arrays = io.BytesIO()
    np.savez(
        arrays,
        names=np.array(made.names),
        train=made.train,
        train_labels=made.train_labels,
        test=made.test,
        test_labels=made.test_labels,
    )
    draft = place / "arrays.part"
    draft.write_bytes(arrays.getvalue())
    draft.replace(place / "arrays.npz")


def read(place: Path) -> Images:
    """What :func:`write` wrote."""
    with np.load(place / "arrays.npz") as stored:
        return Images(
            tuple(map(str, stored["names"])),
            stored["train"],
            stored["train_labels"],
            stored["test"],
            stored["test_labels"],
        )


def _tables(made: Images) -> tuple[tuple[str, Pixels, Labels], ...]:
    return ("train", made.train, made.train_labels), ("test", made.test, made.test_labels)


def _write_folder(made: Images, data: Path) -> None:
    for part, pixels, labels in _tables(made):
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = data / part / made.names[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05d}.png").write_bytes(_png(image))


def _write_parquet(made: Images, data: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data.mkdir(parents=True, exist_ok=True)
    label = {"names": list(made.names), "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for part, pixels, labels in _tables(made):
        images = [{"bytes": _png(image), "path": None} for image in pixels]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())}
        table = pa.table(columns).replace_schema_metadata(about)
        pq.write_table(table, data / f"{part}-00000-of-00001.parquet")


def _write_slices(source: Path, rows: int | None, data: Path) -> Images:
    """The first rows of both tables, byte for byte."""
    import pyarrow.parquet as pq

    data.mkdir(parents=True, exist_ok=True)
    names: tuple[str, ...] = ()
    parts: list[Any] = []
    for part, most in (("train", rows), ("test", REAL_TEST_ROWS)):
        table = pq.read_table(source / f"{part}.parquet").slice(0, most)
        pq.write_table(table, data / f"{part}.parquet")
        about = json.loads(table.schema.metadata[b"huggingface"])
        names = tuple(about["info"]["features"]["label"]["names"])
        images = table.column("image").combine_chunks().field("bytes")
        parts += [
            np.stack([_pixels(image.as_py()) for image in images]),
            table.column("label").to_numpy().astype(np.int64),
        ]
    return Images(names, *parts)


def _png(image: Pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return content.getvalue()


def _pixels(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
