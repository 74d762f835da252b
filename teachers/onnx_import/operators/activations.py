"""Activations: functions of each number alone, and softmax over the classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teachers.onnx_import.operators.recognition import recognised
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


def _plain(function: Callable[[Tensor], Tensor]) -> Callable[[Step], Activation]:
    def handler(step: Step) -> Activation:
        return step.elementwise(function, step.x())

    return handler


hard_swish = _plain(F.hardswish)
mish = _plain(F.mish)
relu = _plain(F.relu)
sigmoid = _plain(torch.sigmoid)
tanh = _plain(torch.tanh)
softplus = _plain(F.softplus)


def celu(step: Step) -> Activation:
    """alpha · ELU(x / alpha)."""
    alpha = _number(step, "alpha", 1.0)
    inner = step.elementwise(torch.mul, step.x(), 1 / alpha) if alpha != 1 else step.x()
    outer = step.elementwise(F.elu, inner)
    return step.elementwise(torch.mul, outer, alpha) if alpha != 1 else outer


def clip(step: Step) -> Activation:
    """Clip to bounds that are attributes before opset 11, inputs since; either may be left out."""
    low, high = (_bound(step, i, name) for i, name in ((1, "min"), (2, "max")))
    if low is None and high is None:
        return step.x()
    if (low, high) == (0.0, 6.0):
        return recognised(step, step.elementwise(F.relu6, step.x()))
    if (low, high) == (0.0, None):
        return step.elementwise(F.relu, step.x())
    return recognised(step, step.elementwise(torch.clamp, step.x(), low, high))


def _bound(step: Step, index: int, name: str) -> float | None:
    value = step.option(index, name)
    if value is None or value.size == 0:
        return None
    bound = float(value.reshape(-1)[0])
    # the largest float32 and infinity are how exporters spell "no bound"
    return None if abs(bound) >= 3.4e38 else bound


def elu(step: Step) -> Activation:
    """ELU with its alpha."""
    return step.elementwise(F.elu, step.x(), _number(step, "alpha", 1.0))


def gelu(step: Step) -> Activation:
    """GELU, exact or by tanh."""
    approximate = step.attr("approximate", "none")
    return step.elementwise(F.gelu, step.x(), approximate=approximate)


def hard_sigmoid(step: Step) -> Activation:
    """max(0, min(1, alpha · x + beta)); alpha = 1/6 and beta = 1/2 are torch's."""
    alpha, beta = float(step.attr("alpha", 0.2)), float(step.attr("beta", 0.5))
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return step.elementwise(F.hardsigmoid, step.x())
    scaled = step.elementwise(torch.mul, step.x(), alpha)
    shifted = step.elementwise(torch.add, scaled, beta)
    return step.elementwise(torch.clamp, shifted, 0.0, 1.0)


def leaky_relu(step: Step) -> Activation:
    """LeakyReLU with its slope."""
    return step.elementwise(F.leaky_relu, step.x(), float(step.attr("alpha", 0.01)))


def prelu(step: Step) -> Activation:
    """PReLU with one slope, or one per channel on axis 1 or on the last."""
    x, slope = step.x(), step.weights(1, "slope")
    sides = (1,) * (x.rank - slope.ndim) + tuple(slope.shape)
    axes = [axis for axis, side in enumerate(sides) if side != 1]
    if len(axes) > 1 or len(sides) != x.rank or (axes and sides[axes[0]] != x.shape[axes[0]]):
        raise step.refuse(
            "has slopes that are not one per channel", value=list(slope.shape), bound="[C, 1, 1]"
        )
    module = nn.PReLU(slope.numel())
    module.weight = nn.Parameter(slope.reshape(-1).clone())
    if axes in ([], [1]):
        return step.layer(module, x)
    if axes != [x.rank - 1]:
        raise step.refuse(
            "has slopes along a spatial axis", value=list(slope.shape), bound="[C, 1, 1]"
        )
    inner = (0, x.rank - 1, *range(1, x.rank - 1))
    outer = (0, *range(2, x.rank), 1)
    return step.call(torch.permute, step.layer(module, step.call(torch.permute, x, inner)), outer)


def selu(step: Step) -> Activation:
    """gamma · ELU(x, alpha)."""
    inner = step.elementwise(F.elu, step.x(), _number(step, "alpha", SELU_ALPHA))
    return step.elementwise(torch.mul, inner, float(step.attr("gamma", SELU_GAMMA)))


def swish(step: Step) -> Activation:
    """x · sigmoid(alpha · x)."""
    alpha = float(step.attr("alpha", 1.0))
    if alpha == 1:
        return step.elementwise(F.silu, step.x())
    gate = step.elementwise(torch.sigmoid, step.elementwise(torch.mul, step.x(), alpha))
    return step.elementwise(torch.mul, step.x(), gate)


def softmax(step: Step) -> Activation:
    """Softmax over one axis."""
    return step.call(torch.softmax, step.x(), _axis(step))


def log_softmax(step: Step) -> Activation:
    """Log-softmax over one axis."""
    return step.call(torch.log_softmax, step.x(), _axis(step))


def _axis(step: Step) -> int:
    """Before opset 13, all axes from ``axis`` on were normalised together."""
    x = step.x()
    axis = int(step.attr("axis", 1 if step.opset < 13 else -1))
    if not -x.rank <= axis < x.rank or axis % x.rank == 0:
        raise step.refuse("has an impossible axis", value=axis, bound=f"1 to {x.rank - 1}")
    axis %= x.rank
    if step.opset < 13 and math.prod(x.shape[axis + 1 :]) != 1:
        raise step.refuse(
            "normalises over several axes",
            value=f"axes {axis} to {x.rank - 1} of {list(x.shape)}",
            bound="one axis",
            remedy="Export again with opset_version=13 or newer.",
        )
    return axis


def _number(step: Step, name: str, default: float) -> float:
    value = float(step.attr(name, default))
    if not 0 < value < math.inf:
        raise step.refuse(f"has an impossible {name}", value=value, bound="a number above 0")
    return value
