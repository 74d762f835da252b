"""Activations, and softmax over the channels."""

from __future__ import annotations

import math
from typing import Any

from envs.fx_import.reading.arithmetic import scaled
from envs.fx_import.reading.network import Constant, Network, Reader, Value


def activation(op: str) -> Reader:
    """Reads calls of an activation without settings."""

    def read(net: Network, input: Value, inplace: bool = False) -> Value:
        return net.each(op, {}, input)

    return read


def leaky_relu(
    net: Network, input: Value, negative_slope: float = 0.01, inplace: bool = False
) -> Value:
    """``nn.LeakyReLU``."""
    return net.each("leaky_relu", {"slope": float(negative_slope)}, input)


def rrelu(
    net: Network,
    input: Value,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Value:
    """``nn.RReLU``, which at inference has the middle slope."""
    return leaky_relu(net, input, (lower + upper) / 2)


def elu(net: Network, input: Value, alpha: float = 1.0, inplace: bool = False) -> Value:
    """``nn.ELU``."""
    return net.each("elu", {"alpha": float(alpha)}, input)


def selu(net: Network, input: Value, inplace: bool = False) -> Value:
    """``nn.SELU``: an ELU, made larger."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scaled(net, net.each("elu", {"alpha": alpha}, input, f"{net.call.name}_elu"), scale)


def celu(net: Network, input: Value, alpha: float = 1.0, inplace: bool = False) -> Value:
    """``nn.CELU``: an ELU between two changes of scale."""
    inner = scaled(net, input, 1 / alpha)
    return scaled(net, net.each("elu", {"alpha": 1.0}, inner, f"{net.call.name}_elu"), alpha)


def gelu(net: Network, input: Value, approximate: str = "none") -> Value:
    """``nn.GELU``."""
    return net.each("gelu", {"tanh": approximate == "tanh"}, input)


def softplus(net: Network, input: Value, beta: float = 1, threshold: float = 20) -> Value:
    """``nn.Softplus``."""
    if threshold != 20:
        raise net.refuse(f"softplus with a threshold of {threshold}", "torch's own, 20")
    if beta == 1:
        return net.each("softplus", {}, input)
    inner = scaled(net, input, beta)
    return scaled(net, net.each("softplus", {}, inner, f"{net.call.name}_softplus"), 1 / beta)


def clamp(net: Network, input: Value, min: Any = None, max: Any = None) -> Value:
    """``torch.clamp`` between two numbers."""
    low, high = (_bound(net, bound) for bound in (min, max))
    if (low, high) == (None, None):
        return input
    if (low, high) in ((0, None), (0, 6)):
        return net.each("relu" if high is None else "relu6", {}, input)
    return net.each("clip", {"low": low, "high": high}, input)


def clamp_max(net: Network, input: Value, max: Any) -> Value:
    """``torch.clamp_max``."""
    return clamp(net, input, None, max)


def _bound(net: Network, given: Any) -> float | None:
    if isinstance(given, Constant) and given.tensor.numel() == 1:
        given = float(given.tensor)
    if given is not None and not isinstance(given, int | float):
        raise net.refuse("a clamp by a tensor", "a clamp by numbers")
    return None if given is None or math.isinf(given) else float(given)


def hardtanh(
    net: Network, input: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    """``nn.Hardtanh``."""
    return clamp(net, input, min_val, max_val)


def softmax(
    net: Network, input: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Value:
    """Over the channels."""
    if dim is None:
        # torch's rule for those who do not say
        dim = 1 if input.rank in (2, 4) else 0
    channel = dim % input.rank
    if channel == 0:
        raise net.refuse("a softmax over the batch", "a softmax over the channels")
    return net.apply("softmax", {}, input, channel)


def softmax2d(net: Network, input: Value) -> Value:
    """``nn.Softmax2d``: over the channels of maps."""
    return softmax(net, input, -3)


def log_softmax(
    net: Network, input: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Value:
    """Understood at the end of a network alone, where it is left out."""
    result = softmax(net, input, dim)
    net.finals[result.name] = "log"
    return result


def log_sigmoid(net: Network, input: Value) -> Value:
    """Understood at the end of a network alone, as :func:`log_softmax`."""
    result = net.each("sigmoid", {}, input)
    net.finals[result.name] = "log"
    return result


def final(function: str) -> Reader:
    """Reads "log" and "exp", understood at the end of a network alone, where they are left out."""

    def read(net: Network, input: Value) -> Value:
        # a node of its own: what it is taken of may have other readers
        result = net.each("scalar", {"scale": 1.0, "shift": 0.0}, input)
        net.finals[result.name] = function
        return result

    return read


def dropout(
    net: Network, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    """``F.dropout``, which is on at inference too where a network does not turn it off."""
    if training and p > 0:
        net.notes.append(
            f"the dropout at {net.call.place} is on at inference too; it is left out, so the "
            "network that is described gives the same logits every time"
        )
    return input


def same(net: Network, input: Value, *args: Any, **kwargs: Any) -> Value:
    """Dropout modules, copies and their like: nothing at inference."""
    return input
