"""From a torch module to a :class:`NetSpec`, by torch.fx.

An operator that the table does not know ends in one error that names the node, where it stands
and the remedy, before any training. How calls are read: :mod:`envs.fx_import.reading`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor, nn

from envs.fx_import.reading.calls import Reading
from envs.fx_import.reading.capture import capture
from envs.fx_import.reading.endings import Ending, without_ending
from envs.fx_import.reading.network import Call, Network, Value
from envs.fx_import.reading.tables import reader_of
from envs.fx_import.reading.two_logits import with_two_logits
from envs.graph.netspec import NetSpec, Node, Shape
from envs.graph.ops import OPS


@dataclass(frozen=True, eq=False)
class Traced:
    """A module, described.

    Attributes:
        spec: its operators, from the image to the logits.
        weights: their tensors, under the keys of the spec. Those of the module's own layers are
            the tensors of its state dict; constants of its arithmetic stand in ``affine`` nodes.
        notes: what the description leaves out, in sentences.
        ending: what the module does to its logits at the end.
    """

    spec: NetSpec
    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    ending: Ending = field(default_factory=Ending)


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
    logits, ending = without_ending(net, Reading(module, graph, net).logits())
    net.call = Call("logits", "its end")
    if logits.rank == 1 and logits.name in net.nodes and prod(net.shapes[logits.name]) == 1:
        logits = Value(logits.name, (*logits.axes, ()), logits.label)  # one number, squeezed
    if logits.rank != 2:
        raise net.refuse(f"a result of axes {net.spelled(logits)}", "logits N×K")
    nodes = _needed(net, net.canonical(logits))
    if not any(OPS[node.op].weighted for node in nodes):
        raise net.refuse("no layer with weights", "convolutions or linear layers")
    kept = {node.name for node in nodes}
    weights = {key: tensor for key, tensor in net.weights.items() if key.rpartition(".")[0] in kept}
    spec = NetSpec(net.input_shape, nodes)
    if spec.classes == 1:
        spec, weights = with_two_logits(spec, weights)
        ending = replace(ending, single=True)
        net.notes.append(
            "one logit z for two classes is taken as the two logits 0 and z: above 0 it is the "
            "second class"
        )
    return Traced(spec, weights, tuple(net.notes), ending)


def _needed(net: Network, last: str) -> tuple[Node, ...]:
    """Drop what the logits do not depend on, so that the last node writes them."""
    wanted = {last}
    kept = []
    for node in reversed(net.nodes.values()):
        if node.name not in wanted:
            continue
        if node.name in net.finals:
            kind = net.finals[node.name]
            what = "log-softmax" if (node.op, kind) == ("softmax", "log") else kind
            raise net.refuse(
                f"a {what} inside ({node.name})",
                f"a {what} at the end alone, of probabilities",
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
    found = found.reshape(expected.shape)
    # the logarithm of a probability that is 0 is infinite on both sides
    differ = torch.where(expected == found, torch.zeros_like(expected), (expected - found).abs())
    finite = torch.where(expected.isfinite(), expected, torch.zeros_like(expected))
    return bool(differ.max() <= 1e-4 * max(1.0, float(finite.abs().max())))
