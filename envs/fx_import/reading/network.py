"""The operators of a netspec in the making: what the readers of calls write to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from torch import Tensor

from edge.errors import BadInput
from edge.strict import shorten
from envs.fx_import.reading.axes import COPY, Axes, Step, moved, plain, plan, sizes, spelled, take
from envs.graph.check import usable
from envs.graph.netspec import INPUT, Node, Shape
from envs.graph.ops import OPS


@dataclass(frozen=True)
class Value:
    """A tensor of the network.

    Attributes:
        name: node that writes its numbers, or the image.
        axes: how they lie; see :mod:`envs.fx_import.reading.axes`.
        label: the call that rearranged them last. Should it need an operator of ours, that
            operator is named after it.
    """

    name: str
    axes: Axes
    label: str = field(default="", compare=False)

    @property
    def rank(self) -> int:
        return len(self.axes)


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the image.

    Attributes:
        tensor: its numbers.
        origin: path of the parameter or buffer that it is; empty where it was computed.
    """

    tensor: Tensor
    origin: str = ""


#: what a call gives
Result = Value | Constant | tuple[Value | None, ...]
#: ``reader(network, *arguments of the call)``
Reader = Callable[..., Result]


@dataclass(frozen=True)
class Call:
    """The call that is being read.

    Attributes:
        name: of the node in torch.fx's graph.
        operator: what it calls, in the words of the teacher's code.
        place: where it stands, in words.
        path: of the module that is called; empty for functions and methods.
        shape: of its result, with the batch; () where it gives several tensors.
        shapes: of its results.
    """

    name: str
    place: str
    operator: str = ""
    path: str = ""
    shape: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()


