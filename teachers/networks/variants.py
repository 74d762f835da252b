"""Which form of a network is meant: the one for ImageNet, or the one for small images.

ImageNet's stems reduce an image to a quarter of its side before the first block, which leaves
nothing of a 32×32 image; networks for small images therefore start with a 3×3 convolution of
stride 1 and no pooling. Both forms share their name and their state-dict keys.
"""

from __future__ import annotations

from collections.abc import Mapping

InputShape = tuple[int, int, int]
"""Channels, height, width."""

Shapes = Mapping[str, tuple[int, ...]]
"""State-dict name → shape of the stored weights."""

SMALLEST_IMAGENET_SIDE = 64


def imagenet_size(input_shape: InputShape) -> bool:
    """Whether both sides have at least 64 pixels."""
    return min(input_shape[1:]) >= SMALLEST_IMAGENET_SIDE


def imagenet_stem(weight: str, input_shape: InputShape, shapes: Shapes | None) -> bool:
    """Whether the stem is ImageNet's, for networks whose two stems have kernels of 7×7 and 3×3.

    The stored ``weight`` says it where there is one, for weights fit one stem only; else the size
    of the input does.
    """
    stem = (shapes or {}).get(weight, ())
    if len(stem) == 4:
        return stem[2] == 7
    return imagenet_size(input_shape)
