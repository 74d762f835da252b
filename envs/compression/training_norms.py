"""Batch norms for the time of a training, where a network has none, folded away again after it.

Exporters fold a batch norm into the convolution before it, and some networks never had any; such a
student learns far less in a few hundred steps than one with normalisation. So its convolutions get
a batch norm that at first changes nothing (scale and shift are the statistics of what it sees), is
trained along, and goes back into weight and bias afterwards: what ships is the same network as
before, of the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from envs.compression.layers import anatomy
from envs.compression.surgery import build
from envs.graph.netspec import NetSpec, Node
from envs.graph.ops import OPS

#: operators that normalise what they are given
NORMS = ("batch_norm", "group_norm", "layer_norm", "local_response_norm")
EPS, MOMENTUM = 1e-5, 0.1


@lru_cache(maxsize=256)
def bare_convolutions(spec: NetSpec) -> tuple[str, ...]:
    """Names of the convolutions that a batch norm can be given to and taken from again.

    Their outputs reach no norm before the next weight layer, they write maps of more than one
    pixel, and not the logits; and something takes the norm's shift: a bias of their own, or the
    constants per channel that some exporters write a batch norm as.
    """
    classifiers = {layer.node for layer in anatomy(spec).layers if layer.classifier}
    return tuple(
        node.name
        for node in spec.nodes
        if node.op in ("conv1d", "conv2d")
        and (node.attrs["bias"] or _shift_behind(spec, node.name))
        and node.name not in classifiers
        and max(node.shape[1:]) > 1
        and not _normalised(spec, node.name)
    )


def _shift_behind(spec: NetSpec, name: str) -> str | None:
    """The scale and shift that alone reads a layer, where it has a shift."""
    readers = spec.consumers[name]
    if len(readers) != 1 or spec[readers[0]].op != "affine":
        return None
    return readers[0] if spec[readers[0]].attrs["bias"] else None


def _normalised(spec: NetSpec, name: str) -> bool:
    """Whether a norm reads what a layer wrote, on any way to the next weight layers."""
    pending, seen = list(spec.consumers[name]), set[str]()
    while pending:
        reader = pending.pop()
        if reader in seen:
            continue
        seen.add(reader)
        if spec[reader].op in NORMS:
            return True
        if not OPS[spec[reader].op].weighted:
            pending.extend(spec.consumers[reader])
    return False


def _norm_names(spec: NetSpec) -> dict[str, str]:
    """Convolution → name of the norm behind it, which no layer has."""
    suffix, names = "_norm", {node.name for node in spec.nodes}
    bare = bare_convolutions(spec)
    while names & {name + suffix for name in bare}:
        suffix += "_"
    return {name: name + suffix for name in bare}


def with_norms(spec: NetSpec) -> NetSpec:
    """The spec with a batch norm behind each of its :func:`bare_convolutions`."""
    norms = _norm_names(spec)
    nodes: list[Node] = []
    for node in spec.nodes:
        nodes.append(replace(node, inputs=tuple(norms.get(name, name) for name in node.inputs)))
        if node.name in norms:
            attrs = {
                "features": node.shape[0],
                "eps": EPS,
                "momentum": MOMENTUM,
                "affine": True,
                "dims": len(node.shape) - 1,
            }
            norm = Node(norms[node.name], "batch_norm", (node.name,), attrs, node.shape)
            nodes.append(norm)
    return NetSpec(spec.input_shape, tuple(nodes))


def normalised(module: nn.Module, spec: NetSpec, batch: Tensor) -> nn.Module:
    """A network with norms that answers as ``module`` does, for as long as nobody trains it.

    Args:
        module: of ``spec``, with its weights.
        spec: without the norms.
        batch: inputs N×C×H×W, by whose statistics the norms divide.
    """
    norms = with_norms(spec)
    if len(norms.nodes) == len(spec.nodes):
        return module
    with torch.random.fork_rng(devices=[]):  # drawn in vain: all tensors are set below
        found = build(norms)
    found.load_state_dict(module.state_dict(), strict=False)
    settle(found, spec, batch)
    return found


@torch.no_grad()
def settle(module: nn.Module, spec: NetSpec, batch: Tensor) -> None:
    """Set the norms of ``module``, built from :func:`with_norms`, so that they change nothing.

    Args:
        module: with the weights of the layers in place; in eval mode for the time of this.
        spec: without the norms.
        batch: inputs N×C×H×W by whose statistics each norm divides.
    """
    norms = {name: module.get_submodule(norm) for name, norm in _norm_names(spec).items()}
    training = module.training
    module.eval()
    with ExitStack() as hooks:
        for norm in norms.values():
            hook = norm.register_forward_hook(_measure)
            hooks.callback(hook.remove)
        module(batch)
    module.train(training)


def _measure(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """Take the statistics of what a norm is given, and hand that on as it is."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    (values,) = inputs
    axes = [0, *range(2, values.ndim)]
    mean, var = values.mean(axes), values.var(axes, unbiased=False)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.num_batches_tracked.zero_()
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.bias.copy_(mean)
    return values


def without_norms(spec: NetSpec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``spec`` that answers as that of :func:`with_norms` does in eval mode.

    Args:
        spec: without the norms.
        weights: of the network with them.
    """
    found = dict(weights)
    for name, norm in _norm_names(spec).items():
        weight, bias, mean, var = (
            found.pop(f"{norm}.{part}")
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        found.pop(f"{norm}.num_batches_tracked")
        scale = weight / (var + EPS).sqrt()
        kernel = found[f"{name}.weight"]
        found[f"{name}.weight"] = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
        if spec[name].attrs["bias"]:
            found[f"{name}.bias"] = bias + (found[f"{name}.bias"] - mean) * scale
            continue
        behind = _shift_behind(spec, name)
        slope = found.get(f"{behind}.weight", torch.ones_like(scale))
        found[f"{behind}.bias"] = found[f"{behind}.bias"] + slope * (bias - mean * scale)
    return found
