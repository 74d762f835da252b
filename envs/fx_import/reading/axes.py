"""What reshaping and permuting do to the axes of a tensor, without numbers.

Our operators know one layout: channels first, then space. Networks reshape, permute and split in
between (channel shuffle, channels-last blocks, flattened maps), so a tensor is a node's output
together with its :data:`Axes`: each axis is an ordered product of :class:`Factor`, which are parts
of the node's own axes. Rearranging changes the factors and costs no operator; :func:`plan` says
which operators give the usual layout back where one needs it.

Instance: a channel shuffle of 6 channels in 2 groups. ``view(n, 2, 3, h, w)`` splits the channels
into 2 of step 3 and 3 of step 1, ``transpose(1, 2)`` swaps them, and ``view(n, 6, h, w)`` leaves
one axis (3 of step 1, 2 of step 3): new channel 0, 1, 2, 3 … is the old 0, 3, 1, 4 …
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from envs.graph.netspec import Shape

#: dimension of a factor that is the batch, and of one that repeats the same numbers
BATCH, COPY = -1, -2
#: images in the batch that is run: a prime, so that no reshape can cut it, and an unusual one
BATCH_SIZE = 211


@dataclass(frozen=True)
class Factor:
    """Part of one axis of a node's output.

    Attributes:
        dim: 0 for channels, 1 and 2 for space, :data:`BATCH` or :data:`COPY`.
        extent: values that it takes.
        step: how far one value is from the next on the node's axis.
    """

    dim: int
    extent: int
    step: int


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]
#: an operator and its attributes
Step = tuple[str, dict[str, Any]]


def join(factors: Iterable[Factor]) -> Axis:
    """One axis of these factors, the slowest first; what belongs together becomes one factor."""
    axis: list[Factor] = []
    for factor in factors:
        if factor.extent == 1:
            continue
        if axis and axis[-1].dim == factor.dim and axis[-1].step == factor.step * factor.extent:
            factor = Factor(factor.dim, axis.pop().extent * factor.extent, factor.step)
        axis.append(factor)
    return tuple(axis)


def plain(shape: Shape) -> Axes:
    """Axes of a node's output as it is: the batch, channels, space."""
    whole = (Factor(BATCH, BATCH_SIZE, 1), *(Factor(d, size, 1) for d, size in enumerate(shape)))
    return tuple(join([factor]) for factor in whole)


def sizes(axes: Axes) -> tuple[int, ...]:
    """The shape of the tensor."""
    return tuple(math.prod(factor.extent for factor in axis) for axis in axes)


def moved(axes: Axes, source: int, target: int) -> Axes:
    """One axis at another place."""
    rest = list(axes)
    axis = rest.pop(source)
    rest.insert(target, axis)
    return tuple(rest)


