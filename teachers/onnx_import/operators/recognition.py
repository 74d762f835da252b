"""Activations recognised by what they compute, however an exporter spells them.

SiLU, Hardswish, GELU and Mish are written by most exporters as chains of Mul, Add, Erf, Clip and
the like, in many orders. Along such a chain the function from each earlier tensor is sampled on a
grid (:attr:`Activation.curves`); where the samples are those of a known activation, one call of
that stands for the chain, and what nobody else reads of the chain is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from teachers.onnx_import.step import GRID, Step
from teachers.onnx_import.values import Activation

#: what may be recognised; a member is one line
KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "mish": F.mish,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "relu": F.relu,
    "relu6": F.relu6,
}
# constants such as 1/√2 are stored in float32
TOLERANCE = 2e-6


@cache
def _samples() -> Tensor:
    """A row per known activation."""
    return torch.stack([function(GRID) for function in KNOWN.values()])


def recognised(step: Step, value: Activation) -> Activation:
    """A call of a known activation in place of ``value``, or ``value`` itself."""
    if not value.curves:
        return value
    # all curves and all known activations at once: long chains are compared at every step
    curves = torch.stack([curve.double() for curve in value.curves.values()])[:, None]
    samples = _samples()
    alike = ((curves - samples).abs() <= TOLERANCE * (1 + samples.abs())).all(-1)
    if not alike.any():
        return value
    row, column = alike.nonzero()[0].tolist()
    leaf, known = list(value.curves)[row], list(KNOWN.values())[column]
    if isinstance(known, partial):
        return step.elementwise(known.func, leaf, **known.keywords)
    return step.elementwise(known, leaf)
