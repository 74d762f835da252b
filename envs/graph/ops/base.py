"""What one operator of a network is, and what its attributes may be.

The arithmetic of an operator (:meth:`Op.infer`, :meth:`Op.parameters`, :meth:`Op.macs`) is written
so that every number may also be an array with one entry per candidate: :mod:`envs.compression.plan`
asks for thousands of candidates at once, and gets its answers from the very lines that describe
one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.graph.netspec import Shape

Attrs = Mapping[str, Any]

#: one number, or one per candidate of a batch
Size = Any
#: shape of one sample, each number a :data:`Size`
Sizes = tuple[Size, ...]
#: identities of channels, one per channel (:mod:`envs.compression.channels`)
Ids = NDArray[np.int64]

#: no map, kernel or number of channels is larger; a stranger's description must not fill memory
LARGEST = 1_000_000


@dataclass(frozen=True)
class Field:
    """What an attribute may be, in words and as a test."""

    bound: str
    holds: Callable[[object], bool]


def whole(low: int) -> Callable[[object], bool]:
    """Whole numbers from ``low`` to :data:`LARGEST`."""
    # type() and not isinstance: True is an int to Python, and must not be one here
    return lambda value: type(value) is int and low <= value <= LARGEST


def finite(value: object) -> bool:
    """A finite number; no bool."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def per_axis(dims: int, holds: Callable[[object], bool], bound: str) -> Field:
    """A list with one entry per spatial axis."""
    return Field(
        f"a list of {dims}, each {bound}",
        lambda value: (
            isinstance(value, list | tuple) and len(value) == dims and all(map(holds, value))
        ),
    )


def optional(field: Field) -> Field:
    """The same, or null."""
    return Field(f"{field.bound}, or null", lambda value: value is None or field.holds(value))


def one_of(*members: object) -> Field:
    """One of a few values, of the very same type."""
    return Field(
        "one of " + ", ".join(map(repr, members)),
        lambda value: any(type(value) is type(member) and value == member for member in members),
    )


SIZE = Field(f"a whole number from 1 to {LARGEST}", whole(1))
COUNT = Field(f"a whole number from 0 to {LARGEST}", whole(0))
NUMBER = Field("a finite number", finite)
SHARE = Field("a number from 0 to 1", lambda value: finite(value) and 0 <= value <= 1)  # type: ignore[operator]
FLAG = Field("true or false", lambda value: type(value) is bool)
DIMS = one_of(0, 1, 2)


def sizes(dims: int, low: int = 1) -> Field:
    """One whole number per spatial axis."""
    return per_axis(dims, whole(low), f"a whole number from {low} to {LARGEST}")


class Op(ABC):
    """What one operator is. All shapes are of one sample: (F,), (C, L) or (C, H, W)."""

    #: has a kernel whose outputs an agent may scale (a *layer* of the papers)
    weighted = False
    #: belongs to the weight layer before it, and is removed with it
    tail = False
    #: where two or more paths meet
    join = False
    #: works on channels by their position, so it needs those of the teacher or does nothing
    structural = False
    #: writes channels of its own without being a layer
    mixes = False
    #: tensors that it reads; None for one or more
    arity: int | None = 1
    #: attribute → what it may be; all of them are always there
    fields: Mapping[str, Field] = {}

    # -- shapes ---------------------------------------------------------------------------------

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        """Output shape, or ValueError where the inputs do not fit."""
        self.check(attrs, inputs)
        found = tuple(int(size) for size in self.infer(attrs, inputs))
        if min(found) < 1:
            raise ValueError(f"the result would have the shape {found}")
        return found

    def check(self, attrs: Attrs, inputs: Sequence[Shape]) -> None:
        """ValueError where the inputs do not fit the attributes."""
        return

    @abstractmethod
    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        """Output shape of inputs that fit."""

    def rigid(self, attrs: Attrs) -> bool:
        """Whether it means pixels by their place, so that maps must have the teacher's size."""
        return False

    def adapt(self, attrs: Attrs, inputs: Sequence[Sizes]) -> dict[str, Any]:
        """Attributes that change where a student's input has another shape than the teacher's."""
        return {}

    # -- channels -------------------------------------------------------------------------------

    def route(
        self,
        attrs: Attrs,
        inputs: Sequence[Ids],
        shapes: Sequence[Shape],
        fresh: Callable[[int], Ids],
        tie: Callable[[Ids, Ids], None],
    ) -> Ids:
        """Identities of the channels that it writes.

        Args:
            attrs: of the node.
            inputs: identities of the channels that it reads.
            shapes: of the inputs.
            fresh: gives new identities.
            tie: says that two channels stay or go together.
        """
        return inputs[0]

    def restrict(
        self, attrs: Attrs, read: NDArray[np.bool_], written: NDArray[np.bool_]
    ) -> tuple[str, Attrs]:
        """What does a structural operator's work on the channels that a student keeps.

        Args:
            attrs: the teacher's.
            read: which of the teacher's input channels are kept.
            written: which of its output channels are kept.

        Returns:
            operator and attributes.
        """
        raise NotImplementedError

    # -- tensors and work -----------------------------------------------------------------------

    def parameters(self, attrs: Attrs) -> dict[str, Sizes]:
        """Trained tensors by name; all float32."""
        return {}

    def buffers(self, attrs: Attrs) -> dict[str, tuple[Sizes, int]]:
        """Untrained tensors of the state dict by name, each with the bytes of one element."""
        return {}

    def tensors(self, attrs: Attrs) -> dict[str, Sizes]:
        """Parameters and buffers."""
        untrained = {name: shape for name, (shape, _) in self.buffers(attrs).items()}
        return self.parameters(attrs) | untrained

    def macs(self, attrs: Attrs, inputs: Sequence[Sizes], output: Sizes) -> Size:
        """Multiply-accumulates of convolutions and linear layers; the rest count as 0."""
        return 0

    # -- code -----------------------------------------------------------------------------------

    def module(self, attrs: Attrs) -> nn.Module | None:
        """A fresh module for an operator that owns tensors."""
        return None

    def function(self, attrs: Attrs) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        """The function and keyword arguments of an operator that owns none."""
        raise NotImplementedError


class Elementwise(Op):
    """One input, the same shape out."""

    def infer(self, attrs: Attrs, inputs: Sequence[Sizes]) -> Sizes:
        return inputs[0]


def spatial(shape: Sequence[Size], dims: int, what: str) -> Sequence[Size]:
    """The spatial axes of a map; ValueError where there are not ``dims`` of them."""
    if len(shape) != dims + 1:
        kind = ("a vector", "a map with one axis", "a map with two axes")
        raise ValueError(f"{what} wants {kind[dims]} and is given the shape {tuple(shape)}")
    return shape[1:]


def per_channel(shape: Sequence[Size], attrs: Attrs, what: str) -> None:
    """ValueError where an operator over channels is given others than it has numbers for."""
    spatial(shape, attrs["dims"], what)
    if shape[0] != attrs["features"]:
        raise ValueError(f"{what} of {attrs['features']} channels is given {shape[0]}")
