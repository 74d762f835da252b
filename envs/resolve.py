"""Netspec + actions → the student's netspec, in plain arithmetic.

Every combination of legal actions gives a network that runs. Four repairs see to it:

- a removed layer passes its input on, with the batch norm and activation that it owned;
- two paths of different *size* at an add: the one off the teacher's size is resized;
- two paths of different *width* at an add: a path that lost the layer which gave it the channels
  of the sum gets a 1×1 projection;
- maps of another size before a flatten are resized to the teacher's, so that the columns of the
  linear layer after it keep their meaning.

A path that lost all its layers is the other path's own input, and the add goes away with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.errors import BadInput
from envs.layers import Anatomy, Layer, anatomy
from envs.moves import Moves
from envs.netspec import INPUT, NetSpec, Node, Shape
from envs.ops import OPS


@dataclass(frozen=True)
class Flow:
    """A tensor of the student that stands for one of the teacher.

    Attributes:
        name: node of the student that writes it.
        shape: of one sample.
        group: channel group whose channels it carries (a removed layer hands on its input's).
        depth: weight layers behind it, along the longest way.
    """

    name: str
    shape: Shape
    group: int
    depth: int


@dataclass(frozen=True)
class Student:
    """A compressed network, described and not yet built.

    Attributes:
        spec: the student's operators.
        actions: one index into the pool per weight layer of the teacher.
        reads: node of the student with weights → channel group whose channels it reads.
        width: channel group → channels that the student keeps of it.
    """

    spec: NetSpec
    actions: tuple[int, ...]
    reads: Mapping[str, int]
    width: Mapping[int, int]


def check_actions(layers: Sequence[Layer], moves: Moves, actions: Sequence[int]) -> tuple[int, ...]:
    """The actions as a tuple of int, each legal by the mask of its layer.

    Raises:
        BadInput: too many, too few, or one that the mask forbids.
    """
    if len(actions) != len(layers):
        raise BadInput(
            "the number of actions does not fit the network",
            value=len(actions),
            bound=f"{len(layers)}, one per weight layer",
            remedy="Give one index into the pool for every layer.",
        )
    checked = tuple(int(action) for action in actions)
    for layer, action in zip(layers, checked, strict=True):
        legal = [index for index, ok in enumerate(moves.mask(layer)) if ok]
        if action not in legal:
            raise BadInput(
                f"the action for layer {layer.node!r} is not legal",
                value=action,
                bound=f"one of {legal} (pool {list(moves.pool)})",
                remedy="Follow the action mask.",
            )
    return checked


def compress(spec: NetSpec, moves: Moves, actions: Sequence[int]) -> Student:
    """Apply one action per weight layer.

    Raises:
        BadInput: the actions are not legal.
    """
    structure = anatomy(spec)
    return _Compressor(
        spec, structure, moves, check_actions(structure.layers, moves, actions)
    ).run()


class _Compressor:
    """Walks the teacher's operators once and writes the student's."""

    def __init__(
        self, spec: NetSpec, structure: Anatomy, moves: Moves, actions: tuple[int, ...]
    ) -> None:
        self.teacher, self.structure, self.moves, self.actions = spec, structure, moves, actions
        self.layer = {layer.node: layer for layer in structure.layers}
        self.removed: set[str] = set()
        for layer in structure.layers:
            if moves.removes(actions[layer.index]):
                self.removed.update((layer.node, *layer.tail))
        self.width = self._widths()
        image = Flow(INPUT, spec.input_shape, structure.group[INPUT], 0)
        self.flows: dict[str, Flow] = {INPUT: image}
        self.nodes: list[Node] = []
        self.reads: dict[str, int] = {}

    def _widths(self) -> dict[int, int]:
        """The first writer that is left sets the width of its group."""
        widths = dict(self.structure.width)
        settled = set(self.structure.fixed)
        for layer in self.structure.layers:
            if layer.group not in settled and layer.node not in self.removed:
                widths[layer.group] = self.moves.outputs(
                    widths[layer.group], self.actions[layer.index]
                )
                settled.add(layer.group)
        return widths

    def run(self) -> Student:
        for node in self.teacher.nodes:
            inputs = [self.flows[name] for name in node.inputs]
            if node.name in self.removed:
                self.flows[node.name] = inputs[0]
            elif node.op == "add":
                self.flows[node.name] = self._join(node, inputs)
            else:
                self.flows[node.name] = self._single(node, inputs[0])
        kept = NetSpec(self.teacher.input_shape, tuple(self.nodes))
        return Student(kept, self.actions, self.reads, self.width)

    def _emit(
        self, name: str, op: str, inputs: Sequence[Flow], attrs: Mapping[str, Any], group: int
    ) -> Flow:
        shape = OPS[op].shape(attrs, [flow.shape for flow in inputs])
        self.nodes.append(Node(name, op, tuple(flow.name for flow in inputs), attrs, shape))
        if OPS[op].parameters(attrs) or OPS[op].buffers(attrs):
            self.reads[name] = inputs[0].group
        depth = max(flow.depth for flow in inputs) + OPS[op].weighted
        return Flow(name, shape, group, depth)

    def _single(self, node: Node, given: Flow) -> Flow:
        group = given.group
        attrs = dict(node.attrs)
        if node.op == "conv2d":
            group = self.structure.group[node.name]
            attrs |= self._convolution(node, given)
        elif node.op == "linear":
            group = self.structure.group[node.name]
            pixels = self.structure.pixels(node.name, node.shape)
            attrs |= {"in": given.shape[0], "out": self.width[group] * pixels}
        elif node.op == "batch_norm":
            attrs["features"] = given.shape[0]
        elif node.op in ("max_pool2d", "avg_pool2d"):
            # a map can be smaller than the teacher's where `paper` scales padding
            attrs["kernel"] = [
                min(kernel, extent + 2 * padding)
                for kernel, extent, padding in zip(
                    attrs["kernel"], given.shape[1:], attrs["padding"], strict=True
                )
            ]
        elif node.op == "resize":
            attrs["source"] = list(given.shape[1:])
        elif node.op == "flatten":
            given = self._resized(node.name, given, self.teacher.shape_of(node.inputs[0]))
        return self._emit(node.name, node.op, [given], attrs, group)

    def _convolution(self, node: Node, given: Flow) -> dict[str, Any]:
        action = self.actions[self.layer[node.name].index]
        geometry: dict[str, Any] = {"kernel": [], "stride": [], "padding": []}
        for axis, extent in enumerate(given.shape[1:]):
            k, d, p, dilation = (
                node.attrs[key][axis] for key in ("kernel", "stride", "padding", "dilation")
            )
            kernel = self.moves.kernel(k, action)
            padding = self.moves.padding(p, k, kernel, dilation, action)
            # a map that shrank below the kernel is padded until one window fits
            short = dilation * (kernel - 1) + 1 - extent - 2 * padding
            geometry["kernel"].append(kernel)
            geometry["stride"].append(self.moves.stride(d, action))
            geometry["padding"].append(padding + max(0, -(-short // 2)))
        width = self.width[self.structure.group[node.name]]
        return geometry | {"in": given.shape[0], "out": width}

    def _join(self, node: Node, inputs: list[Flow]) -> Flow:
        """An add, with its paths brought to one shape."""
        if len({flow.name for flow in inputs}) == 1 and len(set(node.inputs)) > 1:
            return inputs[0]
        target = self._target(node, inputs)
        size = self._size(node, inputs)
        paths = []
        for number, flow in enumerate(inputs):
            where = f"{node.name}.{number}"
            if len(flow.shape) == 3:
                flow = self._resized(where, flow, (flow.shape[0], *size))
            paths.append(self._projected(where, flow, target))
        return self._emit(node.name, "add", paths, node.attrs, target.group)

    def _target(self, node: Node, inputs: list[Flow]) -> Flow:
        """The path whose channels the sum carries: the teacher's group, else the longest."""
        own = [flow for flow in inputs if flow.group == self.structure.group[node.name]]
        return max(own or inputs, key=lambda flow: flow.depth)

    def _size(self, node: Node, inputs: list[Flow]) -> Shape:
        """The teacher's size where a path still has it, else the smallest there is."""
        sizes = [flow.shape[1:] for flow in inputs]
        return (
            node.shape[1:] if node.shape[1:] in sizes else tuple(map(min, zip(*sizes, strict=True)))
        )

    def _resized(self, where: str, flow: Flow, shape: Shape) -> Flow:
        source, size = flow.shape[1:], shape[1:]
        if source == size:
            return flow
        attrs = {"source": list(source), "size": list(size)}
        return self._emit(self._fresh(f"{where}.resize"), "resize", [flow], attrs, flow.group)

    def _projected(self, where: str, flow: Flow, target: Flow) -> Flow:
        width = target.shape[0]
        if flow.shape[0] == width:
            return replace(flow, group=target.group)
        name = self._fresh(f"{where}.project")
        if len(flow.shape) == 1:
            attrs: dict[str, Any] = {"in": flow.shape[0], "out": width, "bias": False}
            return self._emit(name, "linear", [flow], attrs, target.group)
        one = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}
        attrs = {"in": flow.shape[0], "out": width, "groups": 1, "bias": False, **one}
        return self._emit(name, "conv2d", [flow], attrs, target.group)

    def _fresh(self, name: str) -> str:
        """A name for a repair; the teacher may be a student with repairs of its own."""
        taken = {node.name for node in (*self.teacher.nodes, *self.nodes)}
        while name in taken:
            name += "_"
        return name
