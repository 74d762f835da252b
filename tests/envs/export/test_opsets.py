"""Two files that use other versions of the same operators become one, or say why not."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from envs.export.opsets import agreed


def model(*nodes: tuple[str, str, dict[str, Any]], **versions: int) -> ModelProto:
    """One operator after the other; ``standard`` and ``ml`` are the versions declared."""
    steps = [
        helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"], domain=domain, **attributes)
        for i, (kind, domain, attributes) in enumerate(nodes)
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])
        for name in ("t0", f"t{len(nodes)}")
    ]
    graph = helper.make_graph(steps, "g", ports[:1], ports[1:])
    names = {"standard": "", "ml": "ai.onnx.ml"}
    opsets = [helper.make_opsetid(names[name], version) for name, version in versions.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def declared(found: ModelProto) -> dict[str, int]:
    return {item.domain: item.version for item in found.opset_import}


RELU: tuple[str, str, dict[str, Any]] = ("Relu", "", {})
SCALER: tuple[str, str, dict[str, Any]] = (
    "Scaler", "ai.onnx.ml", {"offset": [0.0, 0.0], "scale": [1.0, 1.0]},
)  # fmt: skip
TREES: tuple[str, str, dict[str, Any]] = ("TreeEnsembleRegressor", "ai.onnx.ml", {})
NORMS: tuple[str, str, dict[str, Any]] = ("LabelEncoder", "ai.onnx.ml", {})


def test_a_version_of_what_one_side_never_uses_is_no_conflict() -> None:
    # what an int8 student declared beside a router of trees
    one, two = agreed(model(RELU, standard=18, ml=5), model(TREES, standard=18, ml=3))
    assert declared(one) == declared(two) == {"": 18, "ai.onnx.ml": 3}


def test_operators_that_have_not_changed_meet_at_the_newer_version() -> None:
    one, two = agreed(model(SCALER, standard=18, ml=5), model(SCALER, standard=18, ml=1))
    assert declared(one) == declared(two) == {"": 18, "ai.onnx.ml": 5}


def test_a_deprecated_operator_holds_the_version_down() -> None:
    # trees are deprecated in 5; a label encoder of 5 has been the same since 4, and trees since 3
    one, two = agreed(model(NORMS, standard=18, ml=5), model(TREES, standard=18, ml=3))
    assert declared(one) == declared(two) == {"": 18, "ai.onnx.ml": 4}


def test_versions_that_mean_something_else_are_named() -> None:
    # a label encoder of 1 is another operator
    with pytest.raises(ValueError, match="versions 5 and 1 of the operators ai.onnx.ml"):
        agreed(model(NORMS, standard=18, ml=5), model(NORMS, standard=18, ml=1))


def test_the_standard_domain_is_converted_where_an_operator_changed() -> None:
    # ReduceMax has taken its axes as an input since 18
    old = model(("ReduceMax", "", {"axes": [1], "keepdims": 1}), standard=13)
    new = model(("Split", "", {"axis": 1, "num_outputs": 1}), standard=18)
    one, two = agreed(old, new)
    assert declared(one) == declared(two) == {"": 18}
    assert not [a for node in one.graph.node for a in node.attribute if a.name == "axes"]
    onnx.checker.check_model(one)


def test_the_models_given_stay_as_they_are() -> None:
    one, two = model(RELU, standard=13), model(RELU, standard=18)
    before = one.SerializeToString(), two.SerializeToString()
    agreed(one, two)
    assert (one.SerializeToString(), two.SerializeToString()) == before
