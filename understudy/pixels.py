"""Images in memory: any usual array or tensor as pixels, and floats as what a network takes.

Pixels are uint8. Floats are what the teacher's own code would give it: scaled and normalised
already. Which pixel stands for which float is told by a mean and a standard deviation, which a
bundle keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

Pixels = NDArray[np.uint8]
Batch = NDArray[Any]

#: images that are looked at to find the steps between their values
LOOKED_AT = 256
#: pixels by which a float may lie outside 0 … 255, and off a whole one
SLACK = 0.5


@dataclass(frozen=True)
class Scale:
    """How a float comes from a pixel: (pixel / 255 − mean) / std, channel by channel.

    ``exact``: whether every float that was seen is that of a pixel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    exact: bool = True

    @classmethod
    def plain(cls, channels: int) -> Scale:
        """Pixels from 0 to 1."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def pixels(self, images: Batch, what: str = "images") -> Pixels:
        """The pixels of floats N×H×W×C.

        Raises:
            BadInput: floats that no pixel gives.
        """
        found = (images * np.asarray(self.std, np.float64) + np.asarray(self.mean)) * 255
        low, high = float(found.min(initial=0)), float(found.max(initial=0))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise _not_finite(what)
        if low < -SLACK or high > 255 + SLACK:
            least, most = (
                (np.array([0, 1]) - self.mean[c]) / self.std[c]
                for c in (int(np.argmin(self.std)), int(np.argmax(self.std)))
            )
            raise BadInput(
                f"{what} are no floats of this network's scale",
                value=f"{float(images.min()):.4g} to {float(images.max()):.4g}",
                bound=f"about {min(least[0], most[0]):.4g} to {max(least[1], most[1]):.4g}, as "
                f"(pixels / 255 − mean) / std with mean {_told(self.mean)} and std "
                f"{_told(self.std)} gives them",
                remedy="Give uint8 pixels, or floats as the teacher takes them.",
            )
        pixels: Pixels = np.clip(np.rint(found), 0, 255).astype(np.uint8)
        return pixels


def array_of(given: Any, what: str = "images") -> Batch:
    """Numbers in memory as an array: of NumPy, of torch on any device, or nested lists."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    try:
        found = np.asarray(given)
    except ValueError:
        raise BadInput(
            f"{what} differ in shape",
            value=type(given).__name__,
            bound="one array",
            remedy="Bring all of them to one size.",
        ) from None
    if found.dtype.kind in "iu" and found.dtype != np.uint8:
        if found.size and not 0 <= found.min() <= found.max() <= 255:
            raise BadInput(
                f"{what} are integers beyond pixels",
                value=f"{found.min()} to {found.max()}",
                bound="0 to 255",
                remedy="Give uint8 pixels, or floats as the teacher takes them.",
            )
        found = found.astype(np.uint8)
    if found.dtype != np.uint8 and found.dtype.kind != "f":
        raise BadInput(
            f"{what} are no numbers",
            value=str(found.dtype),
            bound="uint8 pixels, or floats as the teacher takes them",
            remedy="Convert them first.",
        )
    return found


def batch_of(given: Any, what: str = "images") -> Batch:
    """Many images as N×H×W×C, from N×H×W, N×H×W×C or N×C×H×W.

    Raises:
        BadInput: another shape.
    """
    found = array_of(given, what)
    if found.ndim == 3:
        return found[..., None]
    if found.ndim == 4 and found.shape[-1] in (1, 3):
        return found
    if found.ndim == 4 and found.shape[1] in (1, 3):
        return found.transpose(0, 2, 3, 1)
    raise BadInput(
        f"{what} have another shape than images",
        value=str(found.shape),
        bound="N×H×W, N×H×W×C or N×C×H×W, with C 1 or 3",
        remedy="Reshape them.",
    )


def fitted(given: Any, shape: tuple[int, int, int], what: str = "images") -> Batch:
    """One image or many, in any usual order of axes, as N×H×W×C of this (H, W, C).

    Raises:
        BadInput: another size.
    """
    found = array_of(given, what)
    height, width, channels = shape
    first = (channels, height, width)
    if found.shape[-3:] == shape:
        pass
    elif found.ndim in (3, 4) and found.shape[-3:] == first:
        found = np.moveaxis(found, -3, -1)
    elif channels == 1 and found.ndim in (2, 3) and found.shape[-2:] == (height, width):
        found = found[..., None]
    elif not (found.ndim == 4 and len(found) == 0):
        raise BadInput(
            f"{what} have another size than the model",
            value=str(found.shape),
            bound=f"({height}, {width}, {channels}) or {first} each, one or many",
            remedy="Resize them first.",
        )
    return found.reshape(-1, *shape)


def scale_of(batches: Sequence[Batch]) -> Scale:
    """The scale of floats N×H×W×C, found from their values alone.

    Floats that were made from pixels have at most 256 values a channel, a whole number of steps
    apart; then the pixels come back exactly. Others are cut into 256 steps between their extremes.

    Raises:
        BadInput: values that are not finite.
    """
    steps = [_steps([batch[..., channel] for batch in batches]) for channel in _channels(batches)]
    mean = tuple(round(-low / (255 * step), 9) + 0.0 for low, step, _ in steps)
    std = tuple(round(1 / (255 * step), 9) for _, step, _ in steps)
    return Scale(mean, std, all(exact for *_, exact in steps))


def _channels(batches: Sequence[Batch]) -> range:
    return range(batches[0].shape[-1])


def _steps(parts: Sequence[Batch]) -> tuple[float, float, bool]:
    """Lowest value of a channel, the step between two pixels, and whether that gives all values."""
    low = min(float(part.min()) for part in parts if part.size)
    high = max(float(part.max()) for part in parts if part.size)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _not_finite("images")
    span = high - low
    if span <= 0:
        return low, 1 / 255, True
    values = np.unique(parts[0][:LOOKED_AT].astype(np.float64))
    gaps = np.diff(values)
    gaps = gaps[gaps > span * 1e-5]  # what is less is rounding
    # far pixels tell the step more exactly than the two nearest ones
    step = float(gaps.min()) if len(gaps) else span
    step = span / max(1, round(span / step))
    plain = low >= 0 and high <= 1
    if plain and _on_grid(parts, 0.0, 1 / 255):
        return 0.0, 1 / 255, True
    if span / step < 255.5 and _on_grid(parts, low, step):
        spread = int(255 / round(span / step))  # few values are spread over all pixels
        return low, step / spread, True
    return (0.0, 1 / 255, False) if plain else (low, span / 255, False)


def _on_grid(parts: Sequence[Batch], low: float, step: float) -> bool:
    """Whether all values are a whole number of steps above the lowest."""
    for part in parts:
        for start in range(0, len(part), LOOKED_AT):
            places = (part[start : start + LOOKED_AT].astype(np.float64) - low) / step
            if np.abs(places - np.rint(places)).max(initial=0) > 0.05:
                return False
    return True


def _not_finite(what: str) -> BadInput:
    return BadInput(
        f"{what} are not finite",
        value="NaN or infinite values",
        bound="finite numbers",
        remedy="Leave these images out.",
    )


def _told(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
