"""Images and labels in memory, written as the data set that the product reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.split_names import TEST, TRAIN, VALIDATION
from understudy.pixels import Batch, Pixels, Scale, batch_of, scale_of

#: what people call the splits
SPLITS = {"train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION,
          "val": VALIDATION, "dev": VALIDATION, "test": TEST, "testing": TEST}  # fmt: skip
#: rows that are encoded at a time
BATCH = 1000


@dataclass(frozen=True)
class GivenData:
    """Data in memory.

    Attributes:
        parts: split → images N×H×W×C, as uint8 or as floats, and labels.
        class_names: empty where nobody names them.
    """

    parts: Mapping[str, tuple[Batch, NDArray[np.int64]]]
    class_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        height, width, channels = next(iter(self.parts.values()))[0].shape[1:]
        return channels, height, width

    @property
    def is_pixels(self) -> bool:
        """Whether the images are pixels already, and no floats."""
        return all(images.dtype == np.uint8 for images, _ in self.parts.values())

    @property
    def classes(self) -> int:
        """As many as are named, or as the labels count."""
        most = max(int(labels.max(initial=0)) for _, labels in self.parts.values())
        return max(len(self.class_names), most + 1)

    @cached_property
    def scale(self) -> Scale:
        """From pixels to the floats that were given; pixels count from 0 to 1."""
        if self.is_pixels:
            return Scale.plain(self.shape[0])
        return scale_of([images for images, _ in self.parts.values()])

    def blocks(self, split: str, scale: Scale) -> Iterator[tuple[Pixels, NDArray[np.int64]]]:
        """Pixels and labels of a split, some rows at a time."""
        images, labels = self.parts[split]
        for start in range(0, len(labels), BATCH):
            rows = slice(start, start + BATCH)
            some = images[rows]
            if some.dtype != np.uint8:
                some = scale.pixels(some, f"the images of {split}")
            yield some, labels[rows]

    def write(self, folder: Path, scale: Scale) -> Path:
        """Write them as one Parquet file a split, in the hub's layout; the folder."""
        from teachers.data.parquet import write_parquet

        for split in self.parts:
            write_parquet(folder / f"{split}.parquet", self.blocks(split, scale), self.class_names)
        return folder

    def write_arrays(self, path: Path, scale: Scale) -> Path:
        """Write them as an .npz file with NumPy alone: the same data give the same bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        for split in self.parts:
            images, labels = zip(*self.blocks(split, scale), strict=True)
            short = {VALIDATION: "val"}.get(split, split)
            arrays[f"x_{short}"], arrays[f"y_{short}"] = map(np.concatenate, (images, labels))
        if self.class_names:
            arrays["class_names"] = np.array(self.class_names)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        return path


def given_data(data: Any, class_names: Sequence[str] | None = None) -> GivenData:
    """Data from ``(images, labels)``, or from a mapping of split → (images, labels).

    Args:
        data: arrays or tensors; labels are whole numbers, or names of ``class_names``.
        class_names: of the labels 0, 1, …

    Raises:
        BadInput: anything else, or images and labels that do not fit each other.
    """
    names = tuple(map(str, class_names or ()))
    pairs = dict(data) if isinstance(data, Mapping) else {TRAIN: data}
    parts: dict[str, tuple[Batch, NDArray[np.int64]]] = {}
    for called, pair in pairs.items():
        split = SPLITS.get(str(called).lower())
        if split is None or split in parts:
            raise _bad(f"the key {called!r}", f"each split once: {TRAIN}, {VALIDATION}, {TEST}")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _bad(type(pair).__name__, "(images, labels)")
        images, labels = pair
        parts[split] = _checked(split, images, labels, names)
    if TRAIN not in parts:
        raise _bad(", ".join(map(str, pairs)) or "nothing", f"a split {TRAIN!r}")
    shapes = {images.shape[1:] for images, _ in parts.values()}
    kinds = {images.dtype == np.uint8 for images, _ in parts.values()}
    if len(shapes) > 1 or len(kinds) > 1:
        found = ", ".join(f"{split} {x.dtype} {x.shape}" for split, (x, _) in parts.items())
        raise _bad(found, "images of one size and one type in every split")
    order = {split: parts[split] for split in (TRAIN, VALIDATION, TEST) if split in parts}
    return GivenData(order, names)


def _checked(
    split: str, images: Any, labels: Any, names: tuple[str, ...]
) -> tuple[Batch, NDArray[np.int64]]:
    x = batch_of(images, f"the images of {split}")
    y = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 1 and y.dtype.kind in "US" and len(y) == len(x):
        y = _numbered(y, names)
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x) or not len(x):
        raise _bad(f"{len(x)} images and labels of {y.dtype} {y.shape}", "a whole number an image")
    most = len(names) - 1 if names else 2**31
    if not 0 <= y.min() <= y.max() <= most:
        raise _bad(f"labels {y.min()} to {y.max()}", f"0 to {most}" if names else "0 or more")
    return x, y.astype(np.int64)


def _numbered(labels: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.int64]:
    places = {name: place for place, name in enumerate(names)}
    strange = [str(label) for label in np.unique(labels) if str(label) not in places]
    if strange:
        raise _bad(
            f"the label {strange[0]!r}",
            "whole numbers, or names of class_names=…, in the order of the teacher's outputs",
        )
    return np.array([places[str(label)] for label in labels], np.int64)


def _bad(value: str, bound: str) -> BadInput:
    return BadInput(
        "the data in memory cannot be used",
        value=value,
        bound=bound,
        remedy="Give (images, labels), or {'train': (images, labels), 'test': (images, labels)}.",
        field="data",
    )
