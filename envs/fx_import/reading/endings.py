"""What a classifier does to its logits at the end; students learn from the logits themselves.

A softmax, a sigmoid per class and whatever follows it (a clamp, per cent, a logarithm, a second
softmax) keep the order of the classes, so that the logits before them say all that they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from envs.fx_import.reading.network import Network, Value
from envs.graph.netspec import Node
from envs.graph.ops import OPS
from envs.graph.ops.base import Elementwise

#: operators that make probabilities of logits
PROBABILITIES = ("softmax", "sigmoid", "hardsigmoid")
#: operators that may follow them
MONOTONE = ("clip", "relu", "relu6", "scalar")
#: how notes call an operator
WORDS = {"scalar": "scaling", "clip": "clamp"}


@dataclass(frozen=True)
class Ending:
    """Operators between the logits and what the classifier gives, in their order.

    Attributes:
        steps: operator and attributes; "log" and "exp" beside those of the table.
        single: the classifier has two classes and gives one number, which is their logits'
            difference.
    """

    steps: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    single: bool = False

    @property
    def words(self) -> str:
        """The operators by their names, as "softmax and clamp"; "" where there are none."""
        *first, last = [WORDS.get(op, op) for op, _ in self.steps] or [""]
        return f"{', '.join(first)} and {last}" if first else last

    def apply(self, logits: Tensor) -> Tensor:
        """N×K logits → what the classifier gives; N×1 where it is ``single``."""
        result = logits[:, 1:] - logits[:, :1] if self.single else logits
        for op, attrs in self.steps:
            result = _function(op, attrs, result)
        return result


def _function(op: str, attrs: Mapping[str, Any], x: Tensor) -> Tensor:
    if op == "log-softmax":
        return torch.log_softmax(x, 1)
    if op in ("log", "exp"):
        return torch.log(x) if op == "log" else torch.exp(x)
    known = OPS[op]
    assert isinstance(known, Elementwise)
    function, options = known.function(attrs)
    return function(x, **options)


def without_ending(net: Network, result: Value) -> tuple[Value, Ending]:
    """The logits behind a network's result, and what was done to them."""
    passed: list[Node] = []
    name, innermost = result.name, 0
    while name in net.nodes and _passes(node := net.nodes[name]):
        passed.append(node)
        innermost = len(passed) if node.op in PROBABILITIES else innermost
        name = node.inputs[0]
    passed = passed[:innermost]
    if not passed:
        return result, Ending()
    ending = Ending(tuple(step for node in reversed(passed) for step in _steps(net, node)))
    named, ways = (passed[-1].name, "is") if len(ending.steps) == 1 else (passed[-1].name, "are")
    net.notes.append(
        f"the {ending.words} at the end (node {named!r}) {ways} left out: "
        "students learn from logits"
    )
    return Value(passed[-1].inputs[0], result.axes, result.label), ending


def _passes(node: Node) -> bool:
    """Whether larger numbers stay larger, or equal, in every row."""
    if node.op == "scalar":
        return bool(node.attrs["scale"] > 0)
    return node.op in PROBABILITIES or node.op in MONOTONE


def _steps(net: Network, node: Node) -> list[tuple[str, Mapping[str, Any]]]:
    last = net.finals.get(node.name, "")
    if node.op == "softmax" and last == "log":
        return [("log-softmax", {})]
    own = [] if node.op == "scalar" and last else [(node.op, node.attrs)]
    return [*own, (last, {})] if last else own
