"""Graphs that no exporter writes: cycles, endless growth, impossible sizes, foreign operators."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.teachers.hostile_files import Hostile, changed, small
from tests.teachers.onnx_graphs import floats, ints, model, node, tail, weights


def _cycle() -> bytes:
    return small(node("Relu", "b", "a"), node("Add", "a x", "b"), node("Relu", "b", "m"))


def _functions(depth: int, calls: int, circular: bool = False) -> bytes:
    """Functions that each call the next one several times."""
    made = model([helper.make_node("f0", ["x"], ["m"], domain="own"), *tail("m")], {})
    for level in range(depth):
        last = level == depth - 1
        op = ("f0" if circular else "Relu") if last else f"f{level + 1}"
        domain = "" if last and not circular else "own"
        nodes = [
            helper.make_node(op, ["a" if i == 0 else f"t{i - 1}"], [f"t{i}"], domain=domain)
            for i in range(calls)
        ]
        made.functions.append(
            helper.make_function(
                "own",
                f"f{level}",
                ["a"],
                [f"t{calls - 1}"],
                nodes,
                [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)],
            )
        )
    made.opset_import.append(helper.make_opsetid("own", 1))
    return bytes(made.SerializeToString())


def _deep_branches() -> bytes:
    graph = helper.make_graph(
        [node("Relu", "x", "inner")],
        "g",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    for level in range(30):
        made = helper.make_node("If", ["c"], [f"o{level}"], then_branch=graph, else_branch=graph)
        # one graph in both branches doubles with every level, unless one branch is a stub
        stub = helper.make_graph([], "s", [], [])
        made.attribute[1].g.CopyFrom(stub)
        graph = helper.make_graph(
            [made], "g", [], [helper.make_tensor_value_info(f"o{level}", TensorProto.FLOAT, None)]
        )
    last = helper.make_node("If", ["c"], ["m"], then_branch=graph, else_branch=graph)
    return small(last, c=np.array(True))


def _branch(given: str) -> bytes:
    """An If whose branches give a tensor that nothing, or only itself, writes."""
    nodes = [node("Relu", "q", "w"), node("Relu", "w", "q")] if given == "q" else []
    made = helper.make_tensor_value_info(given, TensorProto.FLOAT, None)
    branch = helper.make_graph(nodes, "branch", [], [made])
    taken = helper.make_node("If", ["c"], ["m"], then_branch=branch, else_branch=branch)
    return small(taken, c=np.array(True))


def _endless() -> bytes:
    """A Loop whose condition stays true, without a bound on its turns."""
    inputs = [
        helper.make_tensor_value_info("turn", TensorProto.INT64, []),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("still", TensorProto.BOOL, [])]
    body = helper.make_graph([node("Identity", "on", "still")], "body", inputs, outputs)
    return small(node("Loop", "_ t", "m", body=body), t=np.array(True))


def _wide(op: str) -> bytes:
    return small(helper.make_node(op, ["x"] * 100_000, ["m"]))


def _two_inputs(made: ModelProto) -> None:
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3, 8, 8]))
    made.graph.node[0].input[2:] = ["z"]  # a label that nothing reads would be no harm


def _function_of_graphs() -> bytes:
    """Functions whose nodes hold lists of graphs, each of which calls the next one four times."""
    made = model([helper.make_node("f0", ["x"], ["m"], domain="own"), *tail("m")], {})
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    for level in range(21):
        holder = node("Relu", "a", "b")
        if level < 20:
            call = helper.make_node(f"f{level + 1}", ["a"], ["b"], domain="own")
            inner = helper.make_graph([call], "inner", [], [])
            holder.attribute.append(helper.make_attribute("graphs", [inner] * 4))
        made.functions.append(
            helper.make_function("own", f"f{level}", ["a"], ["b"], [holder], opsets)
        )
    made.opset_import.append(opsets[1])
    return bytes(made.SerializeToString())


def _uint8_input(made: ModelProto) -> None:
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def _sparse(made: ModelProto) -> None:
    values = numpy_helper.from_array(floats(1), "s")
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(ints(0)), [2**40])
    )


def _duplicate(made: ModelProto) -> None:
    made.graph.node[1].output[0] = made.graph.node[0].output[0]


def _same_initialisers(made: ModelProto) -> None:
    made.graph.initializer.append(made.graph.initializer[0])


def _missing(made: ModelProto) -> None:
    del made.graph.initializer[0]


def _foreign(made: ModelProto) -> None:
    made.graph.node[2].domain = "com.evil"


def _no_output(made: ModelProto) -> None:
    made.graph.output[0].name = "nowhere"


def _two_outputs(made: ModelProto) -> None:
    made.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 4]))


def _many_nodes() -> bytes:
    names = ["x", *(f"t{i}" for i in range(10_001)), "m"]
    return small(*(node("Relu", a, b) for a, b in pairwise(names)))


BIG = 2**40

GRAPHS: Hostile = {
    "cycle": (_cycle, "cycle"),
    "self-loop": (lambda: small(node("Add", "x m", "m")), "cycle"),
    "missing initialiser": (lambda: changed(_missing), "Conv.*not there.*conv1.weight"),
    "two writers": (lambda: changed(_duplicate), "already there"),
    "two initialisers of a name": (lambda: changed(_same_initialisers), "share a name"),
    "no such output": (lambda: changed(_no_output), "nowhere"),
    "two outputs": (lambda: changed(_two_outputs), "2 outputs.*extract_model"),
    "two inputs": (lambda: changed(_two_inputs), "2 inputs: x, z"),
    "input of bytes": (lambda: changed(_uint8_input), "UINT8"),
    "wrong rank": (
        lambda: model(tail("x"), {}, image=("N", 3, 8)).SerializeToString(),
        r"3 axes.*\[3, 8, 8\]",
    ),
    "wrong size": (
        lambda: model(tail("x"), {}, image=("N", 3, 9, 8)).SerializeToString(),
        r"\[3, 9, 8\].*\[3, 8, 8\]",
    ),
    "wrong classes": (
        lambda: model(tail("x"), {}, logits=("N", 3)).SerializeToString(),
        "3 outputs.*4, the classes",
    ),
    "wrong classes, undeclared": (
        lambda: model(tail("x"), {}, logits=("N", None)).SerializeToString(),
        "4, the classes",
    ),
    "custom domain": (lambda: changed(_foreign), r"Relu_c.*custom domain.*com\.evil"),
    "sparse": (lambda: changed(_sparse), "sparse"),
    "loop": (lambda: small(node("Loop", "x", "m")), "Loop.*forward"),
    "billion nodes": (lambda: _functions(30, 2), "functions unfold"),
    "circular functions": (lambda: _functions(2, 1, circular=True), "circle"),
    "billion nodes in lists of graphs": (_function_of_graphs, "functions unfold"),
    "sum of 100,000": (lambda: _wide("Sum"), "node 0 .Sum. is too large"),
    "outputs of a split by the million": (
        lambda: small(node("Split", "x", "m " + " ".join(f"s{i}" for i in range(10**6)))),
        "node 0 .Split. is too large",
    ),
    "attributes by the thousand": (
        lambda: small(node("Relu", "x", "m", **{f"a{i}": i for i in range(1000)})),
        "1000 attributes",
    ),
    "dimension of the image": (
        lambda: model(tail("x"), {}, image=("N", 3, 2**62, 8)).SerializeToString(),
        "another size than its JSON",
    ),
    "squeeze of axis 99": (
        lambda: small(node("Squeeze", "x a", "m"), a=ints(99)),
        "drops axes",
    ),
    "infinite slope": (
        lambda: small(node("LeakyRelu", "x", "m", alpha=float("inf"))),
        "LeakyRelu.*finite",
    ),
    "negative epsilon": (
        lambda: small(node("InstanceNormalization", "x o o", "m", epsilon=-5.0), o=floats(1, 1, 1)),
        "impossible epsilon",
    ),
    "hours of multiplying": (
        lambda: small(
            node("ConstantOfShape", "s", "c"),
            node("MatMul", "c c", "e"),
            node("Add", "x e", "m"),
            s=ints(8000, 8000),
        ),
        "MatMul.*too large",
    ),
    "branch that reads itself": (lambda: _branch("q"), "cycle"),
    "branch without its output": (lambda: _branch("nowhere"), "not there.*nowhere"),
    "loop for ever": (_endless, "Loop.*forward"),
    "deep branches": (_deep_branches, "too large|not a whole ONNX"),
    "too many nodes": (_many_nodes, "too large"),
    "terabytes by ConstantOfShape": (
        lambda: small(node("ConstantOfShape", "s", "c"), node("Add", "x c", "m"), s=ints(BIG)),
        "ConstantOfShape.*too large",
    ),
    "terabytes by Expand": (
        lambda: small(
            node("Expand", "o s", "c"), node("Add", "x c", "m"), o=floats(1), s=ints(BIG, 4)
        ),
        "Expand.*too large",
    ),
    "terabytes by Tile": (
        lambda: small(node("Tile", "o s", "c"), node("Add", "x c", "m"), o=floats(1), s=ints(BIG)),
        "Tile.*too large",
    ),
    "terabytes by Range": (
        lambda: small(
            node("Range", "a b c", "r"),
            node("Cast", "r", "f", to=1),
            node("Add", "x f", "m"),
            a=np.array(0),
            b=np.array(BIG),
            c=np.array(1),
        ),
        "Range.*too large",
    ),
    "terabytes by broadcasting": (
        lambda: small(
            node("Mul", "a b", "c"),
            node("Add", "x c", "m"),
            a=np.ones((2**16, 1), np.float32),
            b=np.ones((1, 2**16), np.float32),
        ),
        "Mul.*too large",
    ),
    "terabytes by padding": (
        lambda: small(node("Pad", "x p", "m"), p=ints(0, 0, 0, 0, 0, 0, 2**19, 2**19)),
        "Pad.*too large",
    ),
    "terabytes by resizing": (
        lambda: small(node("Resize", "x _ s", "m"), s=floats(1, 1, 1e9, 1e9)),
        "Resize.*impossible",
    ),
    "convolution padded by 2^40": (
        lambda: small(node("Conv", "x k", "m", pads=[BIG] * 4), **weights(k=(4, 3, 3, 3))),
        "Conv.*pads",
    ),
    "stride 0": (
        lambda: small(node("Conv", "x k", "m", strides=[0, 1]), **weights(k=(4, 3, 3, 3))),
        "Conv.*strides",
    ),
    "0 groups": (
        lambda: small(node("Conv", "x k", "m", group=0), **weights(k=(4, 3, 3, 3))),
        "Conv.*0 groups",
    ),
    "kernel larger than the image": (
        lambda: small(node("Conv", "x k", "m"), **weights(k=(4, 3, 9, 9))),
        "Conv.*does not run",
    ),
    "division by zero": (
        lambda: small(node("Div", "x z", "m"), z=floats(0)),
        "Div.*divides by zero",
    ),
    "negative variance": (
        lambda: small(
            node("BatchNormalization", "x o o o v", "m"), o=floats(1, 1, 1), v=floats(1, -1, 1)
        ),
        "variance",
    ),
    "NaN as an attribute": (
        lambda: small(node("LeakyRelu", "x", "m", alpha=float("nan"))),
        "LeakyRelu.*finite",
    ),
    "part of the batch": (
        lambda: small(node("Slice", "x s e a", "m"), s=ints(0), e=ints(1), a=ints(0)),
        "Slice.*part of the batch",
    ),
    "logits that ignore the image": (
        lambda: model(
            [node("Identity", "c", "y")], {"c": np.ones((1, 4), np.float32)}
        ).SerializeToString(),
        "does not depend",
    ),
}
