"""Routers in standard operators say what the same ones say in the operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from routers.models.families import FAMILIES, FittedRouter, gbdt, rf, svm, xgb
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES
from routers.onnx.standard import standard
from routers.selection.labels import student_right
from tests.routers.rows import student

CLASSES = 6
FITTED = 300


def fit(family: Callable[..., FittedRouter], feature: str = "derived", **options: Any) -> Any:
    """A fitted router, its file, and the logits that both are asked about."""
    rows = student(FITTED + 500, CLASSES, seed=4)
    right = student_right(rows.logits[:FITTED], rows.labels[:FITTED])
    look = FEATURES[feature]
    router = family(look.compute(rows.logits[:FITTED]), right, 0, **options)
    return router, router.to_onnx(CLASSES, look), rows.logits[FITTED:]


@pytest.mark.parametrize("feature", sorted(FEATURES))
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_with_every_feature(name: str, feature: str) -> None:
    router, file, logits = fit(FAMILIES[name], feature)
    plain = standard(file)
    assert [item.domain for item in plain.opset_import] == [""]
    before, after = (export.run(m.SerializeToString(), logits) for m in (file, plain))
    np.testing.assert_allclose(after, before, atol=2e-6)
    expected = router.score(FEATURES[feature].compute(logits))
    export.check_export(expected, plain.SerializeToString(), logits)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (rf, {"trees": 1, "depth": 1}),  # a stump
        (rf, {"trees": 3, "depth": 14}),
        (rf, {"trees": 2, "leaf": 1000}),  # leaves alone: no row is looked at
        (gbdt, {"trees": 1, "depth": 1}),
        (gbdt, {"trees": 50, "depth": 5, "rate": 0.02}),  # all steps small, of both signs
        (xgb, {"trees": 20, "depth": 5, "leaves": 4}),
        (xgb, {"trees": 2, "weight": 1e9}),  # no split is worth it
        (svm, {"C": 0.03, "gamma": 3.0}),
        (svm, {"rows": 40}),
    ],
)
def test_shapes_that_tuning_may_come_upon(
    family: Callable[..., FittedRouter], options: dict[str, Any]
) -> None:
    _, file, logits = fit(family, **options)
    before, after = (export.run(m.SerializeToString(), logits) for m in (file, standard(file)))
    np.testing.assert_allclose(after, before, atol=2e-6)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_any_number_of_rows(rows: int) -> None:
    _, file, logits = fit(rf, trees=5)
    found = export.run(standard(file).SerializeToString(), logits[:rows])
    np.testing.assert_allclose(
        found, export.run(file.SerializeToString(), logits[:rows]), atol=1e-6
    )


@pytest.mark.parametrize("family", [rf, gbdt, xgb])
def test_a_row_at_a_threshold_goes_where_it_went(family: Callable[..., FittedRouter]) -> None:
    """≤ and < part at the very value of a threshold, which these rows have."""
    _, file, logits = fit(family, "logits", trees=30)
    (trees,) = [node for node in file.graph.node if node.op_type == "TreeEnsembleClassifier"]
    said = {a.name: helper.get_attribute_value(a) for a in trees.attribute}
    rows = np.repeat(logits[:1], len(said["nodes_values"]), axis=0).astype(np.float32)
    for row, column, value in zip(
        rows, said["nodes_featureids"], said["nodes_values"], strict=True
    ):
        row[column] = value
    before, after = (export.run(m.SerializeToString(), rows) for m in (file, standard(file)))
    np.testing.assert_allclose(after, before, atol=2e-6)


def test_a_file_of_trees_is_no_larger() -> None:
    _, file, _ = fit(rf)
    assert len(standard(file).SerializeToString()) < len(file.SerializeToString())


def test_what_needs_no_change_is_not_changed() -> None:
    file = SCORES["margin"].to_onnx(CLASSES)
    assert standard(file) is file


def test_an_operator_that_is_not_known_is_named() -> None:
    file = SCORES["margin"].to_onnx(CLASSES)
    file.graph.node.append(
        onnx.helper.make_node("Binarizer", ["logits"], ["b"], domain="ai.onnx.ml", threshold=0.0)
    )
    with pytest.raises(ValueError, match="Binarizer of ai.onnx.ml is not known"):
        standard(file)
