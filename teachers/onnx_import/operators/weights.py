"""Operators with weights: convolution, and the two spellings of a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from teachers.onnx_import.operators.shapes import BATCH_ELSEWHERE
from teachers.onnx_import.operators.windows import padded, window
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def conv(step: Step) -> Activation:
    """A 1-D or 2-D convolution; a padding that is not even becomes a pad before it."""
    x, weight = step.x(), step.weights(1, "weight")
    axes, groups = x.rank - 2, int(step.attr("group", 1))
    if axes not in CONVOLUTIONS or weight.ndim != x.rank:
        raise step.refuse(
            "convolves over axes that cannot be used",
            value=f"a weight of {list(weight.shape)} on a tensor of {x.rank} axes",
            bound="1-D or 2-D convolutions of batch × channels × space",
        )
    out, per_group, *kernel = weight.shape
    if groups < 1 or out < 1 or out % groups or x.shape[1] != per_group * groups:
        raise step.refuse(
            "has a weight that does not fit its input",
            value=f"{list(weight.shape)} in {groups} groups on {x.shape[1]} channels",
            bound="a weight of outputs × inputs / groups × kernel",
            remedy="Check `input` in the teacher's JSON, or export the teacher again.",
        )
    view = window(step, x, tuple(step.attr("kernel_shape") or kernel))
    if view.kernel != tuple(kernel):
        raise step.refuse(
            "has another kernel than its weight", value=view.kernel, bound=str(kernel)
        )
    module = CONVOLUTIONS[axes](
        x.shape[1],
        out,
        view.kernel,  # type: ignore[arg-type]
        view.stride,  # type: ignore[arg-type]
        view.padding if view.even else 0,  # type: ignore[arg-type]
        view.dilation,  # type: ignore[arg-type]
        groups,
        bias=step.has(2),
        device="meta",
    )
    _set(module, weight, step.weights(2, "bias", (out,)) if step.has(2) else None)
    return step.layer(module, x if view.even else padded(step, x, view.pads, 0.0))


def gemm(step: Step) -> Activation:
    """alpha · A · B + beta · C with constant B and C is a linear layer."""
    x, weight = step.x(), step.weights(1, "weight")
    if step.attr("transA", 0) or x.rank != 2 or weight.ndim != 2:
        raise step.refuse(
            "is no linear layer",
            value=f"transA={step.attr('transA', 0)}, {x.rank} and {weight.ndim} axes",
            bound="batch × features, times a constant matrix",
        )
    if not step.attr("transB", 0):
        weight = weight.T
    weight = weight * float(step.attr("alpha", 1.0))
    bias = None
    if step.has(2):
        bias = step.weights(2, "bias") * float(step.attr("beta", 1.0))
    return _linear(step, x, weight, bias)


def matmul(step: Step) -> Activation:
    """x · W with a constant matrix is linear on the last axis; an Add behind it is its bias."""
    if step.has(0) and isinstance(step.inputs[0], Constant):
        raise step.refuse(
            "multiplies by a constant from the left",
            value=step.name_of(0),
            bound="the image's tensor first, the weight second",
        )
    x, weight = step.x(), step.weights(1, "weight")
    if weight.ndim != 2 or x.rank < 2:
        raise step.refuse(
            "is no linear layer", value=f"a weight of {list(weight.shape)}", bound="a matrix"
        )
    return _linear(step, x, weight.T, None)


def _linear(step: Step, x: Activation, weight: Tensor, bias: Tensor | None) -> Activation:
    out, inputs = weight.shape
    if x.shape[-1] != inputs:
        raise step.refuse(
            "has a weight that does not fit its input",
            value=f"{inputs} inputs in {step.name_of(1)!r}, {x.shape[-1]} features",
            bound="as many inputs as features",
            remedy="Check `input` in the teacher's JSON, or export the teacher again.",
        )
    if bias is not None:
        if bias.numel() not in (1, out) or (bias.ndim > 1 and bias.shape[-1] not in (1, out)):
            raise step.refuse(
                "has a bias of a wrong shape", value=list(bias.shape), bound=f"[{out}]"
            )
        bias = bias.reshape(-1).expand(out)
    module = nn.Linear(inputs, out, bias=bias is not None, device="meta")
    _set(module, weight, bias)
    if x.origin is None or x.rank != 2 or x.origin.shape[-1] != inputs:
        return step.layer(module, x)
    # one row per pixel: the layer works on the pixels themselves, and the reshape comes after it
    pixels = step.layer(module, x.origin)
    rows = step.call(torch.reshape, pixels, (-1, out), part_of=BATCH_ELSEWHERE)
    rows.origin = pixels
    return rows


def _set(module: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    module.weight = nn.Parameter(weight.contiguous().clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.contiguous().clone())


def scaled(x: Activation, scale: Tensor | None, shift: Tensor | None) -> Activation:
    """Fold a scale and a shift per output channel into the layer that alone wrote ``x``.

    ``scale`` and ``shift`` have one number, or one per channel; the layer is changed in place.
    """
    module = x.module
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    out = module.weight.shape[0]
    with torch.no_grad():
        bias = torch.zeros(out) if module.bias is None else module.bias.detach()
        if scale is not None:
            scale = scale.expand(out)
            module.weight = nn.Parameter(
                module.weight * scale.reshape(-1, *[1] * (module.weight.ndim - 1))
            )
            bias = bias * scale
        if shift is not None:
            bias = bias + shift.expand(out)
        if module.bias is not None or shift is not None:
            module.bias = nn.Parameter(bias.clone())
    return x


def foldable(x: Activation) -> bool:
    """Whether ``x`` was written by a layer with weights and nobody else reads it."""
    return x.sole and isinstance(x.module, nn.Conv1d | nn.Conv2d | nn.Linear)
