"""A network as a small ONNX graph whose nodes are those of its export, with made-up weights.

:mod:`envs.export.export` takes seconds for a network, and its file holds the weights. For timing,
neither
is needed: the weights are filled in when the graph is loaded, and norms after convolutions are
left out, as they are folded in what ships. An operator without a spelling here is stood in for by
one that moves as many numbers, which is what the time of such an operator consists of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from envs.export.export import OPSET
from envs.graph.netspec import INPUT, NetSpec, Node, Shape
from envs.graph.ops.weighted import CONVOLUTIONS

#: ONNX operators of one input and no attributes that do what ours do
PLAIN = {
    "relu": ("Relu",),
    "sigmoid": ("Sigmoid",),
    "hardsigmoid": ("HardSigmoid",),
    "tanh": ("Tanh",),
    "softplus": ("Softplus",),
    "elu": ("Elu",),
    "leaky_relu": ("LeakyRelu",),
    "hardswish": ("HardSwish",),
    "softmax": ("Softmax",),
}
#: x · f(x): the operators of f
GATED = {"silu": ("Sigmoid",), "mish": ("Softplus", "Tanh"), "gelu": ("Erf",)}
#: what a bias is filled with; weights are the reciprocal of what they sum over, so that numbers
#: keep their size from layer to layer
BIAS = 0.01
VERSION = 10


def graph_of(spec: NetSpec) -> bytes:
    """The serialised graph: input ``image`` N×…, one output ``out``."""
    return _Writer(spec).run()


class _Writer:
    def __init__(self, spec: NetSpec) -> None:
        self.spec = spec
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.written = {INPUT: "image"}

    def run(self) -> bytes:
        for node in self.spec.nodes:
            inputs = [self.written[name] for name in node.inputs]
            self.written[node.name] = self._node(node, inputs)
        last = self.written[self.spec.output.name]
        self.nodes.append(helper.make_node("Identity", [last], ["out"]))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [_port("image", self.spec.input_shape)],
            [_port("out", self.spec.output.shape)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=VERSION)
        return bytes(model.SerializeToString())

    def _node(self, node: Node, inputs: list[str]) -> str:
        shape = self.spec.shape_of(node.inputs[0])
        if node.op in CONVOLUTIONS or node.op == "linear":
            return self._layer(node, inputs[0])
        if node.op == "batch_norm" and self._follows_convolution(node):
            return inputs[0]
        if node.op in PLAIN:
            return self.op(PLAIN[node.op][0], inputs)
        if node.op in GATED:
            return self._gated(node.op, inputs[0])
        if node.op in ("relu6", "clip"):
            low, high = node.attrs.get("low", 0.0), node.attrs.get("high", 6.0)
            bounds = ["" if bound is None else self.number(bound) for bound in (low, high)]
            return self.op("Clip", [inputs[0], *bounds])
        if node.op in ("add", "mul"):
            return self._chain(node.op.capitalize(), inputs)
        if node.op == "cat":
            return self.op("Concat", inputs, axis=1)
        if node.op == "shuffle":
            return self._shuffle(node, inputs[0])
        spelling = _pooling(node, shape)
        if spelling is not None:
            return self._pooled(spelling, node, inputs[0])
        return self._stand_in(node, inputs[0], shape)

    def _follows_convolution(self, node: Node) -> bool:
        before = node.inputs[0]
        return before != INPUT and self.spec[before].op in CONVOLUTIONS

    def _layer(self, node: Node, read: str) -> str:
        attrs = node.attrs
        if node.op == "linear" and not attrs["dims"]:
            weights = self.filled((attrs["out"], attrs["in"]), 1 / attrs["in"])
            return self.op("Gemm", [read, weights, self.filled((attrs["out"],), BIAS)], transB=1)
        ones = [1] * attrs.get("dims", 0)
        kernel, groups = attrs.get("kernel", ones), attrs.get("groups", 1)
        fan = attrs["in"] // groups * math.prod(kernel)
        weights = self.filled((attrs["out"], attrs["in"] // groups, *kernel), 1 / fan)
        return self.op(
            "Conv",
            [read, weights, self.filled((attrs["out"],), BIAS)],
            kernel_shape=list(kernel),
            strides=list(attrs.get("stride", ones)),
            pads=[*attrs.get("padding", [0] * len(ones))] * 2,
            dilations=list(attrs.get("dilation", ones)),
            group=groups,
        )

    def _gated(self, name: str, read: str) -> str:
        gate = read
        for kind in GATED[name]:
            gate = self.op(kind, [gate])
        return self.op("Mul", [read, gate])

    def _chain(self, kind: str, inputs: Sequence[str]) -> str:
        found = inputs[0]
        for other in inputs[1:]:
            found = self.op(kind, [found, other])
        return found

    def _shuffle(self, node: Node, read: str) -> str:
        channels, *sizes = node.shape
        groups = math.gcd(node.attrs["groups"], channels)
        apart = self.op("Reshape", [read, self.whole([-1, groups, channels // groups, *sizes])])
        swapped = self.op("Transpose", [apart], perm=[0, 2, 1, *range(3, 3 + len(sizes))])
        return self.op("Reshape", [swapped, self.whole([-1, channels, *sizes])])

    def _pooled(self, spelling: tuple[str, dict[str, Any]], node: Node, read: str) -> str:
        kind, options = spelling
        if kind.startswith("Reduce"):
            axes = self.whole(list(range(-(len(node.shape) - 1), 0)))
            return self.op(kind, [read, axes], keepdims=1)
        return self.op(kind, [read], **options)

    def _stand_in(self, node: Node, read: str, shape: Shape) -> str:
        """As many numbers read and written, whatever becomes of them."""
        given, wanted = math.prod(shape), math.prod(node.shape)
        if shape == node.shape:
            return self.op("Mul", [read, self.number(0.9)])
        if given != wanted:
            read = self.op("Reshape", [read, self.whole([-1, given])])
            times = -(-wanted // given)
            if times > 1:
                read = self.op("Tile", [read, self.whole([1, times])])
            bounds = [self.whole([number]) for number in (0, wanted, 1)]
            read = self.op("Slice", [read, *bounds])
        return self.op("Reshape", [read, self.whole([-1, *node.shape])])

    # -- pieces -----------------------------------------------------------------------------------

    def op(self, kind: str, inputs: Sequence[str], **options: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **options))
        return name

    def filled(self, shape: Sequence[int], value: float) -> str:
        """A constant that the runtime makes when it loads the graph."""
        filling = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
        return self.op("ConstantOfShape", [self.whole(shape)], value=filling)

    def whole(self, numbers: Sequence[int]) -> str:
        return self._constant(TensorProto.INT64, [len(numbers)], list(numbers))

    def number(self, value: float) -> str:
        return self._constant(TensorProto.FLOAT, [], [value])

    def _constant(self, kind: int, shape: list[int], numbers: Sequence[float]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, kind, shape, numbers))
        return name


def _pooling(node: Node, shape: Shape) -> tuple[str, dict[str, Any]] | None:
    """The ONNX operator and its attributes, where the node is a pooling that has one."""
    maximum = "max" in node.op
    if node.op.startswith("adaptive"):
        if all(size == 1 for size in node.shape[1:]):
            return "ReduceMax" if maximum else "ReduceMean", {}
        return _windows(shape[1:], node.shape[1:], maximum)
    if node.op == "resize":
        return _windows(shape[1:], node.shape[1:], maximum)
    if not node.op.startswith(("max_pool", "avg_pool")) or node.attrs["ceil"]:
        return None
    options = {
        "kernel_shape": list(node.attrs["kernel"]),
        "strides": list(node.attrs["stride"]),
        "pads": [*node.attrs["padding"]] * 2,
    }
    if maximum:
        return "MaxPool", options | {"dilations": list(node.attrs["dilation"])}
    return "AveragePool", options


def _windows(
    given: Sequence[int], wanted: Sequence[int], maximum: bool
) -> tuple[str, dict[str, Any]] | None:
    if any(old % new for old, new in zip(given, wanted, strict=True)):
        return None
    kernel = [old // new for old, new in zip(given, wanted, strict=True)]
    return "MaxPool" if maximum else "AveragePool", {"kernel_shape": kernel, "strides": kernel}


def _port(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
