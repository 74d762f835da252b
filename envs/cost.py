"""What a network costs, counted from its description without building it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from envs.netspec import NetSpec, Node
from envs.ops import OPS


@dataclass(frozen=True)
class Cost:
    """Size and work of a network.

    Attributes:
        parameters: trained numbers.
        bytes: of the fp32 state dict, parameters and buffers, as the papers count sizes.
        macs: multiply-accumulates for one input, of convolutions and linear layers.
    """

    parameters: int
    bytes: int
    macs: int

    @property
    def kb(self) -> float:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters, self.bytes + other.bytes, self.macs + other.macs
        )


def node_cost(spec: NetSpec, node: Node) -> Cost:
    """Cost of one operator of a network."""
    op = OPS[node.op]
    parameters = sum(math.prod(shape) for shape in op.parameters(node.attrs).values())
    buffers = sum(math.prod(shape) * size for shape, size in op.buffers(node.attrs).values())
    macs = op.macs(node.attrs, [spec.shape_of(name) for name in node.inputs], node.shape)
    return Cost(parameters, 4 * parameters + buffers, macs)


def cost(spec: NetSpec) -> Cost:
    """Cost of a whole network."""
    return sum((node_cost(spec, node) for node in spec.nodes), Cost(0, 0, 0))
