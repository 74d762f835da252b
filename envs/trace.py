"""From a torch module to a :class:`NetSpec`, by torch.fx.

An operator that the table does not know ends in one error that names the node and the remedy,
before any training.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from edge import strict
from edge.errors import BadInput
from envs.check import usable
from envs.layers import anatomy
from envs.netspec import INPUT, NetSpec, Node, Shape
from envs.ops import OPS

#: dropout and its like do nothing at inference, and a student learns without them
IDENTITY = "identity"

#: what a reader of a call gives back: operator and attributes
Read = tuple[str, dict[str, Any]]


def trace(module: nn.Module, input_shape: Shape) -> NetSpec:
    """Describe a classifier.

    Args:
        module: traceable by torch.fx; maps N×C×H×W to logits N×K.
        input_shape: (C, H, W) of the images.

    Raises:
        BadInput: an operator outside the table, a module used twice with its weights, or control
            flow that depends on the data.
    """
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise BadInput(
            "the teacher cannot be traced",
            value=strict.shorten(f"{type(error).__name__}: {error}", 200),
            bound="a module whose forward torch.fx can trace (no branches on the data)",
            remedy="Take data-dependent control flow out of the forward method.",
        ) from None
    return _Reader(module, input_shape).read(graph)


class _Reader:
    """Turns the nodes of an fx graph into ours, one after the other."""

    def __init__(self, module: nn.Module, input_shape: Shape) -> None:
        self.modules = dict(module.named_modules())
        self.input_shape = input_shape
        self.names: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {INPUT: tuple(input_shape)}
        self.nodes: list[Node] = []

    def read(self, graph: fx.Graph) -> NetSpec:
        for number, node in enumerate(graph.nodes):
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "output":
                return self._finish(node)
            elif node.op == "get_attr":
                raise _unknown(f"node {number} ({node.name})", f"the tensor {node.target}")
            else:
                self._operator(node, number)
        raise AssertionError("an fx graph always ends in an output")

    def _placeholder(self, node: fx.Node) -> None:
        if self.names:
            raise _unsupported(node, "a second input", "one image as the only input")
        self.names[node.name] = INPUT

    def _operator(self, node: fx.Node, number: int) -> None:
        where = f"node {number} ({node.name})"
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            reader = MODULES.get(type(module))
            if reader is None:
                raise _unknown(where, type(module).__name__)
            inputs = [_argument(node, 0, "input")]
            op, attrs = reader(module, where)
        else:
            reader_of_call = CALLS.get(node.target)
            if reader_of_call is None:
                name = getattr(node.target, "__name__", str(node.target))
                raise _unknown(where, name)
            inputs, op, attrs = reader_of_call(node, where)
        if not all(isinstance(given, fx.Node) for given in inputs):
            raise _unsupported(node, f"{op} with a constant", "tensors of the network alone")
        names = [self.names[given.name] for given in inputs]
        self._append(node, op, attrs, names, where)
        if self._in_place(node):
            # whoever reads the overwritten tensor from here on reads the result
            for other, name in self.names.items():
                if name == names[0]:
                    self.names[other] = self.names[node.name]

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        return node.target in IN_PLACE or bool(_argument(node, 1, "inplace") is True)

    def _append(
        self, node: fx.Node, op: str, attrs: dict[str, Any], inputs: list[str], where: str
    ) -> None:
        if op == IDENTITY:
            self.names[node.name] = inputs[0]
            return
        entry = OPS[op]
        owns = bool(entry.parameters(attrs) or entry.buffers(attrs))
        name = str(node.target) if owns else node.name
        if owns and not usable(name):
            raise _unsupported(node, f"a layer called {name!r}", "a name that torch does not use")
        if name in self.shapes:
            raise _unsupported(node, f"{name!r} used twice", "every weight used once")
        try:
            shape = entry.shape(attrs, [self.shapes[given] for given in inputs])
        except ValueError as error:
            raise BadInput(
                f"the teacher does not run on its input at {where}",
                value=error,
                bound=f"layers that fit an input of {self.input_shape}",
                remedy="Check `input` in the teacher's JSON.",
            ) from None
        self.names[node.name] = name
        self.shapes[name] = shape
        self.nodes.append(Node(name, op, tuple(inputs), attrs, shape))

    def _finish(self, node: fx.Node) -> NetSpec:
        result = node.args[0]
        if not isinstance(result, fx.Node):
            raise _unsupported(node, f"a result of type {type(result).__name__}", "the logits")
        last = self.names[result.name]
        if last == INPUT or len(self.shapes[last]) != 1:
            raise _unsupported(node, f"a result of shape {self.shapes[last]}", "logits N×K")
        spec = NetSpec(tuple(self.input_shape), _needed(self.nodes, last))
        if not anatomy(spec).layers:
            raise _unsupported(node, "no layer with weights", "convolutions or linear layers")
        return spec


def _needed(nodes: list[Node], last: str) -> tuple[Node, ...]:
    """Drop what the logits do not depend on, so that the last node writes them."""
    wanted = {last}
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(number) for number in value]


def _conv2d(module: nn.Conv2d, where: str) -> Read:
    kernel, dilation = _pair(module.kernel_size), _pair(module.dilation)
    if module.padding == "valid":
        padding = [0, 0]
    elif module.padding == "same":
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
    else:
        assert not isinstance(module.padding, str)
        padding = _pair(module.padding)
    even_same = module.padding == "same" and any(
        d * (k - 1) % 2 for k, d in zip(kernel, dilation, strict=True)
    )
    if module.groups != 1 or module.padding_mode != "zeros" or even_same:
        raise _unknown(
            where,
            f"Conv2d(groups={module.groups}, padding={module.padding!r}, "
            f"padding_mode={module.padding_mode!r})",
        )
    return "conv2d", {
        "in": module.in_channels,
        "out": module.out_channels,
        "kernel": kernel,
        "stride": _pair(module.stride),
        "padding": padding,
        "dilation": dilation,
        "groups": 1,
        "bias": module.bias is not None,
    }


def _linear(module: nn.Linear, where: str) -> Read:
    return "linear", {
        "in": module.in_features,
        "out": module.out_features,
        "bias": module.bias is not None,
    }


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, where: str) -> Read:
    if not module.track_running_stats or module.momentum is None:
        raise _unknown(where, f"{type(module).__name__} without running statistics or momentum")
    return "batch_norm", {
        "features": module.num_features,
        "eps": module.eps,
        "momentum": module.momentum,
        "affine": module.affine,
        "dims": 2 if isinstance(module, nn.BatchNorm2d) else 0,
    }


def _max_pool(module: nn.MaxPool2d, where: str) -> Read:
    if _pair(module.dilation) != [1, 1] or module.return_indices:
        raise _unknown(where, "MaxPool2d with dilation or indices")
    return "max_pool2d", _window(
        module.kernel_size, module.stride, module.padding, module.ceil_mode
    )


def _avg_pool(module: nn.AvgPool2d, where: str) -> Read:
    if module.divisor_override is not None:
        raise _unknown(where, "AvgPool2d with divisor_override")
    window = _window(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return "avg_pool2d", window | {"count_include_pad": module.count_include_pad}


def _window(kernel: Any, stride: Any, padding: Any, ceil: bool) -> dict[str, Any]:
    stride = kernel if stride is None else stride
    return {
        "kernel": _pair(kernel),
        "stride": _pair(stride),
        "padding": _pair(padding),
        "ceil": bool(ceil),
    }


def _adaptive(size: Any, where: str) -> Read:
    pair = list(size) if isinstance(size, tuple | list) else [size, size]
    if None in pair:
        raise _unknown(where, "adaptive pooling to a size of None")
    return "adaptive_avg_pool2d", {"size": pair}


MODULES: Mapping[type[nn.Module], Callable[..., Read]] = {
    nn.Conv2d: _conv2d,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda module, where: ("relu", {}),
    nn.Dropout: lambda module, where: (IDENTITY, {}),
    nn.Dropout2d: lambda module, where: (IDENTITY, {}),
    nn.Identity: lambda module, where: (IDENTITY, {}),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: lambda module, where: _adaptive(module.output_size, where),
    nn.Flatten: lambda module, where: _flatten(module.start_dim, module.end_dim, where),
}


def _flatten(start: int, end: int, where: str) -> Read:
    if start != 1 or end not in (-1, 3):
        raise _unknown(where, f"flatten from dimension {start} to {end}")
    return "flatten", {}


Call = Callable[[fx.Node, str], tuple[list[Any], str, dict[str, Any]]]


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _call_add(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    if node.kwargs.get("alpha", 1) != 1:
        raise _unknown(where, "add with alpha")
    return [_argument(node, 0, "input"), _argument(node, 1, "other")], "add", {}


def _call_relu(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    return [_argument(node, 0, "input")], "relu", {}


def _call_flatten(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
    return [_argument(node, 0, "input")], *_flatten(start, end, where)


def _call_max_pool(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    if _argument(node, 4, "dilation", 1) not in (1, (1, 1)):
        raise _unknown(where, "max_pool2d with dilation")
    window = _window(
        _argument(node, 1, "kernel_size"),
        _argument(node, 2, "stride"),
        _argument(node, 3, "padding", 0),
        _argument(node, 5, "ceil_mode", False),
    )
    return [_argument(node, 0, "input")], "max_pool2d", window


def _call_avg_pool(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    if _argument(node, 6, "divisor_override") is not None:
        raise _unknown(where, "avg_pool2d with divisor_override")
    window = _window(
        _argument(node, 1, "kernel_size"),
        _argument(node, 2, "stride"),
        _argument(node, 3, "padding", 0),
        _argument(node, 4, "ceil_mode", False),
    )
    include = _argument(node, 5, "count_include_pad", True)
    return (
        [_argument(node, 0, "input")],
        "avg_pool2d",
        window | {"count_include_pad": bool(include)},
    )


def _call_adaptive(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    return [_argument(node, 0, "input")], *_adaptive(_argument(node, 1, "output_size"), where)


def _call_dropout(node: fx.Node, where: str) -> tuple[list[Any], str, dict[str, Any]]:
    return [_argument(node, 0, "input")], IDENTITY, {}


CALLS: Mapping[Any, Call] = {
    operator.add: _call_add,
    operator.iadd: _call_add,
    torch.add: _call_add,
    "add": _call_add,
    "add_": _call_add,
    F.relu: _call_relu,
    torch.relu: _call_relu,
    torch.relu_: _call_relu,
    "relu": _call_relu,
    "relu_": _call_relu,
    torch.flatten: _call_flatten,
    "flatten": _call_flatten,
    F.max_pool2d: _call_max_pool,
    torch.max_pool2d: _call_max_pool,
    F.avg_pool2d: _call_avg_pool,
    F.adaptive_avg_pool2d: _call_adaptive,
    F.dropout: _call_dropout,
}

#: they write their result over what they read, as does whatever is asked to by ``inplace``
IN_PLACE = (operator.iadd, "add_", torch.relu_, "relu_")


def _unknown(where: str, name: str) -> BadInput:
    return BadInput(
        f"the teacher has an unsupported operator at {where}",
        value=name,
        bound="one of " + ", ".join(OPS),
        remedy="Rebuild the teacher with supported operators alone.",
    )


def _unsupported(node: fx.Node, value: str, bound: str) -> BadInput:
    return BadInput(
        f"the teacher cannot be described at {node.name}",
        value=value,
        bound=bound,
        remedy="Rebuild the teacher in that form.",
    )


def agrees(
    module: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor
) -> bool:
    """Whether two networks give the same logits on a batch, within 1e-4 of the largest."""
    with torch.no_grad():
        expected, found = module(x), other(x)
    bound = 1e-4 * max(1.0, float(expected.abs().max()))
    return bool((expected - found).abs().max() <= bound)
