"""How large and how slow a router may be: measured on its file, the same on every run.

Bytes are exact. Microseconds are counted, not clocked: two runs of a clock differ by more than two
routers do. The count adds up what the nodes of the graph do for one row, at the prices below, which
were measured with ONNX Runtime 1.31 on one thread of a server's core (the count is within a quarter
of a clock on a quiet machine, from 5 to 180 µs). A slower device is slower by much the same factor
for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import NodeProto, helper, shape_inference

from edge.errors import BadInput

# Microseconds of one row: of a call, of a node, of one step down a tree, of a multiplication in a
# matrix product, of a value that any other node writes, of a candidate that TopK keeps.
CALL, NODE, STEP, PRODUCT, VALUE, KEPT = 5.0, 0.3, 0.002, 0.0003, 0.0003, 0.05
# Of support vectors: the kernel, and each of its features.
VECTOR, COORDINATE = 0.002, 0.0006


@dataclass(frozen=True)
class Caps:
    """Limits on a router's file: ``bytes``, and counted ``microseconds`` of one row.

    BadInput unless both are above 0.
    """

    bytes: int = 256 * 1024
    microseconds: float = 50.0

    def __post_init__(self) -> None:
        for what, value in (("bytes", self.bytes), ("microseconds", self.microseconds)):
            if not value > 0:
                raise BadInput(
                    f"the cap on a router's {what} leaves no room",
                    value=value,
                    bound="a number above 0",
                    remedy="The defaults are 262144 bytes and 50 microseconds.",
                )

    def excess(self, cost: Cost) -> float:
        """The larger of bytes and microseconds over their caps; at most 1 where both are kept."""
        return max(cost.bytes / self.bytes, cost.microseconds / self.microseconds)


@dataclass(frozen=True)
class Cost:
    """What a file costs: its ``bytes``, and the counted ``microseconds`` of one row."""

    bytes: int
    microseconds: float


def cost(model: onnx.ModelProto) -> Cost:
    """The cost of a router's file as it ships."""
    return Cost(len(model.SerializeToString(deterministic=True)), counted_microseconds(model))


def counted_microseconds(model: onnx.ModelProto) -> float:
    """The time of one row, added up over the nodes of the graph."""
    inferred = shape_inference.infer_shapes(model).graph
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        sizes[value.name] = math.prod(dim.dim_value or 1 for dim in dims)  # N counts as one row
    constant = {tensor.name for tensor in inferred.initializer}
    total = CALL
    for node in inferred.node:
        if constant.issuperset(node.input):  # computed once, as the file is loaded
            constant.update(node.output)
        else:
            total += NODE + _work(node, sizes)
    return total


def _work(node: NodeProto, sizes: dict[str, int]) -> float:
    given: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    written = VALUE * sum(sizes.get(name, 1) for name in node.output)
    if node.op_type.startswith("TreeEnsemble"):
        return written + STEP * sum(_depths(given).values())
    if node.op_type == "SVMClassifier":
        vectors, numbers = int(sum(given["vectors_per_class"])), len(given["support_vectors"])
        return written + VECTOR * vectors + COORDINATE * numbers
    if node.op_type in ("MatMul", "Gemm"):
        return written + PRODUCT * max(sizes.get(name, 1) for name in node.input)
    if node.op_type == "TopK":
        kept = max(sizes.get(name, 1) for name in node.output)
        return written + VALUE * sizes.get(node.input[0], 1) + KEPT * kept
    return written


def _depths(trees: dict[str, Any]) -> dict[int, int]:
    """The depth of each tree: the longest way that a row can take."""
    rows = zip(
        trees["nodes_treeids"],
        trees["nodes_nodeids"],
        trees["nodes_modes"],
        trees["nodes_truenodeids"],
        trees["nodes_falsenodeids"],
        strict=True,
    )
    below = {
        (tree, node): () if mode == b"LEAF" else (yes, no) for tree, node, mode, yes, no in rows
    }
    children = {(tree, node) for (tree, _), pair in below.items() for node in pair}
    depths: dict[int, int] = {}
    level = [key for key in below if key not in children]
    depth = 0
    while level:
        depths |= {tree: depth for tree, _ in level}
        level = [(tree, node) for tree, parent in level for node in below[tree, parent]]
        depth += 1
    return depths
