"""Constants that meet the image in arithmetic: one number, or one per channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from teachers.onnx_import.graph import Array
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation


def operand(step: Step, index: int, x: Activation) -> float | Tensor:
    """The constant at ``index``, which is combined with ``x``.

    Returns:
        One number, or a tensor of the rank of ``x`` less the batch with one axis longer than 1,
        such as C×1×1. What is equal along an axis counts once, so a mean image of equal pixels
        is one number per channel.
    """
    array = step.array(index, "operand")
    shape = (1,) * (x.rank - array.ndim) + array.shape
    fits = all(side in (1, own) for side, own in zip(shape, x.shape, strict=False))
    if array.ndim > x.rank or not fits:
        raise step.refuse(
            "combines the image with a constant of a shape that does not fit",
            value=f"{list(array.shape)} with {list(x.shape)}",
            bound="a number, or one per channel",
        )
    array = _once(array.reshape(shape).astype(np.float32))
    step_name = step.name_of(index)
    if not np.isfinite(array).all():
        raise step.refuse(
            f"uses {step_name!r}, which is not finite",
            value="NaN or infinity",
            bound="finite numbers",
        )
    if array.size == 1:
        return float(array.reshape(()))
    longer = [axis for axis, side in enumerate(array.shape) if side != 1]
    if len(longer) > 1 or longer[0] == 0:
        raise step.refuse(
            "combines the image with a constant that differs from pixel to pixel",
            value=f"{list(shape)} in {step_name!r}",
            bound="a number, or one per channel",
        )
    return torch.from_numpy(np.ascontiguousarray(array[0]))


def _once(array: Array) -> Array:
    """One slice of every axis along which the array is constant."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def per_channel(value: float | Tensor, x: Activation) -> Tensor | None:
    """One number per output channel of the layer that wrote ``x``, None where they lie otherwise.

    Channels of convolutions stand on axis 1, those of linear layers on the last.
    """
    if isinstance(value, float):
        return torch.tensor([value])
    axis = 1 if x.op == "Conv" else x.rank - 1
    if value.shape[axis - 1] != value.numel():
        return None
    return value.reshape(-1)
