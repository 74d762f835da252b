"""Image bytes → the array a network takes: the one definition, used in training as well.

Two steps, kept apart because data sets store the result of the first: ``decode`` gives uint8
pixels of the network's size, ``to_input`` normalises them.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edge import strict
from edge.errors import BadInput

# Formats that are pixels and nothing else. Pillow would also open EPS, by way of Ghostscript, and
# scientific containers, by way of whatever handler is registered.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip

# Refused before decoding: a few hundred bytes of PNG can claim gigabytes of pixels. Lower than
# Pillow's own bound, at which it only warns.
MAX_PIXELS = 64_000_000

# No camera or classifier is larger; a bound keeps a crafted manifest from asking for terabytes.
MAX_SIDE = 8192

_MODES = {1: "L", 3: "RGB"}

# What Pillow's decoders raise on bytes that are no image or stop half-way.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


@cache
def formats() -> tuple[str, ...]:
    """The members of :data:`FORMATS` that the Pillow installed here decodes."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a network's input.

    channels: 1 (grey) or 3 (RGB); height, width: pixels; mean, std: per channel, on the scale of
    0 to 1; resize: whether an image of another size is resized (bilinear) or refused.
    Raises BadInput when a field is out of range.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: bool = False

    def __post_init__(self) -> None:
        if self.channels not in _MODES:
            raise _bad("channels", self.channels, "1 (grey) or 3 (RGB)")
        for name, side in (("height", self.height), ("width", self.width)):
            if not 1 <= side <= MAX_SIDE:
                raise _bad(name, side, f"1 to {MAX_SIDE} pixels")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise _bad(name, values, f"one number per channel, {self.channels} in all")
            if not all(math.isfinite(value) and abs(value) < 1e6 for value in values):
                raise _bad(name, values, "finite numbers, below a million")
        # Checked as float32, in which the division happens: 1e-50 is a zero there.
        if not all(np.finfo(np.float32).tiny <= value for value in self.std):
            raise _bad("std", self.std, "numbers above 0")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the shape of one network input."""
        return self.channels, self.height, self.width

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """(H, W, C), the shape of one decoded image."""
        return self.height, self.width, self.channels

    def decode(self, source: bytes | str | Path, name: str | None = None) -> NDArray[np.uint8]:
        """Pixels [H, W, C] of an image file, given its path or its bytes.

        ``name`` stands for the image in messages; a path is its own name. Raises BadInput for a
        file that is missing, is no image of a known format, stops half-way, is too large, or has
        another size than the network while ``resize`` is off.
        """
        called = name or ("image bytes" if isinstance(source, bytes) else str(source))
        try:
            # Read whole: Pillow then holds no open file, whatever happens.
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
        except OSError as error:
            raise BadInput(
                f"image {called} cannot be opened",
                value=error.strerror or type(error).__name__,
                bound="a readable file",
                remedy="Check the path.",
            ) from error
        try:
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                return self.from_image(image, called)
        except BadInput:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(called, "a header that claims far more pixels") from error
        except _UNREADABLE as error:
            raise _undecodable(called, error) from error

    def from_image(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """Pixels [H, W, C] of an opened image; ``name`` stands for it in messages.

        Transparency is dropped, not blended; of an animation the first frame counts; a rotation
        noted in EXIF is not applied. Raises BadInput as ``decode`` does.
        """
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large(name, f"{width}×{height}")
        if image.mode[0] in "IF":
            # Pillow would clip these to white without a word.
            raise BadInput(
                f"image {name} has the wrong depth",
                value=f"mode {image.mode}",
                bound="8 bits per channel",
                remedy="Convert it to 8 bits per channel first.",
            )
        wanted = (self.width, self.height)
        if image.size != wanted and not self.resize:
            raise BadInput(
                f"image {name} has another size than the model",
                value=f"{width}×{height}",
                bound=f"{self.width}×{self.height} (width × height)",
                remedy="Resize the image, or set resize to true.",
            )
        try:
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert(_MODES[self.channels])
            if image.size != wanted:
                image = image.resize(wanted, Image.Resampling.BILINEAR)
            pixels = np.array(image, dtype=np.uint8)
        except _UNREADABLE as error:
            raise _undecodable(name, error) from error
        return pixels.reshape(self.pixel_shape)

    def to_input(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, H, W, C] uint8 → [N, C, H, W] float32, (x/255 − mean)/std, C-contiguous.

        Element by element in float32, so a row comes out the same to the bit in any batch.
        Raises BadInput for another dtype or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.pixel_shape:
            raise BadInput(
                "images",
                value=f"{images.dtype} {images.shape}",
                bound=f"uint8 (N, {self.height}, {self.width}, {self.channels})",
                remedy="Decode images with Preprocess.decode.",
            )
        result = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        result /= np.float32(255)
        result -= np.asarray(self.mean, np.float32)[:, None, None]
        result /= np.asarray(self.std, np.float32)[:, None, None]
        return result

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values; ``from_json`` gives an equal Preprocess back."""
        return {
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize,
        }

    @classmethod
    def from_json(cls, value: object, where: str = "preprocess") -> Preprocess:
        """The inverse of ``to_json``; BadInput for unknown or missing keys, types and ranges."""
        return strict.parse(cls, value, where, "Use the JSON that Preprocess.to_json writes.")


def _bad(field: str, value: object, bound: str) -> BadInput:
    return BadInput(
        f"preprocessing: {field}", value=value, bound=bound, remedy="Correct the model's JSON."
    )


def _too_large(name: str, value: str) -> BadInput:
    return BadInput(
        f"image {name} is too large",
        value=value,
        bound=f"at most {MAX_PIXELS:,} pixels",
        remedy="Scale it down first.",
    )


def _undecodable(name: str, error: Exception) -> BadInput:
    # Pillow's own message ends in the address of a buffer, which tells the reader nothing.
    no_image = isinstance(error, UnidentifiedImageError)
    return BadInput(
        f"image {name} cannot be decoded",
        value="no known image format" if no_image else strict.shorten(error),
        bound="an intact image, one of " + ", ".join(formats()),
        remedy="Check the file, or save it again.",
    )
