"""Normalisations recognised by their form: exporters take them apart into a dozen operators."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from teachers.onnx_import.graph import Array
from teachers.onnx_import.rules import axes_of
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant, Value


def normalised(step: Step) -> Activation | None:
    """The layer norm or local response norm that this Div completes, if it does."""
    return _layer_norm(step, step.x(0), step.x(1)) or _local_response_norm(step)


def shifted_norm(step: Step) -> Activation | None:
    """The layer norm x · r + (bias − mean · r) that this Add completes, with r = weight / √….

    So TensorFlow writes it, over the last axis.
    """
    for product, shift in (step.inputs, step.inputs[::-1]):
        if not isinstance(shift, Activation) or shift.op != "Sub" or len(shift.inputs) != 2:
            continue
        bias, subtracted = _array(shift.inputs[0]), shift.inputs[1]
        for x, rate in _factors(product):
            for mean, other in _factors(subtracted):
                deviation, weight = _deviation(rate)
                if other is not rate or bias is None or deviation is None:
                    continue
                axis = _mean_axis(mean)
                if axis != x.rank - 1 or mean.inputs[0] is not x:
                    continue
                epsilon = _variance(deviation, x, axis)
                if epsilon is not None:
                    return _affine_layer_norm(step, x, epsilon, weight, bias)
    return None


def _factors(value: Value | None) -> list[tuple[Activation, Activation]]:
    """Both orders of a product of two tensors of the image; nothing for anything else."""
    if not isinstance(value, Activation) or value.op != "Mul":
        return []
    left, right = value.inputs
    if not isinstance(left, Activation) or not isinstance(right, Activation):
        return []
    return [(left, right), (right, left)]


def _deviation(rate: Activation) -> tuple[Activation | None, Array | None]:
    """√… and the weight, where ``rate`` is weight / √… or 1 / √…."""
    weight: Array | None = None
    if rate.op == "Mul":
        for value, constant in (rate.inputs, rate.inputs[::-1]):
            if isinstance(value, Activation) and isinstance(constant, Constant):
                rate, weight = value, _array(constant)
    inner = rate.inputs[0] if rate.op == "Reciprocal" else None
    return (inner if isinstance(inner, Activation) else None), weight


def _affine_layer_norm(
    step: Step, x: Activation, epsilon: float, weight: Array | None, bias: Array
) -> Activation | None:
    features = x.shape[-1]
    if bias.size != features or (weight is not None and weight.size != features):
        return None
    module = nn.LayerNorm(features, epsilon)
    with torch.no_grad():
        module.bias.copy_(torch.tensor(bias.reshape(-1)))
        if weight is not None:
            module.weight.copy_(torch.tensor(weight.reshape(-1)))
    return step.layer(module, x, weight=None)


def inverted_norm(step: Step) -> Activation | None:
    """The layer norm that the product of x − mean and 1 / √… completes, if it is one."""
    for centred, rate in _factors_of(step):
        if rate.op == "Reciprocal" and isinstance(rate.inputs[0], Activation):
            whole = _layer_norm(step, centred, rate.inputs[0])
            if whole is not None:
                return whole
    return None


def _factors_of(step: Step) -> list[tuple[Activation, Activation]]:
    left, right = step.x(0), step.x(1)
    return [(left, right), (right, left)]


def _layer_norm(step: Step, centred: Activation, deviation: Activation) -> Activation | None:
    """(x − mean) / √(mean((x − mean)²) + ε), over one axis."""
    found = _centred(centred)
    if found is None:
        return None
    x, axis = found
    epsilon = _variance(deviation, x, axis)
    if epsilon is None or axis not in (1, x.rank - 1):
        return None
    module = nn.LayerNorm(x.shape[axis], epsilon, elementwise_affine=False)
    if axis == x.rank - 1:
        return step.layer(module, x, weight=None)
    inner, outer = (0, *range(2, x.rank), 1), (0, x.rank - 1, *range(1, x.rank - 1))
    last = step.layer(module, step.call(torch.permute, x, inner), weight=None)
    return step.call(torch.permute, last, outer)


def _centred(value: Value | None) -> tuple[Activation, int] | None:
    """x and the axis, where ``value`` is x − mean(x) over one axis."""
    if not isinstance(value, Activation) or value.op != "Sub":
        return None
    x, mean = value.inputs
    if not isinstance(x, Activation) or not isinstance(mean, Activation):
        return None
    axis = _mean_axis(mean)
    return (x, axis) if axis is not None and mean.inputs[0] is x else None


def _variance(deviation: Activation, x: Activation, axis: int) -> float | None:
    """ε, where ``deviation`` is √(mean((x − mean)²) + ε) over the same axis."""
    if deviation.op not in ("Sqrt", "Pow"):
        return None
    if deviation.op == "Pow" and _number(deviation.inputs[1]) != 0.5:
        return None
    total = deviation.inputs[0]
    if not isinstance(total, Activation) or total.op != "Add":
        return None
    mean, epsilon = _constant_apart(total)
    if mean is None or epsilon is None or _mean_axis(mean) != axis:
        return None
    square = mean.inputs[0]
    if not isinstance(square, Activation) or square.op not in ("Pow", "Mul"):
        return None
    if square.op == "Pow" and _number(square.inputs[1]) != 2:
        return None
    if square.op == "Mul" and square.inputs[0] is not square.inputs[1]:
        return None
    return epsilon if _centred(square.inputs[0]) == (x, axis) else None


def _mean_axis(value: Activation) -> int | None:
    """The one axis over which a ReduceMean with kept dimensions runs."""
    if value.op != "ReduceMean" or value.made_by is None:
        return None
    axes = axes_of(value.made_by, [_array(given) for given in value.inputs])
    if axes is None or len(axes) != 1 or not value.made_by.attributes.get("keepdims", 1):
        return None
    return axes[0] % value.rank


def _local_response_norm(step: Step) -> Activation | None:
    """x / (k + α · mean over neighbouring channels of x²)^β, as torch's exporters write it."""
    x, power = step.x(0), step.x(1)
    if power.op != "Pow" or not isinstance(power.inputs[0], Activation):
        return None
    beta, total = _number(power.inputs[1]), power.inputs[0]
    product, k = _constant_apart(total) if total.op == "Add" else (None, None)
    if product is None or k is None or beta is None or product.op != "Mul":
        return None
    mean, alpha = _constant_apart(product)
    size = None if mean is None else _window_over_channels(mean, x)
    if size is None or alpha is None:
        return None
    return step.call(F.local_response_norm, x, size, alpha, beta, k)