def reshape(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes after a reshape to ``shape``.

    Raises:
        ValueError: a cut that goes through an axis, such as (6, 4) to (4, 6).
    """
    pending = [factor for axis in axes for factor in axis][::-1]
    result: list[Axis] = []
    for size in shape:
        axis, left = list[Factor](), size
        while left > 1:
            factor = pending.pop()
            if left % factor.extent == 0:
                axis.append(factor)
                left //= factor.extent
            elif factor.extent % left == 0:
                inner = factor.extent // left
                axis.append(Factor(factor.dim, left, factor.step * inner))
                pending.append(Factor(factor.dim, inner, factor.step))
                left = 1
            else:
                raise ValueError(f"axes of {sizes(axes)} cut into {tuple(shape)}")
        result.append(join(axis))
    return tuple(result)


def repeated(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes after a broadcast to ``shape``.

    Raises:
        ValueError: an axis of several numbers cannot become longer.
    """
    aligned = ((),) * (len(shape) - len(axes)) + axes
    for axis, size in zip(aligned, shape, strict=True):
        if axis and sizes((axis,)) != (size,):
            raise ValueError(f"axes of {sizes(axes)} repeated to {tuple(shape)}")
    return tuple(
        axis or join([Factor(COPY, size, 0)]) for axis, size in zip(aligned, shape, strict=True)
    )


def without_copies(axes: Axes) -> Axes:
    """The axes with one number where numbers were only repeated."""
    return tuple(
        () if axis and all(factor.dim == COPY for factor in axis) else axis for axis in axes
    )


def take(
    axes: Axes, axis: int, kept: Sequence[int], shape: Shape
) -> tuple[int, list[int], Axes] | None:
    """Keep some positions of one axis.

    Args:
        axes: of the tensor.
        axis: the one that is indexed.
        kept: positions, in their new order.
        shape: of the node's output that the axes speak of.

    Returns:
        The node's own axis, the indices to keep on it, and the axes of the result; None where
        the axis is no single part of the node's.
    """
    if len(axes[axis]) != 1 or axes[axis][0].dim < 0:
        return None
    (factor,) = axes[axis]
    block = factor.extent * factor.step
    indices = [
        outer * block + position * factor.step + inner
        for outer in range(shape[factor.dim] // block)
        for position in kept
        for inner in range(factor.step)
    ]

    def renumbered(other: Factor) -> Factor:
        if other == factor:
            return Factor(factor.dim, len(kept), factor.step)
        if other.dim == factor.dim and other.step >= block:
            return Factor(other.dim, other.extent, other.step // factor.extent * len(kept))
        return other

    return factor.dim, indices, tuple(join(map(renumbered, each)) for each in axes)


def plan(axes: Axes, shape: Shape) -> tuple[Step, ...]:
    """Operators that bring a node's output of ``shape`` into the layout of ``axes``.

    Args:
        axes: the batch, channels and space of the tensor that is wanted.
        shape: of the node's output, without the batch.

    Raises:
        ValueError: no operator of ours gives such a tensor.
    """
    own = plain(shape)
    if len(axes) < 2 or axes[0] != own[0]:
        raise ValueError(spelled(axes, shape))
    channels, space = axes[1], axes[2:]
    pixels = join(factor for axis in own[2:] for factor in axis)
    try:
        if space == own[2:]:
            return _permuted(channels, shape[0])
        if not space:
            return _flattened(channels, shape, pixels)
        if len(space) == 1 and len(shape) == 3 and space[0] == pixels:
            return *_permuted(channels, shape[0]), ("flatten_space", {})
        if not any(space):
            flat = _permuted(channels, shape[0]) if len(shape) == 1 else None
            steps = _flattened(channels, shape, pixels) if flat is None else flat
            return *steps, ("unsqueeze", {"dims": len(space)})
    except ValueError:
        pass
    raise ValueError(spelled(axes, shape))


def _permuted(channels: Axis, width: int) -> tuple[Step, ...]:
    """Channels in another order: nothing, a channel shuffle, or a list of channels."""
    if any(factor.dim != 0 for factor in channels):
        raise ValueError("other axes among the channels")
    order = _indices((factor.extent, factor.step) for factor in channels)
    if order == list(range(width)):
        return ()
    _check_order(order, width)
    if len(channels) == 2:
        return (("shuffle", {"groups": channels[1].extent}),)
    return (("select", {"index": order}),)


def _flattened(axis: Axis, shape: Shape, pixels: Axis) -> tuple[Step, ...]:
    """Maps as one vector, in the order that the axis says."""
    count = sum(factor.dim == 0 for factor in axis)
    if axis[count:] == pixels:
        return *_permuted(axis[:count], shape[0]), ("flatten", {"last": False})
    if axis[: len(axis) - count] == pixels:
        return *_permuted(axis[len(axis) - count :], shape[0]), ("flatten", {"last": True})
    stride = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    if any(factor.dim < 0 for factor in axis):
        raise ValueError("more than one image in a vector")
    order = _indices((factor.extent, factor.step * stride[factor.dim]) for factor in axis)
    _check_order(order, math.prod(shape))
    return ("flatten", {"last": False}), ("select", {"index": order})


def _indices(factors: Iterable[tuple[int, int]]) -> list[int]:
    indices = [0]
    for extent, step in factors:
        indices = [start + position * step for start in indices for position in range(extent)]
    return indices


def _check_order(order: list[int], width: int) -> None:
    if sorted(order) != list(range(width)):
        raise ValueError("a part of the channels")


def spelled(axes: Axes, shape: Shape) -> str:
    """The axes in words, for messages: ``(batch, height×width, channels)``."""
    space = ["length"] if len(shape) == 2 else ["height", "width"]
    names = dict(enumerate(["channels", *space])) | {BATCH: "batch", COPY: "copies"}

    def word(factor: Factor) -> str:
        whole = factor.dim < 0 or factor.extent == shape[factor.dim]
        return names[factor.dim] if whole else f"part of {names[factor.dim]}"

    return "(" + ", ".join("×".join(map(word, axis)) or "1" for axis in axes) + ")"
