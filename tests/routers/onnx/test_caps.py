from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.errors import BadInput
from routers.models.families import FAMILIES, rf
from routers.onnx import caps, export
from routers.onnx.caps import Caps, Cost, cost, counted_microseconds
from routers.selection.labels import student_right
from tests.routers.rows import student


def graph(nodes: list[onnx.NodeProto], known: dict[str, np.ndarray], width: int) -> onnx.ModelProto:
    result = helper.make_tensor_value_info("score", TensorProto.FLOAT, None)
    source = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", width])
    tensors = [numpy_helper.from_array(value, name) for name, value in known.items()]
    return helper.make_model(
        helper.make_graph(nodes, "by hand", [source], [result], tensors),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
    )


def test_a_product_and_a_choice_by_hand() -> None:
    """4 logits · a 4×50 matrix, of the 50 the 10 largest.

    The call; MatMul: a node, 200 products, 50 values; TopK: a node, 50 values read, 10 kept,
    10 values and 10 places written. The Cast of a constant is done once, and costs nothing.
    """
    model = graph(
        [
            helper.make_node("Cast", ["half"], ["matrix"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["logits", "matrix"], ["product"]),
            helper.make_node("TopK", ["product", "ten"], ["score", "place"]),
        ],
        {"half": np.zeros((4, 50), np.float16), "ten": np.array([10])},
        4,
    )
    expected = caps.CALL + 2 * caps.NODE + 200 * caps.PRODUCT + 120 * caps.VALUE + 10 * caps.KEPT
    assert counted_microseconds(model) == pytest.approx(expected)


def test_trees_are_counted_by_their_depth() -> None:
    """Tree 0 is a leaf alone: depth 0. Tree 1 is 0 → (1 → (3, 4), 2): depth 2."""
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["logits"],
        ["score"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 1, 1, 1, 1, 1],
        nodes_nodeids=[0, 0, 1, 2, 3, 4],
        nodes_modes=["LEAF", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
        nodes_truenodeids=[0, 1, 3, 0, 0, 0],
        nodes_falsenodeids=[0, 2, 4, 0, 0, 0],
    )
    found = counted_microseconds(graph([trees], {}, 3))
    assert found == pytest.approx(caps.CALL + caps.NODE + 2 * caps.STEP + caps.VALUE)


def test_support_vectors_are_counted_by_their_numbers() -> None:
    vectors = helper.make_node(
        "SVMClassifier",
        ["logits"],
        ["label", "score"],
        domain="ai.onnx.ml",
        vectors_per_class=[2, 3],
        support_vectors=[0.0] * 20,
    )
    found = counted_microseconds(graph([vectors], {}, 4))
    work = 5 * caps.VECTOR + 20 * caps.COORDINATE + 2 * caps.VALUE
    assert found == pytest.approx(caps.CALL + caps.NODE + work)


def test_a_forest_costs_more_with_every_tree_and_its_bytes_are_the_files() -> None:
    rows = student(300, 4, seed=0)
    right = student_right(rows.logits, rows.labels)
    models = [rf(rows.logits, right, 0, trees=n, depth=3).to_onnx(4) for n in (10, 20)]
    few, many = (cost(model) for model in models)
    assert few.bytes == len(models[0].SerializeToString())
    assert many.microseconds - few.microseconds == pytest.approx(10 * 3 * caps.STEP)


@pytest.mark.parametrize("name", ["svm", "knn", "xgb"])  # vectors, a product, trees
def test_the_count_is_of_the_order_of_the_clock(name: str) -> None:
    rows = student(400, 10, seed=0)
    model = FAMILIES[name](rows.logits, student_right(rows.logits, rows.labels), 0).to_onnx(10)
    # A busy machine is slower, never faster: the best of some clocks is the one to compare.
    clock = min(
        export.microseconds(model.SerializeToString(), rows.logits, runs=50) for _ in range(3)
    )
    assert 0.1 * clock < counted_microseconds(model) < 10 * clock


def test_the_larger_of_the_two_shares_decides() -> None:
    limits = Caps(bytes=1000, microseconds=10.0)
    assert limits.excess(Cost(bytes=500, microseconds=8.0)) == pytest.approx(0.8)
    assert limits.excess(Cost(bytes=1500, microseconds=8.0)) == pytest.approx(1.5)
    assert limits.excess(Cost(bytes=1000, microseconds=10.0)) == 1.0


@pytest.mark.parametrize(
    ("limit", "words"),
    [({"bytes": 0}, "bytes leaves no room: got 0"), ({"microseconds": float("nan")}, "got nan")],
)
def test_a_cap_that_leaves_no_room_is_refused(limit: dict[str, float], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Caps(**limit)  # type: ignore[arg-type]
