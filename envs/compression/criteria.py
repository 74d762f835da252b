"""Which channels matter: the order in which a student keeps them.

A criterion gives every output channel of one layer a score ≥ 0; only its order and its proportions
within the layer count. :class:`envs.compression.surgery.Inheritance` adds the scores of all layers
that write a channel. Adding a criterion means adding one function and one line in :data:`CRITERIA`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from envs.compression.layers import Layer
from envs.graph.netspec import NetSpec

Weights = Mapping[str, Tensor]

#: (teacher, layer, state dict) → scores, shape (outputs,)
Criterion = Callable[[NetSpec, Layer, Weights], Tensor]


def l1_norm(spec: NetSpec, layer: Layer, weights: Weights) -> Tensor:
    """Sum of magnitudes of every filter."""
    return weights[f"{layer.node}.weight"].flatten(1).abs().sum(1)


def l2_norm(spec: NetSpec, layer: Layer, weights: Weights) -> Tensor:
    """Euclidean length of every filter."""
    length: Tensor = torch.linalg.vector_norm(weights[f"{layer.node}.weight"].flatten(1), dim=1)
    return length


def bn_scale(spec: NetSpec, layer: Layer, weights: Weights) -> Tensor:
    """Magnitude of the batch norm's weight behind the layer; the L1 norm where there is none."""
    for name in layer.tail:
        node = spec[name]
        if node.op == "batch_norm" and node.attrs["affine"]:
            return weights[f"{name}.weight"].abs()
    return l1_norm(spec, layer, weights)


def at_random(spec: NetSpec, layer: Layer, weights: Weights) -> Tensor:
    """The control: an order that depends on the layer's name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(layer.node.encode()))
    return torch.rand(layer.outputs, generator=generator)


CRITERIA: dict[str, Criterion] = {
    "l1": l1_norm,
    "l2": l2_norm,
    "bn_scale": bn_scale,
    "random": at_random,
}
