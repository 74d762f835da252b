"""Sums, products and joins of tensors with one another and with constants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from teachers.onnx_import.operators.compounds import inverted_norm, normalised, shifted_norm
from teachers.onnx_import.operators.constants import operand, per_channel
from teachers.onnx_import.operators.recognition import recognised
from teachers.onnx_import.operators.weights import foldable, scaled
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant


def add(step: Step) -> Activation:
    """x + y, or x + constant."""
    if isinstance(step.inputs[0], Constant):
        return _shift(step, step.x(1), 0)
    if isinstance(step.inputs[1], Constant):
        return _shift(step, step.x(0), 1)
    whole = shifted_norm(step)
    if whole is not None:
        return whole
    return _join(step, torch.add, *_pair(step))


def sub(step: Step) -> Activation:
    """x − y, x − constant, or constant − x."""
    if isinstance(step.inputs[1], Constant):
        return _shift(step, step.x(0), 1, sign=-1)
    if isinstance(step.inputs[0], Constant):
        return _shift(step, step.elementwise(torch.mul, step.x(1), -1.0), 0)
    return _join(step, torch.sub, *_pair(step))


def mul(step: Step) -> Activation:
    """x · y, or x · constant."""
    if isinstance(step.inputs[0], Constant):
        return _scale(step, step.x(1), 0)
    if isinstance(step.inputs[1], Constant):
        return _scale(step, step.x(0), 1)
    whole = inverted_norm(step)
    if whole is not None:
        return whole
    return _join(step, torch.mul, *_pair(step))


def div(step: Step) -> Activation:
    """x / constant; a quotient of tensors is known inside normalisations alone."""
    if isinstance(step.inputs[1], Constant):
        return _scale(step, step.x(0), 1, inverse=True)
    if isinstance(step.inputs[0], Constant):
        value = operand(step, 0, step.x(1))
        if isinstance(value, Tensor):
            raise step.refuse(
                "divides by the image", value="a constant / x", bound="x / a constant"
            )
        quotient = step.elementwise(torch.div, value, step.x(1), part_of="sigmoid")
        return recognised(step, quotient)
    whole = normalised(step)
    if whole is not None:
        return whole
    return _join(step, torch.div, *_pair(step), part_of="a normalisation or an activation")


def neg(step: Step) -> Activation:
    """−x."""
    return step.elementwise(torch.mul, step.x(), -1.0)


def sum_(step: Step) -> Activation:
    """A chain of additions; constants among them are added one by one."""
    return _chain(step, [i for i, value in enumerate(step.inputs) if value is not None])


def mean(step: Step) -> Activation:
    """The sum over the number of inputs."""
    total = sum_(step)
    return step.elementwise(torch.mul, total, 1 / len(step.inputs))


def maximum(step: Step) -> Activation:
    """The larger of x and a number."""
    return _bounded(step, lambda x, bound: step.elementwise(torch.clamp, x, bound, None))


def minimum(step: Step) -> Activation:
    """The smaller of x and a number."""
    return _bounded(step, lambda x, bound: step.elementwise(torch.clamp, x, None, bound))


def concat(step: Step) -> Activation:
    """Tensors behind one another."""
    parts = [step.x(index) for index in range(len(step.inputs))]
    axis = int(step.attr("axis", 1))
    rank = parts[0].rank
    if not -rank <= axis < rank or axis % rank == 0:
        raise step.refuse("joins along an impossible axis", value=axis, bound=f"1 to {rank - 1}")
    return step.call(torch.cat, parts, axis % rank) if len(parts) > 1 else parts[0]


def _pair(step: Step) -> tuple[Activation, Activation]:
    """Both inputs; an Expand to the other's shape is left to broadcasting."""
    left, right = step.x(0), step.x(1)
    return _unexpanded(left, right), _unexpanded(right, left)


def _unexpanded(value: Activation, other: Activation) -> Activation:
    origin = value.inputs[0] if value.op == "Expand" else None
    fits = isinstance(origin, Activation) and origin.rank == other.rank == value.rank
    return origin if fits and value.shape == other.shape else value  # type: ignore[return-value]


def _join(
    step: Step,
    function: Callable[..., Tensor],
    left: Activation,
    right: Activation,
    part_of: str = "",
) -> Activation:
    return recognised(step, step.elementwise(function, left, right, part_of=part_of))


def _chain(step: Step, indices: list[int]) -> Activation:
    images = [i for i in indices if isinstance(step.inputs[i], Activation)]
    total = step.x(images[0]) if images else step.x()
    for index in images[1:]:
        total = step.elementwise(torch.add, total, step.x(index))
    for index in indices:
        if index not in images:
            total = _shift(step, total, index, fold=False)
    return total


def _shift(step: Step, x: Activation, index: int, sign: int = 1, fold: bool = True) -> Activation:
    value = operand(step, index, x)
    value = value if sign == 1 else -value
    bias = per_channel(value, x)
    if fold and bias is not None and foldable(x):
        return scaled(x, None, bias)
    if value == 0 if isinstance(value, float) else not value.any():
        return x
    if isinstance(value, float):
        return recognised(step, step.elementwise(torch.add, x, value))
    return step.call(torch.add, x, step.parameter(value, step.name_of(index)))


def _scale(step: Step, x: Activation, index: int, inverse: bool = False) -> Activation:
    if x.op == "Reciprocal" and not inverse:
        return _scaled_deviation(step, x, index)
    value = operand(step, index, x)
    if inverse:
        if (value == 0) if isinstance(value, float) else bool((value == 0).any()):
            raise step.refuse("divides by zero", value=step.name_of(index), bound="other numbers")
        value = 1 / value
    scale = per_channel(value, x)
    if scale is not None and foldable(x):
        return scaled(x, scale, None)
    if value == 1 if isinstance(value, float) else bool((value == 1).all()):
        return x
    if isinstance(value, float):
        return recognised(step, step.elementwise(torch.mul, x, value))
    return step.call(torch.mul, x, step.parameter(value, step.name_of(index)))


def _scaled_deviation(step: Step, x: Activation, index: int) -> Activation:
    """1 / deviation · weight: one per pixel becomes one per channel, inside a layer norm alone."""
    weight = step.parameter(step.weights(index, "weight"), step.name_of(index))
    return step.call(torch.mul, x, weight, part_of="a normalisation")


def _bounded(step: Step, clamp: Callable[[Activation, float], Activation]) -> Activation:
    images = [i for i, value in enumerate(step.inputs) if isinstance(value, Activation)]
    if len(images) != 1:
        raise step.refuse(
            "compares tensors of the image", value=f"{len(images)} tensors", bound="x and numbers"
        )
    x = step.x(images[0])
    for index in range(len(step.inputs)):
        if index != images[0]:
            bound = operand(step, index, x)
            if not isinstance(bound, float):
                raise step.refuse("has a bound per channel", value=list(bound.shape), bound="one")
            x = clamp(x, bound)
    return recognised(step, x)
