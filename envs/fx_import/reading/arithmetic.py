"""Sums and products: of two tensors, with numbers, and with constants per channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from envs.fx_import.reading.axes import repeated, sizes, without_copies
from envs.fx_import.reading.fusing import gated, hard_gate
from envs.fx_import.reading.network import Constant, Network, Value


def add(net: Network, input: Any, other: Any, alpha: float = 1) -> Value:
    """input + alpha · other."""
    a, b = _operand(net, input), times_number(net, _operand(net, other), alpha)
    if isinstance(a, Value) and isinstance(b, Value):
        return meet(net, "add", a, b)
    return shifted(net, a, b) if isinstance(a, Value) else shifted(net, b, a)


def subtract(net: Network, input: Any, other: Any, alpha: float = 1) -> Value:
    """input - alpha · other."""
    return add(net, input, other, -alpha)


def subtract_from(net: Network, input: Any, other: Any, alpha: float = 1) -> Value:
    """other - alpha · input."""
    return add(net, other, input, -alpha)


def multiply(net: Network, input: Any, other: Any) -> Value:
    """input · other."""
    a, b = _operand(net, input), _operand(net, other)
    if isinstance(a, Value) and isinstance(b, Value):
        return meet(net, "mul", a, b)
    return scaled(net, a, b) if isinstance(a, Value) else scaled(net, b, a)


def divide(net: Network, input: Any, other: Any, rounding_mode: str | None = None) -> Value:
    """input / other, where other is a number or a constant."""
    divisor = _operand(net, other)
    if isinstance(divisor, Value) or rounding_mode is not None:
        raise net.refuse("a division by a tensor, or a rounded one", "a division by constants")
    return scaled(net, input, 1 / divisor)


def negative(net: Network, input: Value) -> Value:
    """-input."""
    return scaled(net, input, -1.0)


def power(net: Network, input: Value, exponent: Any) -> Value:
    """The square."""
    if exponent not in (1, 2):
        raise net.refuse(f"a power of {exponent}", "the square")
    return input if exponent == 1 else square(net, input)


def square(net: Network, input: Value) -> Value:
    """input · input."""
    return meet(net, "mul", input, input)


def _operand(net: Network, given: Any) -> Any:
    """A value, a tensor, or a number where all entries of a small constant are one."""
    if not isinstance(given, Constant):
        return given
    tensor = given.tensor.detach()
    rank = len(net.call.shape)
    if tensor.dim() > rank:
        raise net.refuse(f"a constant with {tensor.dim()} axes", f"at most {rank}")
    return float(tensor) if tensor.numel() == 1 else tensor


def times_number(net: Network, given: Any, number: float) -> Any:
    """A value, a tensor or a number, times a number."""
    if number == 1:
        return given
    return scaled(net, given, number) if isinstance(given, Value) else given * number


def scaled(net: Network, value: Value, by: Any) -> Value:
    """A value times a number or a constant per channel."""
    if isinstance(by, Tensor):
        return _per_channel(net, value, by, "weight")
    fused = hard_gate(net.nodes, value.name, float(by))
    if fused is not None:
        op, source = fused
        return net.each(op, {}, replace(value, name=source))
    return net.each("scalar", {"scale": float(by), "shift": 0.0}, value)


def shifted(net: Network, value: Value, by: Any) -> Value:
    """A value plus a number or a constant per channel."""
    if isinstance(by, Tensor):
        return _per_channel(net, value, by, "bias")
    return net.each("scalar", {"scale": 1.0, "shift": float(by)}, value)


def _per_channel(net: Network, value: Value, constant: Tensor, kind: str) -> Value:
    """A constant that is another number for every channel and the same for every pixel."""
    shape = (*(1 for _ in range(value.rank - constant.dim())), *constant.shape)
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    if len(wide) != 1 or sizes(value.axes)[wide[0]] != shape[wide[0]] or wide == [0]:
        raise net.refuse(
            f"a constant of shape {tuple(constant.shape)} with a tensor of axes "
            f"{net.spelled(value)}",
            "one number, or one per channel",
        )
    attrs = {
        "features": shape[wide[0]],
        "weight": kind == "weight",
        "bias": kind == "bias",
    }
    tensor = constant.to(torch.float32).reshape(-1).clone()
    return net.layer("affine", attrs, value, {kind: tensor}, channel=wide[0])


def meet(net: Network, op: str, first: Value, second: Value) -> Value:
    """Two tensors in an add or a mul; axes of one number stretch as in torch."""
    rank = max(first.rank, second.rank)
    a, b = (
        replace(value, axes=without_copies(((),) * (rank - value.rank) + value.axes))
        for value in (first, second)
    )
    if op == "mul" and (fused := gated(net.nodes, a.name, b.name)) and a.axes == b.axes:
        return net.each(fused[0], {}, replace(a, name=fused[1]))
    if a.axes == b.axes and net.shapes[a.name] == net.shapes[b.name]:
        return _stretched(net, replace(a, name=net.emit(op, {}, a.name, b.name)))
    channel = net.channel(a, b)
    if channel is None:
        raise net.refuse(
            f"{op} of tensors of axes {net.spelled(first)} and {net.spelled(second)}",
            "two tensors whose channels and pixels fit",
        )
    names = [net.canonical(value, channel) for value in (a, b)]
    return _stretched(net, net.value(net.emit(op, {}, *names), channel))


def larger(net: Network, input: Any, other: Any) -> Value:
    """max(a, b) = relu(a - b) + b, number by number."""
    first, second = input, other
    if not isinstance(first, Value) or not isinstance(second, Value):
        raise net.refuse("a maximum with a constant", "a maximum of two tensors, or a clamp")
    over = meet(net, "add", first, scaled(net, second, -1.0))
    return meet(net, "add", net.each("relu", {}, over), second)


def _stretched(net: Network, value: Value) -> Value:
    """With the copies that both sides had."""
    return replace(value, axes=repeated(value.axes, net.call.shape)) if net.call.shape else value
