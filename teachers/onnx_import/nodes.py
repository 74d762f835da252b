"""Nodes with their attributes as plain Python values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from edge import strict
from teachers.onnx_import.graph import Branch, Node
from teachers.onnx_import.reading import MOST_NODES, STANDARD
from teachers.onnx_import.refusals import REEXPORT, refuse, refuse_file
from teachers.onnx_import.table import OPERATORS, REMEDIES
from teachers.onnx_import.tensors import TensorReader

DEEPEST = 4
#: tensors that one node may read and write, and all of them; a node of ours has three or four
MOST_NAMES, MOST_NAMES_IN_ALL = 256, 5 * MOST_NODES


class NodeReader:
    """Reads the nodes of one model; ``tensors`` reads what stands in their attributes."""

    def __init__(self, tensors: TensorReader) -> None:
        self.tensors = tensors
        self.count = 0
        self.names = 0

    def read(self, nodes: Sequence[NodeProto], depth: int = 0) -> list[Node]:
        """All nodes in stored order; BadInput where one is damaged or of a foreign domain."""
        self.count += len(nodes)
        if self.count > MOST_NODES or depth > DEEPEST:
            raise refuse_file(
                "the teacher's graph is too large",
                value=f"{self.count} nodes, sub-graphs {depth} deep",
                bound=f"at most {MOST_NODES} nodes, {DEEPEST} deep",
            )
        return [self._node(node, index, depth) for index, node in enumerate(nodes)]

    def _node(self, proto: NodeProto, index: int, depth: int) -> Node:
        names = len(proto.input) + len(proto.output)
        self.names += names
        if max(names, len(proto.attribute)) > MOST_NAMES or self.names > MOST_NAMES_IN_ALL:
            op = strict.shorten(text(proto.op_type), 40)
            raise refuse_file(
                f"the teacher's node {index} ({op}) is too large",
                value=f"{names} inputs and outputs, {len(proto.attribute)} attributes",
                bound=f"at most {MOST_NAMES} of one node, {MOST_NAMES_IN_ALL} of all",
            )
        inputs, outputs = (tuple(map(text, names)) for names in (proto.input, proto.output))
        bare = Node(text(proto.name), text(proto.op_type), index, inputs, outputs)
        if proto.domain not in STANDARD:
            raise refuse(
                bare,
                "is of a custom domain",
                value=repr(proto.domain),
                bound="an operator of ai.onnx",
                remedy="Export without custom operators and without a runtime's optimisations.",
            )
        attributes: dict[str, Any] = {}
        branches: dict[str, Branch] = {}
        for attribute in proto.attribute:
            if attribute.type == AttributeProto.GRAPH:
                branches[text(attribute.name)] = self._branch(attribute.g, depth + 1)
            else:
                attributes[text(attribute.name)] = self._value(bare, attribute)
        return Node(bare.name, bare.op, index, bare.inputs, bare.outputs, attributes, branches)

    def _branch(self, graph: GraphProto, depth: int) -> Branch:
        nodes = self.read(graph.node, depth)
        constants = {
            tensor.name: self.tensors.read(tensor, tensor.name) for tensor in graph.initializer
        }
        return Branch(tuple(nodes), constants, tuple(text(value.name) for value in graph.output))

    def _value(self, node: Node, attribute: AttributeProto) -> Any:
        kind = attribute.type
        value: Any
        if kind == AttributeProto.FLOAT:
            value = attribute.f
        elif kind == AttributeProto.INT:
            value = attribute.i
        elif kind == AttributeProto.STRING:
            value = text(attribute.s)
        elif kind == AttributeProto.FLOATS:
            value = list(attribute.floats)
        elif kind == AttributeProto.INTS:
            value = list(attribute.ints)
        elif kind == AttributeProto.STRINGS:
            value = [text(item) for item in attribute.strings]
        elif kind == AttributeProto.TENSOR:
            value = self.tensors.read(attribute.t, attribute.t.name or node.outputs[0])
        else:
            raise refuse(
                node,
                f"has an attribute {strict.shorten(attribute.name)!r} that cannot be used",
                value=f"attribute type {kind}",
                bound="numbers, texts and dense tensors",
            )
        numbers = value if isinstance(value, list) else [value]
        # infinity is how some spell a bound of Clip that is not there
        wrong = math.isnan if node.op == "Clip" else lambda number: not math.isfinite(number)
        if any(isinstance(number, float) and wrong(number) for number in numbers):
            raise refuse(
                node,
                f"has an attribute {strict.shorten(attribute.name)!r} that is no number",
                value=strict.shorten(value),
                bound="finite numbers",
            )
        return value


def text(value: str | bytes) -> str:
    """A name; protobuf gives one that is no UTF-8 as its bytes."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def check_operator(node: Node, opset: int) -> None:
    """BadInput where the table holds no such operator, or ONNX defines it in another way.

    The number of inputs, required inputs and the types of attributes follow ONNX's own schema;
    branches are asked too.
    """
    if node.op not in OPERATORS:
        raise refuse(
            node,
            "is of an unsupported operator",
            value=strict.shorten(node.op),
            bound="one of " + ", ".join(sorted(OPERATORS)),
            remedy=remedy_for(node.op),
        )
    for branch in node.branches.values():
        for inner in branch.nodes:
            check_operator(inner, opset)
    _check_schema(node, opset)


def _check_schema(node: Node, opset: int) -> None:
    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
    except onnx.defs.SchemaError:
        raise refuse(
            node,
            "is not of its opset",
            value=f"{node.op} in opset {opset}",
            bound="a newer opset",
            remedy=REEXPORT,
        ) from None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    given = len(node.inputs)
    required = [i for i, parameter in enumerate(schema.inputs) if parameter.option == single]
    if not schema.min_input <= given <= schema.max_input or not all(
        node.inputs[i] for i in required
    ):
        raise refuse(
            node,
            "has other inputs than ONNX defines",
            value=f"{sum(map(bool, node.inputs))} inputs",
            bound=f"{schema.min_input} to {schema.max_input}, and the required ones",
            remedy=REEXPORT,
        )
    for name, attribute in schema.attributes.items():
        kind = str(attribute.type).rpartition(".")[2]
        value = node.attributes.get(name, node.branches.get(name))
        missing = value is None and attribute.required
        if missing or (value is not None and not isinstance(value, KINDS[kind])):
            raise refuse(
                node,
                f"has another attribute {name!r} than ONNX defines",
                value="nothing" if value is None else type(value).__name__,
                bound=kind.lower(),
                remedy=REEXPORT,
            )


#: type of an attribute in a schema → how it is read here
KINDS: dict[str, type | tuple[type, ...]] = {
    "FLOAT": float,
    "INT": int,
    "STRING": str,
    "FLOATS": list,
    "INTS": list,
    "STRINGS": list,
    "TENSOR": np.ndarray,
    "GRAPH": Branch,
    "SPARSE_TENSOR": (),
}


def remedy_for(op: str) -> str:
    """What to do about an operator outside the table."""
    for fragment, remedy in REMEDIES.items():
        if fragment in op:
            return remedy
    return "Rebuild the teacher with supported operators alone, and export it again."
