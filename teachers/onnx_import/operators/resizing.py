"""Resize and Upsample, where torch's interpolation reads the same pixels."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F

from teachers.onnx_import.graph import Array
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant

LINEAR = {3: "linear", 4: "bilinear"}


def upsample(step: Step) -> Activation:
    """Opset 7 to 9: nearest pixels by factors."""
    scales = step.option(1, "scales")
    if scales is None or step.attr("mode", "nearest") != "nearest":
        raise step.refuse(
            "interpolates in a way that torch does not",
            value=step.attr("mode"),
            bound="mode nearest with constant scales",
            remedy="Export again with opset_version=11 or newer.",
        )
    return _nearest(step, step.x(), _factors(step, scales), None, "asymmetric", "floor")


def resize(step: Step) -> Activation:
    """Nearest, linear and cubic interpolation to factors or sizes."""
    x = step.x()
    if step.opset < 11:
        return upsample(step)
    mode = step.attr("mode", "nearest")
    coordinates = step.attr("coordinate_transformation_mode", "half_pixel")
    odd = step.attr("antialias", 0) or step.attr("exclude_outside", 0) or step.attr("axes")
    if odd or step.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refuse(
            "resizes in a way that torch does not",
            value="antialias, exclude_outside, axes or keep_aspect_ratio_policy",
            bound="plain interpolation",
        )
    scales = step.array(2, "scales") if step.has(2) else None
    sizes = _given_sizes(step, x) if step.has(3) else None
    if scales is not None and scales.size:
        factors, target = _factors(step, scales), None
    elif sizes is not None:
        factors, target = None, _sizes(step, x, sizes)
    else:
        raise step.refuse("has neither scales nor sizes", value="neither", bound="one of them")
    if mode == "nearest":
        rounding = step.attr("nearest_mode", "round_prefer_floor")
        return _nearest(step, x, factors, target, coordinates, rounding)
    align = coordinates == "align_corners"
    if not align and coordinates not in ("half_pixel", "pytorch_half_pixel"):
        raise step.refuse(
            "interpolates from other coordinates than torch",
            value=coordinates,
            bound="align_corners, half_pixel or pytorch_half_pixel",
        )
    name = LINEAR.get(x.rank) if mode == "linear" else "bicubic" if mode == "cubic" else None
    cubic = math.isclose(float(step.attr("cubic_coeff_a", -0.75)), -0.75)
    if name is None or (mode == "cubic" and (x.rank != 4 or not cubic)):
        raise step.refuse("interpolates in an unknown way", value=mode, bound="linear or cubic")
    return step.call(F.interpolate, x, target, factors, name, align)


def _factors(step: Step, scales: Array) -> list[float]:
    numbers = [float(scale) for scale in scales.ravel()]
    if len(numbers) != step.x().rank or numbers[:2] != [1, 1] or len(numbers) not in (3, 4):
        raise step.refuse(
            "scales other axes than space", value=numbers, bound="1, 1, then one per spatial axis"
        )
    if not all(0 < number <= 2**10 for number in numbers):
        raise step.refuse("has impossible scales", value=numbers, bound="above 0, at most 1024")
    return numbers[2:]


def _given_sizes(step: Step, x: Activation) -> Array:
    """The sizes at the first batch size; exporters take the batch's from the tensor's shape."""
    value = step.inputs[3]
    if isinstance(value, Constant) and all(
        len(array.shape) == 1 and array.size == x.rank and array[0] == meta.shape[0]
        for array, meta in zip(value.at, x.metas, strict=True)
    ):
        first, second = value.at
        if np.array_equal(first[1:], second[1:]):
            return first
    return step.array(3, "sizes")


def _sizes(step: Step, x: Activation, sizes: Array) -> list[int]:
    numbers = [int(size) for size in sizes.ravel()]
    if len(numbers) != x.rank or x.rank not in (3, 4) or numbers[1] != x.shape[1]:
        raise step.refuse(
            "resizes other axes than space", value=numbers, bound="sizes of the spatial axes"
        )
    if not all(0 < number <= 2**16 for number in numbers):
        raise step.refuse("has impossible sizes", value=numbers, bound="1 to 65536")
    return numbers[2:]


def _nearest(
    step: Step,
    x: Activation,
    factors: list[float] | None,
    target: list[int] | None,
    coordinates: str,
    rounding: str,
) -> Activation:
    """Torch's nearest or nearest-exact, whichever reads the pixels that ONNX reads."""
    lengths = x.shape[2:]
    outputs = target or [math.floor(n * s) for n, s in zip(lengths, factors or (), strict=True)]
    scales = factors or [out / n for n, out in zip(lengths, outputs, strict=True)]
    if max(outputs) > 2**16 or min(outputs) < 1:
        raise step.refuse("resizes to impossible sizes", value=outputs, bound="1 to 65536")
    for name, shift in (("nearest", 0.0), ("nearest-exact", 0.5)):
        if all(
            np.array_equal(
                _read(n, out, scale, coordinates, rounding),
                np.minimum(np.floor((np.arange(out) + shift) / scale), n - 1),
            )
            for n, out, scale in zip(lengths, outputs, scales, strict=True)
        ):
            return step.call(F.interpolate, x, target, factors, name)
    raise step.refuse(
        "reads other pixels than torch's nearest interpolation",
        value=f"{coordinates}, {rounding}, scales {scales}",
        bound="pixels that one of nearest and nearest-exact reads",
        remedy="Export with coordinate_transformation_mode asymmetric and nearest_mode floor.",
    )


def _read(length: int, outputs: int, scale: float, coordinates: str, rounding: str) -> Array:
    """Which pixel each output reads."""
    places = np.arange(outputs, dtype=np.float64)
    if coordinates == "asymmetric":
        at = places / scale
    elif coordinates == "align_corners":
        at = places * ((length - 1) / (outputs - 1)) if outputs > 1 else places * 0
    elif coordinates == "tf_half_pixel_for_nn":
        at = (places + 0.5) / scale
    elif coordinates == "pytorch_half_pixel" and outputs == 1:
        at = places * 0
    else:
        at = (places + 0.5) / scale - 0.5
    rounded = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_ceil": np.floor(at + 0.5),
    }.get(rounding, np.ceil(at - 0.5))
    return np.clip(rounded, 0, length - 1)
