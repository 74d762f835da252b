"""Activations that are written out as products, told from the operators already there."""

from __future__ import annotations

import math
from collections.abc import Mapping

from envs.graph.netspec import Node

#: x times this operator of x is that activation
_GATES = {"sigmoid": "silu", "hardsigmoid": "hardswish"}


def gated(nodes: Mapping[str, Node], first: str, second: str) -> tuple[str, str] | None:
    """The activation that a product of two nodes is, and what it reads.

    ``x · sigmoid(x)`` is SiLU, ``x · hardsigmoid(x)`` is Hardswish, ``x · tanh(softplus(x))`` is
    Mish.
    """
    for source, gate in ((first, second), (second, first)):
        node = nodes.get(gate)
        if node is None:
            continue
        if node.op in _GATES and node.inputs == (source,):
            return _GATES[node.op], source
        inner = nodes.get(node.inputs[0])
        soft = inner is not None and inner.op == "softplus" and inner.inputs == (source,)
        if node.op == "tanh" and soft:
            return "mish", source
    return None


def hard_gate(nodes: Mapping[str, Node], name: str, scale: float) -> tuple[str, str] | None:
    """What a node times ``scale`` is, where it ends ``relu6(x + 3) / 6``, alone or times x."""
    node = nodes.get(name)
    if node is None or not math.isclose(scale, 1 / 6, rel_tol=1e-6):
        return None
    if (source := _raised(nodes, name)) is not None:
        return "hardsigmoid", source
    if node.op == "mul":
        for source, gate in (node.inputs, node.inputs[::-1]):
            if _raised(nodes, gate) == source:
                return "hardswish", source
    return None


def _raised(nodes: Mapping[str, Node], name: str) -> str | None:
    """x, where a node is ``relu6(x + 3)``."""
    node = nodes.get(name)
    inner = nodes.get(node.inputs[0]) if node is not None and node.op == "relu6" else None
    if inner is None or inner.op != "scalar" or inner.attrs != {"scale": 1.0, "shift": 3.0}:
        return None
    return inner.inputs[0]
