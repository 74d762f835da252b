"""Arrays of images in an .npz file, written as the tables that the product reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.parquet import write_parquet

#: names under which people keep images and labels, by split
NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"),
              ("images", "labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels")),
}  # fmt: skip
#: bytes of all arrays, unpacked
MOST_BYTES = 16 << 30
#: rows of a table that are encoded at a time
BATCH = 1000


def write_arrays(archive: Path, folder: Path) -> None:
    """Write the images of an .npz file as one Parquet file a split.

    Raises:
        BadInput: it holds Python objects, lacks images or labels, or they do not fit each other.
    """
    _check_archive(archive)
    try:
        with np.load(archive, allow_pickle=False) as stored:
            names = list(stored.files)
            classes = _class_names(stored)
            written = 0
            for split, pairs in NAMES.items():
                pair = next((pair for pair in pairs if set(pair) <= set(names)), None)
                if pair is not None:
                    images, labels = (stored[name] for name in pair)
                    checked = _checked(images, labels, pair)
                    write_parquet(folder / f"{split}.parquet", _blocks(*checked), classes)
                    written += split == "train"
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError, MemoryError) as error:
        if isinstance(error, BadInput):
            raise
        text = str(error)[:160]
        bound = "plain arrays of numbers" if "pickle" in text else "a whole .npz file"
        raise _bad("it cannot be read", text, bound) from None
    if not written:
        raise _bad("it names no images to learn from", ", ".join(names[:8]), "arrays x and y")


def _check_archive(archive: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            whole = sum(info.file_size for info in opened.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise _bad("it cannot be read", str(error)[:160], "a whole .npz file") from None
    if whole > MOST_BYTES:
        raise _bad("it unpacks to too much", f"{whole:,} bytes", f"at most {MOST_BYTES:,}")


def _class_names(stored: Mapping[str, Any]) -> list[str]:
    if "class_names" not in stored:
        return []
    found = np.asarray(stored["class_names"])
    if found.ndim != 1 or found.dtype.kind != "U":
        raise _bad("its class names are no texts", str(found.dtype), "an array of texts")
    return list(map(str, found))


def _checked(
    images: NDArray[Any], labels: NDArray[Any], names: tuple[str, str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    x, y = names
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise _bad(f"{x} holds no images", str(images.shape), "N×H×W, or N×H×W×C with C 1 or 3")
    if images.dtype != np.uint8:
        raise _bad(f"{x} is {images.dtype}", str(images.dtype), "uint8 pixels from 0 to 255")
    labels = labels.reshape(len(labels), -1) if labels.ndim else labels
    if labels.ndim != 2 or labels.shape != (len(images), 1) or labels.dtype.kind not in "iu":
        raise _bad(
            f"{y} does not fit {x}", f"{labels.shape} {labels.dtype}", "one integer an image"
        )
    return images, labels[:, 0].astype(np.int64)


def _blocks(
    images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH], labels[start : start + BATCH]


def _bad(problem: str, value: str, bound: str) -> BadInput:
    return BadInput(
        f"the .npz file cannot be used: {problem}",
        value=value,
        bound=bound,
        remedy="Save arrays x and y with numpy.savez_compressed.",
        field="file",
    )
