"""What stands for a tensor while a graph is converted: a constant, or the result of a torch call.

The batch size is open. So everything is worked out for two batch sizes at once, and whatever is
equal in both does not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, fx, nn

from teachers.onnx_import.graph import Array, Node

#: batch sizes at which every shape is worked out, where the file leaves the batch open
BATCHES = (2, 3)
#: at how many earlier tensors a chain of elementwise operators is remembered
MOST_CURVES = 12


@dataclass(eq=False)
class Constant:
    """Numbers known before any image: ``at`` holds them for either batch size."""

    name: str
    at: tuple[Array, Array]
    #: the tensor of the file that it is, or of which it is a rearrangement; "" where computed
    stored: str = ""

    @property
    def fixed(self) -> bool:
        """Whether it is the same for every batch size."""
        return self.at[0] is self.at[1] or np.array_equal(self.at[0], self.at[1])


@dataclass(eq=False)
class Activation:
    """The result of a torch call on the image.

    ``metas`` are its shapes as meta tensors for either batch size. ``made_by`` and ``inputs`` are
    the ONNX node it stands for and what that read, for those who recognise compounds. ``curves``
    maps an earlier tensor to samples of the scalar function that leads from it to this one.
    """

    call: fx.Node
    metas: tuple[Tensor, Tensor]
    module: nn.Module | None = None
    made_by: Node | None = None
    inputs: tuple[Value | None, ...] = ()
    curves: Mapping[Activation, Any] = field(default_factory=dict)
    #: the tensor of which this one is a reshape that no image keeps to itself, such as one row
    #: per pixel; a reshape of this one is a reshape of that
    origin: Activation | None = None
    #: reads of the graph that have not been converted yet, the one in progress included
    readers: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape at the first batch size; the batch is axis 0."""
        return tuple(self.metas[0].shape)

    @property
    def rank(self) -> int:
        """The number of its axes, the batch's included."""
        return self.metas[0].ndim

    @property
    def op(self) -> str:
        """The ONNX operator that it stands for, "" for the image."""
        return self.made_by.op if self.made_by else ""

    @property
    def sole(self) -> bool:
        """Whether the node in progress is its last reader, and nothing else uses it."""
        return self.readers == 1 and not self.call.users


Value: TypeAlias = "Constant | Activation"
