"""Normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation

EPSILON = 1e-5


def batch_norm(step: Step) -> Activation:
    """Batch normalisation by stored statistics, over vectors, 1-D and 2-D maps."""
    x = step.x()
    if step.attr("training_mode", 0) or not step.attr("spatial", 1) or not 2 <= x.rank <= 4:
        raise step.refuse(
            "does not normalise by stored statistics per channel",
            value=f"training_mode={step.attr('training_mode', 0)}, "
            f"spatial={step.attr('spatial', 1)}, {x.rank} axes",
            bound="batch norm of a trained network over batch × channels × space",
            remedy="Call eval() before exporting, and export again.",
        )
    features = (x.shape[1],)
    weight, bias, mean, variance = (
        step.weights(index, what, features)
        for index, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance"))
    )
    epsilon = _epsilon(step)
    if float(variance.min()) + epsilon <= 0:
        raise step.refuse(
            "has a variance that is not positive", value=float(variance.min()), bound="at least 0"
        )
    kind = nn.BatchNorm2d if x.rank == 4 else nn.BatchNorm1d
    momentum = 1 - float(step.attr("momentum", 0.9))
    module = kind(features[0], epsilon, momentum)
    module.load_state_dict(
        {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance},
        strict=False,
    )
    return step.layer(module, x)


def instance_norm(step: Step) -> Activation:
    """Instance normalisation; between two reshapes it is a group norm (see ``compounds``)."""
    x = step.x()
    if x.rank not in (3, 4):
        raise step.refuse("has no space to normalise over", value=x.rank, bound="3 or 4 axes")
    kind = nn.InstanceNorm2d if x.rank == 4 else nn.InstanceNorm1d
    features = x.shape[1]
    module = kind(features, _epsilon(step), affine=True)
    return step.layer(_filled(step, module, features), x)


def group_norm(step: Step) -> Activation:
    """Group normalisation; opset 18 has a scale per group, opset 21 one per channel."""
    x, groups = step.x(), int(step.attr("num_groups", 0))
    features = x.shape[1]
    if groups < 1 or features % groups:
        raise step.refuse("has impossible groups", value=groups, bound=f"a divisor of {features}")
    module = nn.GroupNorm(groups, features, _epsilon(step))
    return step.layer(_filled(step, module, features), x)


def layer_norm(step: Step) -> Activation:
    """Layer normalisation over the last axis alone."""
    x = step.x()
    axis = int(step.attr("axis", -1))
    if axis not in (-1, x.rank - 1) or x.rank < 2:
        raise step.refuse(
            "normalises over several axes", value=f"axis {axis} of {x.rank}", bound="the last axis"
        )
    features = x.shape[-1]
    module = nn.LayerNorm(features, _epsilon(step), bias=step.has(2))
    return step.layer(_filled(step, module, features), x)


def local_response_norm(step: Step) -> Activation:
    """Local response normalisation across channels."""
    x, size = step.x(), int(step.attr("size", 0))
    if not 1 <= size <= 2**16 or size % 2 == 0:
        # torch and ONNX lay an even window to different sides
        raise step.refuse("has an impossible size", value=size, bound="an odd number, at least 1")
    return step.call(
        nn.functional.local_response_norm,
        x,
        size,
        float(step.attr("alpha", 1e-4)),
        float(step.attr("beta", 0.75)),
        float(step.attr("bias", 1.0)),
    )


def _epsilon(step: Step) -> float:
    epsilon = float(step.attr("epsilon", EPSILON))
    if epsilon < 0:
        raise step.refuse("has an impossible epsilon", value=epsilon, bound="at least 0")
    return epsilon


def _filled(step: Step, module: nn.Module, features: int) -> nn.Module:
    """The module with the node's scale and bias, repeated where there is one per group."""
    module.weight = nn.Parameter(_per_channel(step, 1, "scale", features))
    if step.has(2):
        module.bias = nn.Parameter(_per_channel(step, 2, "bias", features))
    return module


def _per_channel(step: Step, index: int, what: str, features: int) -> Tensor:
    values = step.weights(index, what)
    if values.ndim != 1 or values.numel() == 0 or features % values.numel():
        raise step.refuse(
            f"has a {what} of a wrong shape", value=list(values.shape), bound=f"[{features}]"
        )
    return torch.repeat_interleave(values, features // values.numel())
