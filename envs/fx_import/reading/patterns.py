"""Layer norm over channels where a network writes it out, told from torch.fx's graph.

The usual lines, with ``mean(…)`` over the channels in any of torch's spellings::

    centred = x - x.mean(1, keepdim=True)
    variance = (x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True)  # or x.var(…)
    y = centred / torch.sqrt(variance + eps)  # or centred * torch.rsqrt(…)
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

_DIVIDE = (operator.truediv, torch.div, torch.true_divide, "div")
_MULTIPLY = (operator.mul, torch.mul, "mul")
_SUBTRACT = (operator.sub, torch.sub, "sub")
_ADD = (operator.add, torch.add, "add")
_MEAN = (torch.mean, "mean")
_VARIANCE = (torch.var, "var")
_ROOT = (torch.sqrt, "sqrt")
_INVERSE_ROOT = (torch.rsqrt, "rsqrt")
_POWER = (operator.pow, torch.pow, "pow")
_SQUARE = (torch.square, "square")


def written_layer_norm(node: fx.Node) -> tuple[fx.Node, int, float] | None:
    """What a quotient normalises: the tensor, the axis and the epsilon; None for any other call."""
    if _is(node, _DIVIDE) and len(node.args) == 2:
        centred, root = node.args
        inside = _inside(root, _ROOT)
    elif _is(node, _MULTIPLY) and len(node.args) == 2:
        centred, root = sorted(node.args, key=lambda each: _is(each, _INVERSE_ROOT))
        inside = _inside(root, _INVERSE_ROOT)
    else:
        return None
    source, axis = _centred(centred)
    if source is None or axis is None or not _is(inside, _ADD):
        return None
    spread, eps = inside.args[:2]
    if not isinstance(spread, fx.Node):
        spread, eps = eps, spread
    if not isinstance(eps, float) or _variance(spread) != (source, axis):
        return None
    return source, axis, eps


def _is(node: Any, targets: tuple[str | Callable[..., Any], ...]) -> bool:
    called = isinstance(node, fx.Node) and node.op in ("call_function", "call_method")
    return called and node.target in targets


def _inside(node: Any, targets: tuple[str | Callable[..., Any], ...]) -> Any:
    return node.args[0] if _is(node, targets) else None


def _over_one_axis(node: fx.Node) -> int | None:
    """The axis of a mean or variance that keeps it as an axis of one number."""
    options = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | dict(node.kwargs)
    dim = options.get("dim")
    if isinstance(dim, tuple | list) and len(dim) == 1:
        dim = dim[0]
    kept = options.get("keepdim") is True
    return dim if isinstance(dim, int) and kept else None


def _centred(node: Any) -> tuple[fx.Node | None, int | None]:
    """``x - mean(x)`` → x and the axis."""
    if not _is(node, _SUBTRACT) or len(node.args) != 2 or node.kwargs:
        return None, None
    source, mean = node.args
    if not _is(mean, _MEAN) or mean.args[0] is not source:
        return None, None
    return source, _over_one_axis(mean)


def _variance(node: Any) -> tuple[fx.Node | None, int | None]:
    """The mean of ``(x - mean(x))²`` → x and the axis."""
    if _is(node, _VARIANCE):
        options = dict(node.kwargs)
        biased = options.pop("unbiased", None) is False or options.pop("correction", None) == 0
        return (node.args[0], _over_one_axis(node)) if biased else (None, None)
    if not _is(node, _MEAN):
        return None, None
    inner = node.args[0]
    itself = _is(inner, _MULTIPLY) and _centred(inner.args[0]) == _centred(inner.args[1])
    power = _is(inner, _POWER) and inner.args[1] == 2
    if not (itself or power or _is(inner, _SQUARE)):
        return None, None
    source, axis = _centred(inner.args[0])
    return (source, axis) if axis == _over_one_axis(node) else (None, None)
