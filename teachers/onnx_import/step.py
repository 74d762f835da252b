"""One node in conversion: what it reads, and the means to write torch calls for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from edge.errors import BadInput
from teachers.onnx_import import naming
from teachers.onnx_import.graph import Array, Branch, Node
from teachers.onnx_import.refusals import refuse
from teachers.onnx_import.tensors import check_finite
from teachers.onnx_import.values import MOST_CURVES, Activation, Constant, Value

#: numbers of one sample that a tensor may hold: 4 GiB of float32
MOST_NUMBERS = 2**30
#: where the functions of chains of elementwise operators are sampled
GRID = torch.cat([torch.linspace(-12, 12, 769), torch.tensor([-60.0, -25.0, 25.0, 60.0])]).double()


class Writer:
    """The torch graph as far as it is written, and the modules and parameters that it calls."""

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.names = naming.Names()

    def drop_unused(self) -> None:
        """Drop the calls whose results nobody reads."""
        # not fx's own: it asks each module whether it is pure, and all of ours are
        for call in reversed(list(self.graph.nodes)):
            if not call.users and call.op not in ("placeholder", "output"):
                self.graph.erase_node(call)

    def name_all(self) -> None:
        """Name what is left of the layers and parameters, in the order of their use."""
        for call in self.graph.nodes:
            if "owned" in call.meta:
                owned, wanted, otherwise = call.meta["owned"]
                call.target = self.names.take(wanted, otherwise)
                holder, last = self._holder(call.target), call.target.rpartition(".")[2]
                if isinstance(owned, nn.Module):
                    holder.add_module(last, owned)
                else:
                    holder.register_parameter(last, owned)

    def _holder(self, name: str) -> nn.Module:
        holder = self.root
        for part in name.split(".")[:-1]:
            if not hasattr(holder, part):
                holder.add_module(part, nn.Module())
            holder = holder.get_submodule(part)
        return holder


class Step:
    """One node with its inputs; handlers read from it and write through it."""

    def __init__(
        self,
        node: Node,
        inputs: Sequence[Value | None],
        opset: int,
        writer: Writer,
        branch: Callable[[Branch], list[Value]],
    ) -> None:
        self.node = node
        self.inputs = tuple(inputs)
        self.opset = opset
        self.writer = writer
        self.branch = branch

    def refuse(self, problem: str, *, value: object, bound: str, **remedy: str) -> BadInput:
        """An error that names this node."""
        return refuse(self.node, problem, value=value, bound=bound, **remedy)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def x(self, index: int = 0) -> Activation:
        """An input that must come from the image."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(value, Activation):
            raise self.refuse(
                f"has no image at input {index}",
                value="a constant" if value is not None else "nothing",
                bound="a tensor that depends on the image",
            )
        return value

    def array(self, index: int, what: str = "input") -> Array:
        """An input that must be a constant, whatever the batch."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(value, Constant) or not value.fixed:
            depends = "the image" if isinstance(value, Activation) else "the batch size"
            raise self.refuse(
                f"needs a constant {what} at input {index}",
                value="nothing" if value is None else f"a tensor that depends on {depends}",
                bound="numbers that are in the file",
            )
        return value.at[0]

    def weights(self, index: int, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A finite float constant as a new float32 tensor, of ``shape`` where it is given."""
        array = np.array(self.array(index, what), np.float32)
        if not array.size:
            raise self.refuse(f"has an empty {what}", value=list(array.shape), bound="numbers")
        name = self.name_of(index)
        check_finite(array.reshape(-1), f"the teacher's tensor {name!r} at {self.node.where}")
        if shape is not None and array.shape != shape:
            raise self.refuse(
                f"has a {what} of a wrong shape",
                value=f"{list(array.shape)} in {name!r}",
                bound=str(list(shape)),
            )
        return torch.from_numpy(array)

    def name_of(self, index: int) -> str:
        """The tensor's name in the file."""
        return self.node.inputs[index]

    def option(self, index: int, name: str) -> Array | None:
        """What was an attribute once and is an optional constant input today."""
        if self.has(index):
            return self.array(index, name)
        value = self.attr(name)
        return None if value is None else np.asarray(value)

    def broadcast(self, *shapes: Sequence[int]) -> tuple[int, ...]:
        """The common shape of several; BadInput where they have none."""
        try:
            return np.broadcast_shapes(*(tuple(shape) for shape in shapes))
        except ValueError as error:
            raise self.refuse(
                "broadcasts shapes that do not fit", value=error, bound="sides that are equal or 1"
            ) from None

    # writing

    def call(
        self, function: Callable[..., Any], *args: Any, part_of: str = "", **kwargs: Any
    ) -> Activation:
        """Write a call of a torch function; Activations among its arguments are its tensors.

        ``part_of`` names the wholes in which the function is known: left alone, it is refused.
        """
        metas = [self._run(function, args, kwargs, batch) for batch in (0, 1)]
        return self._written(function, args, kwargs, (metas[0], metas[1]), part_of)

    def _written(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        metas: tuple[Tensor, Tensor],
        part_of: str,
    ) -> Activation:
        call = self.writer.graph.call_function(
            function, _replaced(args, lambda a: a.call), _replaced(kwargs, lambda a: a.call)
        )
        if part_of:
            call.meta["refusal"] = self.refuse(
                "cannot be used on its own",
                value=self.node.op,
                bound=f"a part of {part_of}",
            )
        return self._made(call, metas)

    def elementwise(
        self, function: Callable[..., Any], *args: Any, part_of: str = "", **kwargs: Any
    ) -> Activation:
        """:meth:`call` of a function of each number alone; its curves are kept."""
        read = [value for value in args if isinstance(value, Activation)]
        # the shape is known without a run on meta tensors, which takes longer than all the rest
        metas = [self._common(read, batch) for batch in (0, 1)]
        result = self._written(function, args, kwargs, (metas[0], metas[1]), part_of)
        known = [{value: GRID, **value.curves} for value in read]
        shared = [leaf for leaf in known[0] if all(leaf in other for other in known)][:MOST_CURVES]
        # a row per earlier tensor, so that a long chain costs one call at every step
        rows = function(*_replaced(args, partial(_samples, shared)), **kwargs) if shared else ()
        result.curves = dict(zip(shared, rows, strict=True))
        return result

    def layer(self, module: nn.Module, x: Activation, weight: int | None = 1) -> Activation:
        """Write a call of a module with weights, named after its weight or its node."""
        metas = [self._run_module(module, x, batch) for batch in (0, 1)]
        stored = None if weight is None else naming.from_weight(self._stored(weight))
        wanted = (stored, naming.from_node(self.node.name, self.node.op))
        call = self.writer.graph.call_module("layer", (x.call,))
        call.meta["owned"] = (module.eval(), wanted, type(module).__name__)
        made = self._made(call, (metas[0], metas[1]))
        made.module = module
        return made

    def _stored(self, index: int) -> str:
        """The file's name for a weight, whatever rearranged it on its way here."""
        value = self.inputs[index]
        return (value.stored if isinstance(value, Constant) else "") or self.name_of(index)

    def parameter(self, values: Tensor, name: str) -> Activation:
        """A constant that takes part in arithmetic, as a parameter of the module."""
        path = naming.clean(name) if "::" not in name else None
        call = self.writer.graph.get_attr("constant")
        call.meta["owned"] = (nn.Parameter(values), (path,), f"{self.node.op}_constant")
        meta = values.to("meta")
        return Activation(call, (meta, meta))

    def _made(self, call: fx.Node, metas: tuple[Tensor, Tensor]) -> Activation:
        return Activation(call, metas, made_by=self.node, inputs=self.inputs)

    def _common(self, read: Sequence[Activation], batch: int) -> Tensor:
        """The meta tensor to which the inputs of an elementwise function broadcast."""
        if len(read) == 1:
            return read[0].metas[batch]
        shape = self.broadcast(*(value.metas[batch].shape for value in read))
        common: Tensor = self._checked(lambda: torch.empty(shape, device="meta"))
        return common

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any, batch: int) -> Any:
        return self._checked(
            lambda: function(
                *_replaced(args, lambda a: a.metas[batch]),
                **_replaced(kwargs, lambda a: a.metas[batch]),
            )
        )

    def _run_module(self, module: nn.Module, x: Activation, batch: int) -> Any:
        twins = {name: tensor.to("meta") for name, tensor in module.state_dict().items()}
        return self._checked(
            lambda: torch.func.functional_call(module.eval(), twins, (x.metas[batch],))
        )

    def _checked(self, run: Callable[[], Any]) -> Any:
        try:
            with torch.no_grad():
                result = run()
        except BadInput:
            raise
        except Exception as error:
            raise self.refuse(
                "does not run on its input",
                value=str(error).splitlines()[0] if str(error) else type(error).__name__,
                bound="shapes that fit",
                remedy="Check `input` in the teacher's JSON, or export the teacher again.",
            ) from None
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and math.prod(tensor.shape[1:]) > MOST_NUMBERS:
                raise self.refuse(
                    "writes a tensor that is too large",
                    value=f"{list(tensor.shape[1:])} numbers for one image",
                    bound=f"at most {MOST_NUMBERS} numbers",
                )
        return result


def _samples(leaves: Sequence[Activation], value: Activation) -> Tensor:
    """The functions from ``leaves`` to ``value``, sampled on the grid, one in a row."""
    return torch.stack([GRID if value is leaf else value.curves[leaf] for leaf in leaves])


def _replaced(value: Any, change: Callable[[Activation], Any]) -> Any:
    """The arguments of a call with every Activation replaced."""
    if isinstance(value, Activation):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_replaced(item, change) for item in value)
    if isinstance(value, list):
        return [_replaced(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, change) for key, item in value.items()}
    return value