class Network:
    """Collects operators in execution order, with their weights.

    Args:
        input_shape: of one image.
        reserved: paths of modules with weights, which no other operator may be called.
    """

    def __init__(self, input_shape: Shape, reserved: Collection[str]) -> None:
        self.input_shape: Shape = tuple(input_shape)
        self.reserved = reserved
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {INPUT: self.input_shape}
        self.weights: dict[str, Tensor] = {}
        #: node → "log" or "exp", which is taken of it: fine at the end, where it is left out
        self.finals: dict[str, str] = {}
        self.notes: list[str] = []
        self.call = Call("image", "the image")
        self._steps: dict[tuple[str, str, str], str] = {}

    # -- operators ------------------------------------------------------------------------------

    def emit(self, op: str, attrs: Mapping[str, Any], *inputs: str, name: str = "") -> str:
        """Add an operator without weights; returns its name."""
        return self._add(self._free(name or self.call.name), op, attrs, inputs)

    def layer(
        self,
        op: str,
        attrs: Mapping[str, Any],
        value: Value,
        tensors: Mapping[str, Tensor],
        channel: int = 1,
        name: str = "",
    ) -> Value:
        """Add an operator with weights.

        Args:
            op: key of the operator table.
            attrs: its attributes; ``dims`` is found here.
            value: what it reads.
            tensors: parameters and buffers by the operator's names for them.
            channel: axis of ``value`` that holds the channels; the result's too.
            name: the module's path; found where it is empty.
        """
        source = self._source(op, value, channel)
        attrs = self._with_dims(op, attrs, source)
        own = name or self._free(self.call.name)
        if not usable(own):
            raise self.refuse(f"a layer called {own!r}", "a name that torch does not use")
        if own in self.nodes:
            # the same function; a student may prune each use in its own way
            note = (
                f"the weights of {own!r} are used more than once; students have them once per use"
            )
            self.notes += [note] if note not in self.notes else []
            own = self._free(own)
            tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        expected = OPS[op].tensors(attrs)
        if found != expected:
            raise self.refuse(f"weights of the shapes {found}", f"the shapes {expected}")
        self._add(own, op, attrs, (source,))
        self.weights |= {f"{own}.{key}": tensor.detach() for key, tensor in tensors.items()}
        return self._result(own, source, value, channel)

    def each(self, op: str, attrs: Mapping[str, Any], value: Value, name: str = "") -> Value:
        """Add an operator that acts on every number by itself, however the axes lie."""
        return replace(value, name=self.emit(op, attrs, value.name, name=name))

    def apply(self, op: str, attrs: Mapping[str, Any], value: Value, channel: int = 1) -> Value:
        """Add an operator without weights that keeps the rank; see :meth:`layer`."""
        source = self._source(op, value, channel)
        name = self.emit(op, self._with_dims(op, attrs, source), source)
        return self._result(name, source, value, channel)

    def value(self, name: str, channel: int = 1) -> Value:
        """A node's output, with its channels brought to the axis ``channel``."""
        return Value(name, moved(plain(self.shapes[name]), 1, channel), self.call.name)

    def _add(self, name: str, op: str, attrs: Mapping[str, Any], inputs: Sequence[str]) -> str:
        for key, bound in OPS[op].fields.items():
            if not bound.holds(attrs[key]):
                raise self.refuse(f"{op} with {key} = {shorten(attrs[key])}", bound.bound)
        try:
            shape = OPS[op].shape(attrs, [self.shapes[given] for given in inputs])
        except ValueError as error:
            raise BadInput(
                f"the teacher does not run on its input at {self.call.place}",
                value=error,
                bound=f"layers that fit an input of {self.input_shape}",
                remedy="Check `input` in the teacher's JSON.",
            ) from None
        self.nodes[name] = Node(name, op, tuple(inputs), dict(attrs), shape)
        self.shapes[name] = shape
        return name

    def _free(self, name: str) -> str:
        names = chain([name], (f"{name}_{number}" for number in count(1)))
        taken = self.reserved
        return next(n for n in names if n not in self.nodes and n not in taken and usable(n))

    def _source(self, op: str, value: Value, channel: int) -> str:
        """The node that an operator reads.

        What treats all pixels alike (layer norm, a linear layer over the channels) may read maps
        however their pixels are arranged, such as in one axis of tokens.
        """
        whole = value.axes[channel] == plain(self.shapes[value.name])[1]
        copies = any(factor.dim == COPY for axis in value.axes for factor in axis)
        alike = "dims" in OPS[op].fields or op in ("softmax", "local_response_norm")
        if alike and whole and not copies and value.rank > 2 and len(self.shapes[value.name]) > 1:
            return value.name
        return self.canonical(value, channel)

    def _with_dims(self, op: str, attrs: Mapping[str, Any], source: str) -> dict[str, Any]:
        dims = {"dims": len(self.shapes[source]) - 1} if "dims" in OPS[op].fields else {}
        return dict(attrs) | dims

    def _result(self, name: str, source: str, value: Value, channel: int) -> Value:
        if source != value.name or self.shapes[name][1:] != self.shapes[source][1:]:
            return self.value(name, channel)
        axes = list(value.axes)
        axes[channel] = plain(self.shapes[name])[1]
        return replace(value, name=name, axes=tuple(axes))

    # -- layout ---------------------------------------------------------------------------------

    def canonical(self, value: Value, channel: int = 1) -> str:
        """Name of a node with these numbers as (batch, channels, space).

        Args:
            value: a tensor.
            channel: its axis that shall become the channels.
        """
        try:
            steps = self._layout(value, channel)
        except ValueError as error:
            raise self.refuse(f"a tensor of axes {error}", "(batch, channels, space)") from None
        name = value.name
        for number, (op, attrs) in enumerate(steps, 1):
            key = (name, op, repr(attrs))
            if key not in self._steps:
                own = value.label or self.call.name
                self._steps[key] = self.emit(
                    op, attrs, name, name=own if number == len(steps) else f"{own}_{op}"
                )
            name = self._steps[key]
        return name

    def _layout(self, value: Value, channel: int) -> tuple[Step, ...]:
        """Operators for :meth:`canonical`; ValueError where there are none."""
        axes = moved(value.axes, channel, 1)
        if [factor.dim for factor in axes[1]] != [COPY]:
            return plan(axes, self.shapes[value.name])
        # one channel, several times: a grey image to a network of coloured ones
        steps = plan((axes[0], (), *axes[2:]), self.shapes[value.name])
        return *steps, ("select", {"index": [0] * sizes(axes)[1]})

    def channel(self, *values: Value, but: Collection[int] = ()) -> int | None:
        """The axis of these tensors that can be the channels, axis 1 before others.

        Args:
            values: tensors of one rank.
            but: axes that it must not be.
        """
        rank = values[0].rank
        for axis in range(1, rank):
            if axis in but:
                continue
            try:
                for value in values:
                    self._layout(value, axis)
            except ValueError:
                continue
            return axis
        return None

    def take(self, value: Value, axis: int, kept: Sequence[int]) -> Value:
        """Some positions of one axis of a tensor."""
        size = sizes(value.axes)[axis]
        if list(kept) == list(range(size)):
            return value
        found = take(value.axes, axis, kept, self.shapes[value.name]) if kept else None
        if found is None:
            if not kept or axis == 0:
                raise self.refuse(
                    f"positions {list(kept)[:8]} of axis {axis} of {self.spelled(value)}",
                    "some channels, or some pixels at an even distance",
                )
            # rows and columns merged into one axis are no channels, but they can be cut
            others = set(range(value.rank)) - {axis}
            channel = self.channel(value, but=others) or self.channel(value) or axis
            value = self.value(self.canonical(value, channel), channel)
            found = take(value.axes, axis, kept, self.shapes[value.name])
            assert found is not None
        dim, indices, axes = found
        name = value.name
        if dim == 0:
            return Value(self._channels(name, indices), axes, self.call.name)
        attrs = self._pixels(value, dim, indices)
        before = self.nodes.get(name)
        if before is not None and before.op == "slice_space" and _untouched(before.attrs, dim):
            # both axes are cut by one operator
            for key, numbers in attrs.items():
                other = 2 - dim
                numbers[other] = before.attrs[key][other]
            name = before.inputs[0]
        return Value(self.emit("slice_space", attrs, name), axes, self.call.name)

    def _channels(self, name: str, indices: list[int]) -> str:
        """Some channels of a node; of a concatenation, one of its parts as it is."""
        node, start = self.nodes.get(name), 0
        for part in node.inputs if node is not None and node.op == "cat" else ():
            stop = start + self.shapes[part][0]
            if indices == list(range(start, stop)):
                return part
            start = stop
        return self.emit(*_chosen(indices), name)

    def _pixels(self, value: Value, dim: int, indices: list[int]) -> dict[str, Any]:
        axes = range(1, len(self.shapes[value.name]))
        step = indices[1] - indices[0] if len(indices) > 1 else 1
        if step < 1 or indices != list(range(indices[0], indices[-1] + 1, step)):
            raise self.refuse(f"pixels {indices[:8]}", "pixels at an even distance, in order")
        # without an end where there is none, so that it fits other sizes too
        open_end = indices[-1] + step >= self.shapes[value.name][dim]
        stop = None if open_end else indices[-1] + 1
        return {
            "start": [indices[0] if axis == dim else 0 for axis in axes],
            "stop": [stop if axis == dim else None for axis in axes],
            "step": [step if axis == dim else 1 for axis in axes],
        }

    def rearranged(self, value: Value, axes: Axes) -> Value:
        """The same numbers under other axes; costs no operator."""
        return Value(value.name, axes, self.call.name)

    # -- what is refused ------------------------------------------------------------------------

    def spelled(self, value: Value) -> str:
        """The axes of a tensor in words."""
        return spelled(value.axes, self.shapes[value.name])

    def rank(self, value: Value, dims: int) -> None:
        """BadInput where a tensor is no batch of maps with ``dims`` spatial axes."""
        if value.rank != dims + 2:
            raise self.refuse(
                f"a tensor of axes {self.spelled(value)}", f"maps with {dims} spatial axes"
            )

    def refuse(self, value: str, bound: str) -> BadInput:
        """The error of a call that is known, but not in this form."""
        what = f"the teacher's {self.call.operator}" if self.call.operator else "the teacher"
        return BadInput(
            f"{what} cannot be described at {self.call.place}",
            value=value,
            bound=bound,
            remedy="Rebuild the teacher in that form.",
        )


def _untouched(attrs: Mapping[str, Any], dim: int) -> bool:
    """Whether a cut leaves the axis ``dim`` of two as it is."""
    cut = [attrs[key][dim - 1] for key in ("start", "stop", "step")]
    return len(attrs["start"]) == 2 and cut == [0, None, 1]


def _chosen(indices: list[int]) -> tuple[str, dict[str, Any]]:
    start, stop = indices[0], indices[0] + len(indices)
    if indices == list(range(start, stop)):
        return "slice", {"start": start, "stop": stop}
    return "select", {"index": indices}
