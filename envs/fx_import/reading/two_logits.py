"""One logit for two classes as two: 0 and the logit, whose softmax is the logit's sigmoid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS

#: what keeps a channel of zeros a channel of zeros, beside others that it does not mix with it
KEEPS_ZERO = frozenset(
    {
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "avg_pool1d",
        "avg_pool2d",
        "flatten",
        "max_pool1d",
        "max_pool2d",
        "reduce",
        "relu",
        "tanh",
        "unsqueeze",
    }
)


def with_two_logits(
    spec: NetSpec, weights: Mapping[str, Tensor]
) -> tuple[NetSpec, dict[str, Tensor]]:
    """A network of one logit z with the logits [0, z] instead.

    The layer that writes z gets a second filter, of zeros, in front of its own; where something
    behind it would not keep that 0, a linear layer of one input is added.
    """
    nodes, changed = list(spec.nodes), dict(weights)
    last = next(i for i in reversed(range(len(nodes))) if OPS[nodes[i].op].weighted)
    layer = nodes[last]
    chained = all(node.inputs == (nodes[i].name,) for i, node in enumerate(nodes[last + 1 :], last))
    kept = all(_keeps_zero(node) for node in nodes[last + 1 :])
    if not (chained and kept and layer.attrs["out"] == 1):
        name = next(n for n in ("logits", "two_logits", "logits_of_two") if n not in _names(nodes))
        attrs = {"in": 1, "out": 2, "bias": False, "dims": 0}
        changed[f"{name}.weight"] = torch.tensor([[0.0], [1.0]])
        added = Node(name, "linear", (nodes[-1].name,), attrs, (2,))
        return NetSpec(spec.input_shape, (*nodes, added)), changed
    for kind in ("weight", "bias"):
        key = f"{layer.name}.{kind}"
        if key in changed:
            changed[key] = torch.cat([torch.zeros_like(changed[key]), changed[key]])
    nodes[last] = replace(layer, attrs=dict(layer.attrs) | {"out": 2})
    shapes = {INPUT: spec.input_shape} | {node.name: node.shape for node in nodes}
    for i in range(last, len(nodes)):
        node = nodes[i]
        shape = OPS[node.op].shape(node.attrs, [shapes[name] for name in node.inputs])
        nodes[i], shapes[node.name] = replace(node, shape=shape), shape
    return NetSpec(spec.input_shape, tuple(nodes)), changed


def _keeps_zero(node: Node) -> bool:
    return node.op in KEEPS_ZERO or (node.op == "scalar" and node.attrs["shift"] == 0)


def _names(nodes: list[Node]) -> set[str]:
    """Names in use, those of the modules around layers too."""
    return {".".join(node.name.split(".")[:end]) for node in nodes for end in range(1, 9)}
