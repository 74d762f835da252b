"""The table of operators: one entry says all that the rest of the house asks of an operator.

An entry knows the shape of the output, the channels that it writes, the tensors that the operator
owns, its multiply-accumulates, and how to run it. Adding an operator means adding one class and
one line here, and its way in from torch in :mod:`envs.fx_import.reading`.
"""

from __future__ import annotations

from envs.graph.ops.activations import ACTIVATIONS, Scalar
from envs.graph.ops.base import LARGEST, Op
from envs.graph.ops.channels import CHANNELS
from envs.graph.ops.norms import Affine, BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm, PReLU
from envs.graph.ops.pools import POOLS
from envs.graph.ops.space import SPACE
from envs.graph.ops.weighted import Convolution, Linear

__all__ = ["LARGEST", "OPS", "Op"]

OPS: dict[str, Op] = {
    "conv1d": Convolution(1),
    "conv2d": Convolution(2),
    "linear": Linear(),
    "batch_norm": BatchNorm(),
    "group_norm": GroupNorm(),
    "layer_norm": LayerNorm(),
    "local_response_norm": LocalResponseNorm(),
    "affine": Affine(),
    "prelu": PReLU(),
    "scalar": Scalar(),
    **ACTIVATIONS,
    **POOLS,
    **CHANNELS,
    **SPACE,
}
