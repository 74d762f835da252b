"""Small folders of pictures, each of which tells by its pixels who made it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.preprocess import Preprocess

SMALL = Preprocess(channels=3, height=4, width=5, mean=(0.5,) * 3, std=(0.25,) * 3)


def pixels(seed: int) -> NDArray[np.uint8]:
    """An image of noise, 4×5×3, that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, size=(4, 5, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, tree: Mapping[str, int], start: int = 0) -> Path:
    """So many pictures in every folder of ``tree``; no two are alike."""
    seed = start
    for name, count in tree.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for row in range(count):
            (folder / f"{row:03}.png").write_bytes(png(seed))
            seed += 1
    return root
