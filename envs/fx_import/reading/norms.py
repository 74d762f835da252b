"""Normalisation, and activations with weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from envs.fx_import.reading.network import Constant, Network, Value
from envs.fx_import.reading.weighted import constant, module_path, optional, tensors

#: torch's own default, for batch norms that average over all batches alike
MOMENTUM = 0.1


def batch_norm_module(net: Network, input: Value, module: Any) -> Value:
    """``nn.BatchNorm1d`` and ``nn.BatchNorm2d``."""
    return _batch_norm(
        net, input, module.running_mean, module.running_var, module.num_batches_tracked,
        module.weight, module.bias, module.momentum, module.eps, net.call.path,
    )  # fmt: skip


def batch_norm(
    net: Network,
    input: Value,
    running_mean: Constant | None,
    running_var: Constant | None,
    weight: Constant | None = None,
    bias: Constant | None = None,
    training: bool = False,
    momentum: float = MOMENTUM,
    eps: float = 1e-5,
) -> Value:
    """``F.batch_norm``."""
    if training:
        raise net.refuse("a batch norm of the batch itself", "running statistics")
    given = (running_mean, running_var, weight, bias)
    mean, var, scale, shift = (optional(net, each) for each in given)
    name = module_path(net, *given)
    return _batch_norm(net, input, mean, var, None, scale, shift, momentum, eps, name)


def _batch_norm(
    net: Network,
    input: Value,
    mean: Tensor | None,
    var: Tensor | None,
    batches: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | None,
    eps: float,
    name: str,
) -> Value:
    if mean is None or var is None:
        raise net.refuse("a batch norm without running statistics", "running statistics")
    if momentum is None:
        momentum = MOMENTUM
        net.notes.append(
            f"the batch norm {net.call.path!r} averages over all its batches; students average "
            f"with momentum {MOMENTUM}"
        )
    affine = weight is not None or bias is not None
    attrs = {
        "features": len(mean),
        "eps": float(eps),
        "momentum": float(momentum),
        "affine": affine,
    }
    found = {
        "running_mean": mean,
        "running_var": var,
        "num_batches_tracked": torch.tensor(0) if batches is None else batches,
    }
    return net.layer("batch_norm", attrs, input, _both(weight, bias, len(mean)) | found, name=name)


def _both(weight: Tensor | None, bias: Tensor | None, features: int) -> dict[str, Tensor]:
    """Scale and shift, or neither; our operators have no half of it."""
    if weight is None and bias is None:
        return {}
    return {
        "weight": torch.ones(features) if weight is None else weight,
        "bias": torch.zeros(features) if bias is None else bias,
    }


def group_norm_module(net: Network, input: Value, module: nn.GroupNorm) -> Value:
    """``nn.GroupNorm``."""
    found = _both(module.weight, module.bias, module.num_channels)
    return _group_norm(net, input, module.num_groups, found, module.eps, net.call.path)


def group_norm(
    net: Network,
    input: Value,
    num_groups: int,
    weight: Constant | None = None,
    bias: Constant | None = None,
    eps: float = 1e-5,
) -> Value:
    """``F.group_norm``."""
    features = math.prod(factor.extent for factor in input.axes[1])
    found = _both(optional(net, weight), optional(net, bias), features)
    return _group_norm(net, input, num_groups, found, eps, module_path(net, weight, bias))


def instance_norm_module(net: Network, input: Value, module: Any) -> Value:
    """``nn.InstanceNorm1d`` and ``nn.InstanceNorm2d``: a group norm with a group per channel."""
    if module.track_running_stats:
        raise net.refuse("an instance norm with running statistics", "statistics of the image")
    found = _both(module.weight, module.bias, module.num_features)
    return _group_norm(net, input, module.num_features, found, module.eps, net.call.path)


def instance_norm(
    net: Network,
    input: Value,
    running_mean: Constant | None = None,
    running_var: Constant | None = None,
    weight: Constant | None = None,
    bias: Constant | None = None,
    use_input_stats: bool = True,
    momentum: float = MOMENTUM,
    eps: float = 1e-5,
) -> Value:
    """``F.instance_norm``."""
    if not use_input_stats:
        raise net.refuse("an instance norm with running statistics", "statistics of the image")
    features = math.prod(factor.extent for factor in input.axes[1])
    return group_norm(net, input, features, weight, bias, eps)


def _group_norm(
    net: Network, input: Value, groups: int, found: dict[str, Tensor], eps: float, name: str
) -> Value:
    attrs = {
        "features": math.prod(factor.extent for factor in input.axes[1]),
        "groups": groups,
        "eps": float(eps),
        "affine": bool(found),
    }
    if found:
        return net.layer("group_norm", attrs, input, found, name=name)
    return net.apply("group_norm", attrs, input)


def layer_norm_module(net: Network, input: Value, module: nn.LayerNorm) -> Value:
    """``nn.LayerNorm`` over the channels, where they are the last axis."""
    shape, path = module.normalized_shape, net.call.path
    return _layer_norm(net, input, shape, module.weight, module.bias, module.eps, path)


def layer_norm(
    net: Network,
    input: Value,
    normalized_shape: tuple[int, ...],
    weight: Constant | None = None,
    bias: Constant | None = None,
    eps: float = 1e-5,
) -> Value:
    """``F.layer_norm``."""
    scale, shift, path = optional(net, weight), optional(net, bias), module_path(net, weight, bias)
    return _layer_norm(net, input, normalized_shape, scale, shift, eps, path)


def _layer_norm(
    net: Network,
    input: Value,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    name: str,
) -> Value:
    found = tensors(weight=weight, bias=bias)
    if len(shape) == input.rank - 1 > 1 and not found:
        # over the whole image without weights: one group
        return _group_norm(net, input, 1, {}, eps, "")
    if len(shape) != 1:
        raise net.refuse(f"a layer norm over axes of {tuple(shape)}", "the channels alone")
    attrs = {
        "features": shape[0],
        "eps": float(eps),
        "weight": weight is not None,
        "bias": bias is not None,
    }
    last = input.rank - 1
    if found:
        return net.layer("layer_norm", attrs, input, found, channel=last, name=name)
    return net.apply("layer_norm", attrs, input, channel=last)


def normalised(net: Network, input: Value, axis: int, eps: float) -> Value:
    """Mean 0 and variance 1 over one axis, which must be the channels."""
    channel = axis % input.rank
    attrs = {
        "features": math.prod(factor.extent for factor in input.axes[channel]),
        "eps": eps,
        "weight": False,
        "bias": False,
    }
    return net.apply("layer_norm", attrs, input, channel)


def local_response_norm(
    net: Network, input: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Value:
    """``nn.LocalResponseNorm`` and ``F.local_response_norm``."""
    attrs = {"size": size, "alpha": float(alpha), "beta": float(beta), "k": float(k)}
    return net.apply("local_response_norm", attrs, input)


def prelu_module(net: Network, input: Value, module: nn.PReLU) -> Value:
    """``nn.PReLU``."""
    return _prelu(net, input, module.weight, net.call.path)


def prelu(net: Network, input: Value, weight: Constant) -> Value:
    """``F.prelu``."""
    return _prelu(net, input, constant(net, weight).reshape(-1), module_path(net, weight))


def _prelu(net: Network, input: Value, weight: Tensor, name: str) -> Value:
    attrs = {"features": len(weight)}
    return net.layer("prelu", attrs, input, {"weight": weight}, name=name)
