"""Routers in operators of the ONNX standard domain, for runtimes that lack ``ai.onnx.ml``.

Converters write trees and support vectors as single operators of that domain, which ONNX Runtime
has, and OpenVINO, TensorRT and most browsers' runtimes have not. Each is rewritten to compute the
same. Trees are walked all at once: a step looks up, for every tree, the feature and threshold of
the node that it has reached, and goes on to one of its children; a leaf leads to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from routers.onnx import export
from routers.onnx.nodes import Writer

ML = "ai.onnx.ml"
_ROW = np.array([1], dtype=np.int64)
_COMPARE = {
    "BRANCH_LEQ": "LessOrEqual", "BRANCH_LT": "Less",
    "BRANCH_GTE": "GreaterOrEqual", "BRANCH_GT": "Greater",
}  # fmt: skip


def standard(model: ModelProto) -> ModelProto:
    """The same router without operators of ``ai.onnx.ml``; itself where it has none.

    Scores agree as closely as float32 adds up: what is left out of the labels, which no router
    gives, is not rewritten.

    Raises:
        ValueError: it has an operator, or a use of one, that is not known here.
    """
    if not any(node.domain == ML for node in model.graph.node):
        return model
    nodes = list[NodeProto]()
    for place, node in enumerate(model.graph.node):
        if node.domain != ML:
            nodes.append(node)
            continue
        rewrite = REWRITES.get(node.op_type)
        if rewrite is None:
            raise ValueError(f"{node.op_type} of {ML} is not known in standard operators")
        write = Writer(f"standard_{place}_")
        rewrite(write, node, _Attributes(node))
        nodes += write.nodes
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    classes = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return export.build(nodes, classes, constants)


class _Attributes:
    """Attributes of a node by name, with what the standard says where one is missing."""

    def __init__(self, node: NodeProto) -> None:
        self._found = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def text(self, name: str, default: str) -> str:
        value = self._found.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def texts(self, name: str) -> list[str]:
        return [value.decode() for value in self._found.get(name, [])]

    def numbers(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        return np.array(self._found.get(name, []), dtype=kind)

    def number(self, name: str, default: int) -> int:
        return int(self._found.get(name, default))


def _trees(write: Writer, node: NodeProto, said: _Attributes) -> None:
    forest = _Forest(said)
    rows = node.input[0]
    features, thresholds, true, false = map(
        write.constant, (forest.feature, forest.threshold, forest.true, forest.false)
    )
    at: str | NDArray[np.int32] = forest.roots
    for _ in range(forest.depth):
        feature = write("Gather", features, at)
        if isinstance(at, str):
            seen = write("GatherElements", rows, write("Cast", feature, to=_INT64), axis=1)
        else:
            # the roots are the same for every row
            seen = write("Gather", rows, write("Cast", feature, to=_INT64), axis=1)
        first = write(forest.compare, seen, write("Gather", thresholds, at))
        children = [write("Gather", side, at) for side in (true, false)]
        at = write("Where", first, *children)
    leaf = write("Gather", forest.weight, at)
    if forest.depth == 0:
        # a forest of leaves alone says the same of every row
        nothing = write("Mul", write("Gather", rows, np.array([0]), axis=1), _number(0))
        leaf = write("Add", nothing, leaf)
    total = write("Add", write("ReduceSum", leaf, _ROW, keepdims=1), _number(forest.base))
    logistic = said.text("post_transform", "NONE") == "LOGISTIC"
    right = write("Sigmoid", total) if logistic else total
    if not logistic and forest.signed:
        wrong = write("Neg", right)
    else:
        wrong = write("Sub", _number(1), right)
    write("Concat", wrong, right, axis=1, output=node.output[1])


_INT64 = int(TensorProto.INT64)


class _Forest:
    """All trees of an ensemble of two classes, one node after the other.

    ``roots``: per tree; ``feature``, ``threshold``, ``true``, ``false``, ``weight``: per node, the
    weight that of a leaf for the second class.
    """

    def __init__(self, said: _Attributes) -> None:
        trees, ids = (said.numbers(f"nodes_{n}", np.int64) for n in ("treeids", "nodeids"))
        place = {key: i for i, key in enumerate(zip(trees.tolist(), ids.tolist(), strict=True))}
        modes = said.texts("nodes_modes")
        branching = np.array([mode != "LEAF" for mode in modes])
        kinds = {mode for mode in modes if mode != "LEAF"}
        transform = said.text("post_transform", "NONE")
        if len(kinds) > 1 or not kinds <= set(_COMPARE) or transform not in ("NONE", "LOGISTIC"):
            raise ValueError(f"trees with {sorted(kinds)} and {transform} are not known")
        self.compare = _COMPARE[kinds.pop()] if kinds else "LessOrEqual"
        starts = np.r_[True, trees[1:] != trees[:-1]]
        self.roots = np.flatnonzero(starts).astype(np.int32)
        feature = np.where(branching, said.numbers("nodes_featureids", np.int64), 0)
        self.feature = feature.astype(np.uint8 if feature.max() < 256 else np.int32)
        self.threshold = np.where(
            branching, said.numbers("nodes_values", np.float32), np.float32(0)
        )
        self.true, self.false = (
            np.array(
                [
                    place[tree, child] if inner else i
                    for i, (tree, child, inner) in enumerate(
                        zip(trees.tolist(), said.numbers(name, np.int64).tolist(), branching,
                            strict=True)
                    )
                ],
                dtype=np.int32,
            )
            for name in ("nodes_truenodeids", "nodes_falsenodeids")
        )  # fmt: skip
        self.weight = np.zeros(len(trees), np.float32)
        self._weigh(said, place)
        self.depth = self._depth()

    def _weigh(self, said: _Attributes, place: dict[tuple[int, int], int]) -> None:
        classes = said.numbers("class_ids", np.int64)
        weights = said.numbers("class_weights", np.float32)
        base = said.numbers("base_values", np.float32)
        if len(set(classes.tolist())) > 1 or len(base) > 1:
            raise ValueError("trees that weigh several classes are not known")
        keys = zip(
            said.numbers("class_treeids", np.int64).tolist(),
            said.numbers("class_nodeids", np.int64).tolist(),
            strict=True,
        )
        np.add.at(self.weight, [place[key] for key in keys], weights)
        self.base = float(base.sum())
        #: a sum of weights of both signs is that of a decision at 0, not a probability
        self.signed = bool((weights < 0).any())

    def _depth(self) -> int:
        """Steps after which every tree has reached a leaf."""
        at, steps = self.roots, 0
        while True:
            inner = at[self.true[at] != at]
            if not len(inner):
                return steps
            at, steps = np.unique(np.r_[self.true[inner], self.false[inner]]), steps + 1


def _support_vectors(write: Writer, node: NodeProto, said: _Attributes) -> None:
    """``Σ αᵢ exp(−γ|x − sᵢ|²) + ρ``, in float64: squared distances as differences of products."""
    kernel, transform = said.text("kernel_type", "LINEAR"), said.text("post_transform", "NONE")
    weights = said.numbers("coefficients", np.float32)
    rho, vectors = said.numbers("rho", np.float32), said.numbers("support_vectors", np.float32)
    plain = not len(said.numbers("prob_a", np.float32)) and len(rho) == 1
    if kernel != "RBF" or transform != "NONE" or not plain:
        raise ValueError(f"support vectors with {kernel} and {transform} are not known")
    vectors = vectors.reshape(len(weights), -1)
    gamma = float(said.numbers("kernel_params", np.float32)[0])

    x = write("Cast", node.input[0], to=TensorProto.DOUBLE)
    known = write("Cast", np.ascontiguousarray(vectors.T), to=TensorProto.DOUBLE)
    length = np.sum(vectors.astype(np.float64) ** 2, axis=1)
    norm = write("ReduceSum", write("Mul", x, x), _ROW, keepdims=1)
    cross = write("Mul", write("MatMul", x, known), np.array(2.0))
    squared = write("Sub", write("Add", norm, length), cross)
    near = write("Exp", write("Mul", write("Max", squared, np.array(0.0)), np.array(-gamma)))
    total = write("MatMul", near, weights.astype(np.float64)[:, None])
    total = write("Add", total, np.array(float(rho[0])))
    score = write("Cast", total, to=TensorProto.FLOAT)
    write("Concat", write("Neg", score), score, axis=1, output=node.output[1])


def _scaler(write: Writer, node: NodeProto, said: _Attributes) -> None:
    moved = write("Sub", node.input[0], said.numbers("offset", np.float32))
    write("Mul", moved, said.numbers("scale", np.float32), output=node.output[0])


def _columns(write: Writer, node: NodeProto, said: _Attributes) -> None:
    """Columns of the last axis, by an index that is an input."""
    which = write("Reshape", node.input[1], np.array([-1]))  # an index alone is a column, too
    write("Gather", node.input[0], which, axis=-1, output=node.output[0])


Rewrite = Callable[[Writer, NodeProto, _Attributes], None]
#: operators of ``ai.onnx.ml`` that routers are made of
REWRITES: dict[str, Rewrite] = {
    "TreeEnsembleClassifier": _trees,
    "SVMClassifier": _support_vectors,
    "Scaler": _scaler,
    "ArrayFeatureExtractor": _columns,
}


def _number(value: float) -> NDArray[np.float32]:
    return np.array(value, dtype=np.float32)


def needs_ml(model: bytes) -> bool:
    """Whether a serialised router uses operators of ``ai.onnx.ml``."""
    return any(node.domain == ML for node in onnx.load_model_from_string(model).graph.node)
