"""Convolutions and linear layers, as modules and as functions of constant weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from envs.fx_import.reading.network import Constant, Network, Value


def numbers(value: Any, dims: int) -> list[int]:
    """One number per spatial axis, however torch was told."""
    given = [value] if isinstance(value, int) else [int(number) for number in value]
    return given * dims if len(given) == 1 else given


def conv_module(net: Network, input: Value, module: Any) -> Value:
    """``nn.Conv1d`` and ``nn.Conv2d``."""
    return _convolve(
        net, input, module.weight, module.bias, module.stride, module.padding, module.dilation,
        module.groups, module.padding_mode, net.call.path,
    )  # fmt: skip


def conv(
    dims: int,
    net: Network,
    input: Value,
    weight: Constant,
    bias: Constant | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """``F.conv1d`` and ``F.conv2d``; what standardises its weights ends here."""
    net.rank(input, dims)
    kernel, offset = constant(net, weight), optional(net, bias)
    name = module_path(net, weight, bias)
    return _convolve(net, input, kernel, offset, stride, padding, dilation, groups, "zeros", name)


def _convolve(
    net: Network,
    input: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    name: str,
) -> Value:
    dims = weight.dim() - 2
    net.rank(input, dims)
    source = input
    kernel, dilations = list(weight.shape[2:]), numbers(dilation, dims)
    if padding == "valid":
        pairs = [[0, 0]] * dims
    elif padding == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        pairs = [[total // 2, total - total // 2] for total in reach]
    else:
        pairs = [[number, number] for number in numbers(padding, dims)]
    if any(low != high for low, high in pairs) or (mode != "zeros" and any(map(any, pairs))):
        kind = "constant" if mode == "zeros" else mode
        attrs = {"padding": pairs, "mode": kind, "value": 0.0}
        padded = net.emit("pad", attrs, net.canonical(input), name=f"{net.call.name}_pad")
        source = net.value(padded)
        pairs = [[0, 0]] * dims
    attrs = {
        "in": weight.shape[1] * groups,
        "out": weight.shape[0],
        "kernel": kernel,
        "stride": numbers(stride, dims),
        "padding": [low for low, _ in pairs],
        "dilation": dilations,
        "groups": groups,
        "bias": bias is not None,
    }
    return net.layer(f"conv{dims}d", attrs, source, tensors(weight=weight, bias=bias), name=name)


def linear_module(net: Network, input: Value, module: nn.Linear) -> Value:
    """``nn.Linear``, over the last axis."""
    return _linear(net, input, module.weight, module.bias, net.call.path)


def linear(net: Network, input: Value, weight: Constant, bias: Constant | None = None) -> Value:
    """``F.linear``."""
    name = module_path(net, weight, bias)
    return _linear(net, input, constant(net, weight), optional(net, bias), name)


def matmul(net: Network, input: Any, other: Any) -> Value:
    """A product with a constant matrix (in, out)."""
    weight = constant(net, other)
    if not isinstance(input, Value) or weight.dim() != 2:
        raise net.refuse("a product of other tensors", "a tensor times a constant matrix")
    return _linear(net, input, weight.t().contiguous(), None, "")


def addmm(net: Network, input: Constant, mat1: Value, mat2: Constant) -> Value:
    """A product with a constant matrix (in, out), and a constant vector."""
    weight = constant(net, mat2).t().contiguous()
    return _linear(net, mat1, weight, constant(net, input), "")


def _linear(net: Network, input: Value, weight: Tensor, bias: Tensor | None, name: str) -> Value:
    attrs = {
        "in": weight.shape[1],
        "out": weight.shape[0],
        "bias": bias is not None,
    }
    found = tensors(weight=weight, bias=bias)
    return net.layer("linear", attrs, input, found, channel=input.rank - 1, name=name)


def tensors(**given: Tensor | None) -> dict[str, Tensor]:
    """Those that are there."""
    return {name: tensor for name, tensor in given.items() if tensor is not None}


def constant(net: Network, given: object) -> Tensor:
    """The numbers of a constant."""
    if not isinstance(given, Constant):
        raise net.refuse("weights that depend on the image", "weights of the network")
    return given.tensor


def optional(net: Network, given: object) -> Tensor | None:
    """The numbers of a constant that may be missing."""
    return None if given is None else constant(net, given)


def module_path(net: Network, *given: Constant | None) -> str:
    """Path of the module that owns exactly these weights and is called for them; or empty."""
    paths = {path.origin.rpartition(".") for path in given if path is not None}
    owners = {owner for owner, _, _ in paths}
    names = {name for _, _, name in paths}
    holds_others = any(path.startswith(f"{owner}.") for owner in owners for path in net.reserved)
    if (
        len(owners) == 1
        and not holds_others
        and names <= {"weight", "bias", "running_mean", "running_var"}
    ):
        return owners.pop()
    return ""
