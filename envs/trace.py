"""From a torch module to a :class:`NetSpec`, by torch.fx.

An operator that the table does not know ends in one error that names the node, where it stands
and the remedy, before any training. How calls are read: :mod:`envs.reading`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.netspec import NetSpec, Node, Shape
from envs.ops import OPS
from envs.reading.calls import Reading
from envs.reading.capture import capture
from envs.reading.network import Call, Network, Value
from envs.reading.tables import reader_of


@dataclass(frozen=True, eq=False)
class Traced:
    """A module, described.

    Attributes:
        spec: its operators, from the image to the logits.
        weights: their tensors, under the keys of the spec. Those of the module's own layers are
            the tensors of its state dict; constants of its arithmetic stand in ``affine`` nodes.
        notes: what the description leaves out, in sentences.
        ending: what the module does to its logits at the end: "softmax", "log-softmax" or "".
    """

    spec: NetSpec
    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    ending: str = ""


def trace(module: nn.Module, input_shape: Shape) -> NetSpec:
    """The spec of :func:`describe` alone."""
    return describe(module, input_shape).spec


def describe(module: nn.Module, input_shape: Shape) -> Traced:
    """Describe a classifier as it is in eval mode.

    Args:
        module: maps N×C×H×W or N×C×L to logits N×K; its mode stays as it is.
        input_shape: (C, H, W) or (C, L) of the images.

    Raises:
        BadInput: an operator outside the table, layers that do not fit each other, or control
            flow that depends on the data.
    """
    graph = capture(module, input_shape, lambda part: reader_of(part) is not None)
    owners = {path for path, part in module.named_modules() if any(True for _ in part.parameters())}
    owners |= {path for path, part in module.named_modules() if any(True for _ in part.buffers())}
    net = Network(input_shape, owners)
    logits, ending = _without_softmax(net, Reading(module, graph, net).logits())
    net.call = Call("logits", "its end")
    if logits.rank != 2:
        raise net.refuse(f"a result of axes {net.spelled(logits)}", "logits N×K")
    nodes = _needed(net, net.canonical(logits))
    if not any(OPS[node.op].weighted for node in nodes):
        raise net.refuse("no layer with weights", "convolutions or linear layers")
    kept = {node.name for node in nodes}
    weights = {key: tensor for key, tensor in net.weights.items() if key.rpartition(".")[0] in kept}
    return Traced(NetSpec(net.input_shape, nodes), weights, tuple(net.notes), ending)


def _without_softmax(net: Network, result: Value) -> tuple[Value, str]:
    """Students learn from logits, so a softmax at the end goes."""
    kind = ""
    if result.name in net.nodes and net.nodes[result.name].op == "softmax":
        kind = "log-softmax" if result.name in net.logarithms else "softmax"
        net.notes.append(
            f"the {kind} at the end (node {result.name!r}) is left out: students learn from logits"
        )
        result = Value(net.nodes[result.name].inputs[0], result.axes, result.label)
    return result, kind


def _needed(net: Network, last: str) -> tuple[Node, ...]:
    """Drop what the logits do not depend on, so that the last node writes them."""
    wanted = {last}
    kept = []
    for node in reversed(net.nodes.values()):
        if node.name not in wanted:
            continue
        if node.name in net.logarithms:
            raise net.refuse(
                f"a log-softmax inside ({node.name})", "a log-softmax at the end alone"
            )
        wanted.update(node.inputs)
        kept.append(node)
    return tuple(reversed(kept))


def agrees(
    module: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor
) -> bool:
    """Whether two networks give the same logits on a batch, within 1e-4 of the largest."""
    with torch.no_grad():
        expected, found = module(x), other(x)
    bound = 1e-4 * max(1.0, float(expected.abs().max()))
    return bool((expected - found).abs().max() <= bound)
