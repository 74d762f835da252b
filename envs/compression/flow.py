"""The tensors of many candidates at once, while their networks are planned.

Every number is a plain int where all candidates of the batch agree, else an array with one entry
per candidate: most of a network is the same for all, and plain ints cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compression.channels import Layout
from envs.graph.ops.base import Size, Sizes

#: which candidates of the batch; True for all, False for none
Mask = bool | NDArray[np.bool_]


@dataclass(frozen=True)
class Flow:
    """A tensor of the students that stands for one of the teacher.

    Attributes:
        source: step that writes it, −1 for the image.
        origin: which of the teacher's channels it carries: number of a layout, or below −1 for a
            mixture that the teacher does not have.
        depth: weight layers behind it, along the longest way.
        shape: (channels, sizes…).
    """

    source: Size
    origin: Size
    depth: Size
    shape: Sizes

    @property
    def channels(self) -> Size:
        """How many."""
        return self.shape[0]

    @property
    def sizes(self) -> Sizes:
        """The spatial axes."""
        return self.shape[1:]

    def carrying(self, origin: Size) -> Flow:
        """The same tensor under other channels' names."""
        return replace(self, origin=origin)


@dataclass(frozen=True)
class Mixture:
    """How channels come about that the teacher does not have together.

    Attributes:
        number: origin of the flow that carries them.
        parts: origin of every part, and where it takes part.
        pixels: how often every channel is repeated by a flatten; 1 for a concatenation.
        last: order of the flatten.
        layer: step of the layer that worked on channels which are not its own.
    """

    number: int
    parts: tuple[tuple[Size, Mask], ...]
    pixels: int = 1
    last: bool = False
    layer: int | None = None


@dataclass(frozen=True)
class Step:
    """One operator of the students.

    Attributes:
        name: of the node.
        op: key of the operator table.
        inputs: flows that it reads, and where they take part.
        attrs: of the node.
        shape: of its output.
        live: in which students it stands.
        between: layouts read and written, where the operator has to be restricted to what is kept.
        mixture: channels that it brings together, if any.
    """

    name: str
    op: str
    inputs: tuple[tuple[Flow, Mask], ...]
    attrs: Mapping[str, Any]
    shape: Sizes
    live: Mask
    between: tuple[Layout, Layout] | None = None
    mixture: Mixture | None = None


def some(mask: Mask) -> bool:
    """Whether any candidate is meant."""
    return mask if isinstance(mask, bool) else bool(mask.any())


def every(mask: Mask) -> bool:
    """Whether all candidates are meant."""
    return mask if isinstance(mask, bool) else bool(mask.all())


def both(first: Mask, second: Mask) -> Mask:
    """Where both hold."""
    if isinstance(first, bool):
        return second if first else False
    if isinstance(second, bool):
        return first if second else False
    return first & second


def either(first: Mask, second: Mask) -> Mask:
    """Where one of the two holds."""
    if isinstance(first, bool):
        return True if first else second
    if isinstance(second, bool):
        return True if second else first
    return first | second


def no(mask: Mask) -> Mask:
    """Where it does not hold."""
    return not mask if isinstance(mask, bool) else ~mask


def differ(first: Size, second: Size) -> Mask:
    """Where two numbers are not the same."""
    if first is second:
        return False
    return first != second  # type: ignore[no-any-return]


def number(mask: Mask, first: Size, second: Size) -> Size:
    """``first`` where the mask holds, else ``second``."""
    if first is second or (isinstance(first, int) and isinstance(second, int) and first == second):
        return first
    if isinstance(mask, bool):
        return first if mask else second
    return np.where(mask, first, second)


def choose(mask: Mask, first: Flow, second: Flow) -> Flow:
    """One flow where the mask holds, else the other."""
    if isinstance(mask, bool):
        return first if mask else second
    return Flow(
        number(mask, first.source, second.source),
        number(mask, first.origin, second.origin),
        number(mask, first.depth, second.depth),
        tuple(number(mask, a, b) for a, b in zip(first.shape, second.shape, strict=True)),
    )


def largest(first: Size, second: Size) -> Size:
    """The larger of two numbers."""
    if isinstance(first, int) and isinstance(second, int):
        return max(first, second)
    return np.maximum(first, second)


def smallest(first: Size, second: Size) -> Size:
    """The smaller of two numbers."""
    if isinstance(first, int) and isinstance(second, int):
        return min(first, second)
    return np.minimum(first, second)


def settled(size: Size) -> Size:
    """A plain int where numpy wrote one number for all candidates.

    Masks come of comparing sizes, and one of numpy's own would be taken for one per candidate.
    """
    alone = isinstance(size, np.generic) or (isinstance(size, np.ndarray) and not size.ndim)
    return size.item() if alone else size


def at(value: Any, candidate: int) -> Any:
    """What a number, a mask or a list of them is for one candidate."""
    if isinstance(value, np.ndarray):
        return value[candidate].item() if value.ndim else value.item()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [at(entry, candidate) for entry in value]
    return value
