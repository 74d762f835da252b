"""Functions that are known only inside a whole, such as the Erf in GELU.

Each is written as a call and refused at the end, if it is still there: if no activation and no
normalisation was recognised around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from teachers.onnx_import.operators.recognition import recognised
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant

WHOLES = "an activation (GELU, SiLU, Softplus, …) or a normalisation that is known"

ALONE: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Reciprocal": torch.reciprocal,
    "Sqrt": torch.sqrt,
}
COMPARED: dict[str, Callable[..., Any]] = {
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}


def elementwise(step: Step) -> Activation:
    """A function of each number, and perhaps the last of a whole."""
    x = step.x()
    if step.node.op == "Log" and x.call.target is torch.softmax:
        origin, axis = x.inputs[0], x.call.args[1]
        assert isinstance(origin, Activation)
        return step.call(torch.log_softmax, origin, axis)
    value = step.elementwise(ALONE[step.node.op], step.x(), part_of=WHOLES)
    return recognised(step, value)


def compare(step: Step) -> Activation:
    """A comparison with one number."""
    return step.elementwise(COMPARED[step.node.op], *_two(step), part_of=WHOLES)


def power(step: Step) -> Activation:
    """A power with a constant exponent; a square is a product."""
    exponent = _scalar(step, 1)
    if exponent == 1:
        return step.x()
    if exponent == 2:
        return step.elementwise(torch.mul, step.x(), step.x())
    return step.elementwise(torch.pow, step.x(), exponent, part_of=WHOLES)


def where(step: Step) -> Activation:
    """A choice by a comparison, as in Softplus."""
    chosen = step.elementwise(torch.where, step.x(0), *_two(step, 1), part_of=WHOLES)
    return recognised(step, chosen)


def _two(step: Step, first: int = 0) -> list[float | Activation]:
    return [
        _scalar(step, i) if isinstance(step.inputs[i], Constant) else step.x(i)
        for i in (first, first + 1)
    ]


def _scalar(step: Step, index: int) -> float:
    array = step.array(index, "operand")
    if array.size != 1:
        raise step.refuse("has an operand of several numbers", value=list(array.shape), bound="one")
    return float(array.reshape(()))
