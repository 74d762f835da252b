"""Reads a captured graph, call by call, into a network."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from edge.errors import BadInput
from envs.fx_import.memory import constant_budget
from envs.fx_import.reading.axes import plain, sizes
from envs.fx_import.reading.capture import (
    OVERWRITES,
    VALUE,
    eval_mode,
    operator_name,
    place,
    tensors_in,
    unsupported,
)
from envs.fx_import.reading.network import Call, Constant, Network, Value
from envs.fx_import.reading.norms import normalised
from envs.fx_import.reading.patterns import written_layer_norm
from envs.fx_import.reading.tables import CALLS, ORDERLESS, reader_of
from envs.graph.netspec import INPUT

#: numpy's names for arguments, which torch takes too
ALIASES = {"axis": "dim", "keepdims": "keepdim", "tensor": "input"}


class Reading:
    """What every node of a graph became: a tensor of the network, a constant, or an error.

    An error is raised only where its result is read in turn, so what the logits do not need may
    be anything.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph, net: Network) -> None:
        self.module, self.graph, self.net = module, graph, net
        self.found: dict[fx.Node, Any] = {}

    def logits(self) -> Value:
        """Read all calls; gives what the forward method returns."""
        nodes = [node for node in self.graph.nodes if node.op != "output"]
        for number, node in enumerate(nodes):
            value = node.meta[VALUE]
            self.net.call = Call(
                node.name,
                place(node, number, len(nodes)),
                operator_name(self.module, node),
                str(node.target) if node.op == "call_module" else "",
                tuple(value.shape) if isinstance(value, Tensor) else (),
                tuple(tuple(tensor.shape) for tensor in tensors_in(value)),
            )
            try:
                self.found[node] = self._read(node)
            except BadInput as error:
                self.found[node] = error
            if node.meta.get(OVERWRITES):
                self._overwritten(node)
        output = next(node for node in self.graph.nodes if node.op == "output")
        self.net.call = Call("output", "its end")
        result = output.args[0]
        if isinstance(result, fx.Node):
            result = self._use(result)
        if not isinstance(result, Value):
            kind = "constant" if isinstance(result, Constant) else type(result).__name__
            raise self.net.refuse(f"a result of type {kind}", "the logits, as one tensor N×K")
        return result

    def _read(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return Value(INPUT, plain(self.net.input_shape))
        if node.op == "get_attr":
            return Constant(operator.attrgetter(str(node.target))(self.module), str(node.target))
        norm = written_layer_norm(node)
        if norm is not None and isinstance(self.found[norm[0]], Value):
            return normalised(self.net, self.found[norm[0]], *norm[1:])
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._use)
        if node.target is operator.getitem and isinstance(args[0], tuple):
            return operator.getitem(*args)
        used = [self._use(each) for each in node.all_input_nodes]
        if not any(isinstance(each, Value | tuple) for each in used):
            return self._constant(node, args, kwargs)
        return self._call(node, args, kwargs)

    def _use(self, node: fx.Node) -> Any:
        found = self.found[node]
        if isinstance(found, BadInput):
            raise found
        if found is None:
            raise self.net.refuse("the indices of a maximum", "its values alone")
        return found

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        module, name = None, self.net.call.operator
        options = {ALIASES.get(key, key): value for key, value in kwargs.items()}
        if node.op == "call_module":
            module = self.module.get_submodule(str(node.target))
            reader = reader_of(module)
        elif node.target is getattr:
            # attributes that are other views of a tensor
            reader, name = CALLS.get({"T": "t", "data": "detach"}.get(args[1])), f"x.{args[1]}"
            args = args[:1]
        else:
            reader = CALLS.get(node.target)
        if reader is None:
            raise unsupported(name, self.net.call.place)
        signature = inspect.signature(reader)
        if module is not None:
            options |= {
                key: getattr(module, key)
                for key in list(signature.parameters)[2:]
                if hasattr(module, key)
            }
        try:
            signature.bind(self.net, *args, **options)
        except TypeError as error:
            raise self.net.refuse(
                f"{name} with arguments of another form ({error})", "torch's own"
            ) from None
        first = args[0] if args else options.get("input")
        if isinstance(first, Constant) and reader not in ORDERLESS:
            raise self.net.refuse(f"{name} of a constant", "a tensor that depends on the image")
        result = reader(self.net, *args, **options)
        types = {tensor.dtype for tensor in tensors_in(node.meta[VALUE])[:1]}
        if not all(dtype.is_floating_point for dtype in types):
            raise self.net.refuse(f"{name} with a result of {types.pop()}", "a result of floats")
        if isinstance(result, Value) and sizes(result.axes) != self.net.call.shape:
            problem = f"{name} with a result of {self.net.call.shape}"
            raise self.net.refuse(problem, f"a result of {sizes(result.axes)}")
        return result

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """What is computed from weights alone is computed here and now."""
        if node.meta[OVERWRITES]:
            raise self.net.refuse("weights that are written over", "weights as they are")
        numbers = sum(tensor.numel() for tensor in tensors_in(node.meta[VALUE]))
        if numbers > constant_budget():
            raise self.net.refuse(
                f"a constant of {numbers} numbers",
                f"up to {constant_budget()}, as the memory of this machine allows",
            )
        args, kwargs = _plain((args, kwargs))
        with eval_mode(self.module), torch.no_grad():
            if node.op == "call_module":
                result = self.module.get_submodule(str(node.target))(*args, **kwargs)
            elif node.op == "call_method":
                result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                assert callable(node.target)
                result = node.target(*args, **kwargs)
        if isinstance(result, Tensor):
            return Constant(result)
        return tuple(Constant(each) for each in result)

    def _overwritten(self, node: fx.Node) -> None:
        """Whoever reads the overwritten tensor from here on, under any name, reads the result."""
        target = node.args[0]
        assert isinstance(target, fx.Node)
        old, new = self.found[target], self.found[node]
        memory = _memory(target)
        for other, value in self.found.items():
            if other is node or _memory(other).isdisjoint(memory):
                continue
            if not isinstance(old, Value) or not isinstance(new, Value) or value == old:
                self.found[other] = new
            elif isinstance(value, Value) and value.name == old.name and new.axes == old.axes:
                self.found[other] = Value(new.name, value.axes, value.label)
            elif value != new and _overlap(other, target):
                self.found[other] = self.net.refuse(
                    "a tensor of which another view is written over", "no further use of it"
                )


def _plain(given: Any) -> Any:
    """Arguments with constants as tensors."""
    if isinstance(given, Constant):
        return given.tensor
    if isinstance(given, dict):
        return {key: _plain(each) for key, each in given.items()}
    if isinstance(given, tuple | list):
        return type(given)(_plain(each) for each in given)
    return given


def _overlap(node: fx.Node, other: fx.Node) -> bool:
    """Whether two views of one memory share numbers of an image."""

    def places(tensor: Tensor) -> Tensor:
        found = torch.tensor(tensor.storage_offset())
        for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True):
            found = found[..., None] + torch.arange(size) * stride
        return found

    return any(
        bool(torch.isin(places(one), places(two)).any())
        for one in tensors_in(node.meta[VALUE])
        for two in tensors_in(other.meta[VALUE])
    )


def _memory(node: fx.Node) -> set[int]:
    """Where the numbers of a node's tensors lie."""
    return {tensor.untyped_storage()._cdata for tensor in tensors_in(node.meta[VALUE])}
