"""Random classifiers for the property tests: chains and residual networks of many shapes.

Hypothesis draws every choice, so a failing network shrinks to a small one. Every piece is run as
it is drawn, which gives the shape that the next piece has to fit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from envs.netspec import Shape

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Classifier:
    """A teacher with random weights, in eval mode."""

    module: nn.Module
    input_shape: Shape
    classes: int

    def images(self, rows: int = 3) -> Tensor:
        return torch.randn(rows, *self.input_shape, generator=torch.Generator().manual_seed(7))


class Call(nn.Module):
    """A function where a module is expected; torch.fx traces through it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """Two paths of one shape that meet in one of the spellings of an add."""

    def __init__(self, path: nn.Module, shortcut: nn.Module, join: str) -> None:
        super().__init__()
        self.path, self.shortcut, self.join = path, shortcut, join

    def forward(self, x: Tensor) -> Tensor:
        return JOINS[self.join](self.path(x), self.shortcut(x))


def _in_place(x: Tensor, y: Tensor) -> Tensor:
    x = x * 1 if not isinstance(x, torch.fx.Proxy) else x
    x += y
    return x


JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": operator.add,
    "x += y": _in_place,
    "torch.add": lambda x, y: torch.add(x, y),
    "torch.add, keywords": lambda x, y: torch.add(input=x, other=y),
    "x.add": lambda x, y: x.add(y),
    "relu(y + x)": lambda x, y: F.relu(y + x),
}

RELUS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: Call(F.relu),
    lambda: Call(torch.relu),
    lambda: Call(lambda x: x.relu()),
    lambda: Call(lambda x: F.relu(input=x)),
]


def shape_after(module: nn.Module, shape: Shape) -> Shape:
    with torch.no_grad():
        return tuple(module.eval()(torch.zeros(2, *shape)).shape[1:])


def _maybe(draw: Draw, module: nn.Module) -> list[nn.Module]:
    return [module] if draw(st.booleans()) else []


def _tail(draw: Draw, norm: nn.Module) -> list[nn.Module]:
    """Batch norm and activation, in their usual order or the other way round."""
    tail = _maybe(draw, norm) + _maybe(draw, draw(st.sampled_from(RELUS))())
    return tail[::-1] if draw(st.integers(0, 4)) == 4 else tail


def _conv(draw: Draw, shape: Shape, outputs: int) -> list[nn.Module]:
    """A convolution of any geometry that leaves at least one pixel."""
    kernel, stride, padding, dilation = [], [], [], []
    square = draw(st.booleans())
    for axis, extent in enumerate(shape[1:]):
        fits = [
            (k, p, d)
            for k in (3, 1, 2, 5, 7)
            for p in range(4)
            for d in (1, 2)
            if d * (k - 1) < extent + 2 * p
        ]
        if axis and square and (kernel[0], padding[0], dilation[0]) in fits:
            choice = (kernel[0], padding[0], dilation[0])
        else:
            choice = draw(st.sampled_from(fits))
        kernel.append(choice[0])
        padding.append(choice[1])
        dilation.append(choice[2])
        stride.append(draw(st.integers(1, 3)))
    conv = nn.Conv2d(
        shape[0],
        outputs,
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        (dilation[0], dilation[1]),
        bias=draw(st.booleans()),
    )
    return [conv, *_tail(draw, nn.BatchNorm2d(outputs, affine=draw(st.booleans())))]


def _pool(draw: Draw, shape: Shape) -> list[nn.Module]:
    kernel = draw(st.integers(1, min(3, *shape[1:])))
    padding, ceil = draw(st.integers(0, kernel // 2)), draw(st.booleans())
    stride = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["max", "average", "max call", "average call"]))
    if kind == "max":
        return [nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)]
    if kind == "average":
        include = draw(st.booleans())
        return [nn.AvgPool2d(kernel, stride, padding, ceil, count_include_pad=include)]
    if kind == "max call":
        return [Call(lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil))]
    return [Call(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil))]


def _residual(draw: Draw, shape: Shape, depth: int) -> list[nn.Module]:
    """A block whose path keeps the size or strides, and a shortcut of the same geometry."""
    stride = draw(st.integers(1, 2))
    outputs = draw(st.integers(1, 9)) if draw(st.booleans()) else shape[0]
    path: list[nn.Module] = []
    width, inner = shape[0], draw(st.integers(1, 3))
    for number in range(inner):
        after = outputs if number == inner - 1 else draw(st.integers(1, 9))
        kernel, dilation = draw(st.sampled_from([3, 1, 5])), draw(st.integers(1, 2))
        path.append(
            nn.Conv2d(
                width,
                after,
                kernel,
                stride if number == 0 else 1,
                padding="same" if stride == 1 and draw(st.booleans()) else dilation * (kernel // 2),
                dilation=dilation,
                bias=draw(st.booleans()),
            )
        )
        path += _tail(draw, nn.BatchNorm2d(after))
        width = after
        if depth and draw(st.integers(0, 3)) == 0:
            path += _residual(draw, shape_after(nn.Sequential(*path), shape), 0)
            width = shape_after(nn.Sequential(*path), shape)[0]
    after_path = shape_after(nn.Sequential(*path), shape)
    if after_path == shape and draw(st.integers(0, 3)):
        shortcut: list[nn.Module] = _maybe(draw, nn.Identity())
    else:
        factor = shape_ratio(shape, after_path)
        if factor > 1 and draw(st.booleans()):
            shortcut = [nn.AvgPool2d(factor, ceil_mode=True), nn.Conv2d(shape[0], after_path[0], 1)]
        else:
            shortcut = [nn.Conv2d(shape[0], after_path[0], 1, factor, bias=draw(st.booleans()))]
        shortcut += _maybe(draw, nn.BatchNorm2d(after_path[0]))
    join = draw(st.sampled_from(list(JOINS)))
    block = Residual(nn.Sequential(*path), nn.Sequential(*shortcut), join)
    return [block, *_maybe(draw, nn.ReLU())]


def shape_ratio(before: Shape, after: Shape) -> int:
    """The stride that takes one size to the other, where windows start at every stride-th pixel."""
    return next(s for s in range(1, 99) if all(-(-b // s) == a for b, a in zip(before[1:], after[1:], strict=True)))


def _body(draw: Draw, shape: Shape) -> list[nn.Module]:
    body: list[nn.Module] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["conv", "residual", "residual", "pool", "nothing"]))
        if kind == "conv":
            body += _conv(draw, shape, draw(st.integers(1, 9)))
        elif kind == "residual":
            body += _residual(draw, shape, 1)
        elif kind == "pool":
            body += _pool(draw, shape)
        else:
            body.append(draw(st.sampled_from([nn.Dropout2d(), nn.Identity(), nn.Dropout(0.3)])))
        shape = shape_after(nn.Sequential(*body[-9:]), shape) if False else shape
        shape = _shape_of_body(body, shape)
    return body


def _shape_of_body(body: list[nn.Module], shape: Shape) -> Shape:
    raise NotImplementedError