def _window_over_channels(value: Activation, x: Activation) -> int | None:
    """The window, where ``value`` is the mean of x² over channels, on an axis of their own."""
    pool: Activation | None = None
    for _ in range(8):
        if value.op == "AveragePool":
            pool = value
        elif value.op in ("Mul", "Pow"):
            square = value.inputs[0] is x and (value.op == "Pow" or value.inputs[1] is x)
            break
        elif value.op not in ("Reshape", "Squeeze", "Unsqueeze", "Pad"):
            return None
        origin = value.inputs[0]
        if not isinstance(origin, Activation):
            return None
        value = origin
    else:
        return None
    if pool is None or pool.made_by is None or not square:
        return None
    kernel = list(pool.made_by.attributes.get("kernel_shape", ()))
    before = pool.inputs[0]
    assert isinstance(before, Activation)
    # the channels are padded to be as many after the pool as before it
    whole = before.rank == 5 and before.shape[2] == x.shape[1] + kernel[0] - 1
    return int(kernel[0]) if whole and kernel[1:] == [1, 1] else None


def grouped(step: Step, x: Activation) -> Activation | None:
    """The group norm that this Reshape completes: reshape, instance norm, reshape back."""
    if x.op != "InstanceNormalization" or not isinstance(x.module, nn.InstanceNorm1d):
        return None
    inner = x.inputs[0]
    if not isinstance(inner, Activation) or inner.op != "Reshape":
        return None
    origin = inner.inputs[0]
    if not isinstance(origin, Activation) or origin.rank < 3:
        return None
    groups, features = inner.shape[1], origin.shape[1]
    if features % groups or inner.shape[2] * groups != math.prod(origin.shape[1:]):
        return None
    module = nn.GroupNorm(groups, features, x.module.eps)
    for name in ("weight", "bias"):
        values = getattr(x.module, name).detach()
        setattr(module, name, nn.Parameter(values.repeat_interleave(features // groups)))
    return step.layer(module, origin, weight=None)


def _constant_apart(value: Activation) -> tuple[Activation | None, float | None]:
    """The image's and the constant's part of a sum or product with one number."""
    for image, constant in (value.inputs, value.inputs[::-1]):
        if isinstance(image, Activation) and isinstance(constant, Constant):
            return image, _number(constant)
    return None, None


def _number(value: Value | None) -> float | None:
    array = _array(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _array(value: Value | None) -> Array | None:
    return value.at[0] if isinstance(value, Constant) and value.fixed else None
