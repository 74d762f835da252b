"""Every feature by hand, and the contract of all of them: the file sees what the fit saw."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge.errors import BadInput
from routers.models.families import FAMILIES
from routers.onnx import export
from routers.onnx.features import FEATURES, feature
from routers.selection.labels import student_right
from routers.selection.qbc import at_random
from tests.routers.rows import student

CLASSES = (2, 10, 20, 21, 1000)


def width(name: str, classes: int) -> int:
    """As documented beside each member."""
    return {
        "logits": classes,
        "sorted_probabilities": min(classes, 10),
        "derived": min(classes, 10) + 5 + (classes if classes <= 20 else 0),
    }[name]


@cache
def exported(name: str, classes: int) -> bytes:
    """A graph from ``logits`` to ``features``, the member's nodes and nothing else."""
    nodes, result = feature(name).nodes("logits")
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", [result], ["features"])],
        name,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", None])],
    )
    opset = helper.make_opsetid("", export.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=export.IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def run(name: str, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    session = export._session(exported(name, logits.shape[1]))
    found: NDArray[np.float32] = session.run(None, {"logits": logits})[0]
    return found


def fresh(classes: int, scale: float = 1.0) -> NDArray[np.float32]:
    rows = student(1000 if classes < 1000 else 100, classes, seed=2).logits
    return (np.concatenate([rows, np.round(rows)]) * scale).astype(np.float32)


@pytest.mark.parametrize("name", sorted(FEATURES))
class TestEveryFeature:
    @pytest.mark.parametrize("classes", CLASSES)
    def test_the_width_is_as_documented(self, name: str, classes: int) -> None:
        wanted = width(name, classes)
        described = FEATURES[name].compute(fresh(classes)[:3])
        assert described.shape == (3, wanted)
        assert described.dtype == np.float32
        assert described.flags.c_contiguous
        assert FEATURES[name].width(classes) == wanted
        assert run(name, fresh(classes)[:3]).shape == (3, wanted)

    @pytest.mark.parametrize("classes", CLASSES)
    @pytest.mark.parametrize("scale", [0.01, 1.0, 20.0, 1e4])
    def test_the_file_gives_the_values_of_numpy(
        self, name: str, classes: int, scale: float
    ) -> None:
        logits = fresh(classes, scale)
        described, found = FEATURES[name].compute(logits), run(name, logits)
        # To the bit, but for entropies of nearly nothing, whose last digits are left over from
        # 1 + 1e-10: trees compare with thresholds.
        differs = found != described
        assert differs.mean() < 1e-2
        assert np.abs(found - described).max() < 1e-12
        assert np.abs(described[differs]).max(initial=0.0) < 1e-5

    @pytest.mark.parametrize("classes", [2, 10, 1000])
    def test_no_logit_of_float32_is_too_large(self, name: str, classes: int) -> None:
        largest = float(np.finfo(np.float32).max)
        signs = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (20, classes))
        signs[0], signs[1], signs[2] = 1.0, -1.0, 0.0
        # One alone at the limit is twice float32's largest above the others' mean.
        signs[3], signs[3, 1] = -1.0, 1.0
        logits = np.concatenate([signs * largest, signs * 1e-40, 1e4 + signs]).astype(np.float32)
        described = FEATURES[name].compute(logits)
        assert np.isfinite(described).all()
        np.testing.assert_allclose(run(name, logits), described, rtol=1e-6)

    def test_no_rows_have_no_features(self, name: str) -> None:
        assert FEATURES[name].compute(np.zeros((0, 4))).shape == (0, width(name, 4))
        none = np.zeros((0, 4), dtype=np.float32)
        assert run(name, none).shape == (0, width(name, 4))

    def test_rows_one_at_a_time_are_as_they_are_together(self, name: str) -> None:
        logits = fresh(10)[:20]
        alone = np.concatenate([run(name, logits[i : i + 1]) for i in range(20)])
        assert np.array_equal(run(name, logits), alone)

    def test_it_does_not_change_the_logits(self, name: str) -> None:
        logits = fresh(5)
        before = logits.copy()
        FEATURES[name].compute(logits)
        assert np.array_equal(logits, before)


@pytest.mark.parametrize("name", sorted(FEATURES))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_is_fitted_on_a_feature_decides_the_same_in_the_file(name: str, family: str) -> None:
    rows = student(600, 5, seed=1)
    right = student_right(rows.logits, rows.labels)
    described = FEATURES[name].compute(rows.logits)
    chosen = at_random(described, right, r=0.5, seed=0)
    router = FAMILIES[family](described[chosen], right[chosen], 0)
    new = student(2000, 5, seed=2).logits
    model = router.to_onnx(5, FEATURES[name]).SerializeToString()
    export.check_export(router.score(FEATURES[name].compute(new)), model, new)


# Odds of 1 : 5 : 2, so probabilities of 1/8, 5/8, 2/8.
ODDS = np.log(np.array([[1.0, 5.0, 2.0]]))


def test_sorted_probabilities_by_hand() -> None:
    found = FEATURES["sorted_probabilities"].compute(ODDS)
    assert found == pytest.approx(np.array([[5 / 8, 2 / 8, 1 / 8]]))


def test_of_many_classes_the_ten_largest_are_kept() -> None:
    # Odds of 1 to 12, shuffled: their sum is 78, and 12/78 to 3/78 are the ten largest.
    odds = np.random.default_rng(0).permutation(np.arange(1.0, 13.0))
    found = FEATURES["sorted_probabilities"].compute(np.log(odds)[None])
    assert found == pytest.approx(np.arange(12, 2, -1)[None] / 78)


def test_derived_features_by_hand() -> None:
    """Logits 0, 3, 0 have the mean 1; e³ = 20.0855, so p = 20.0855/22.0855 and twice 1/22.0855."""
    found = FEATURES["derived"].compute(np.array([[0.0, 3.0, 0.0]]))
    wanted = [
        *(2.0, -1.0, -1.0),  # centred, descending
        0.9094430,  # the largest probability
        0.8641645,  # minus the second largest, .0452785
        # .909443·ln .909443 + 2·.0452785·ln .0452785 = −.086327 − .280267
        -0.3665940,
        3.0949230,  # ln 22.0855
        0.9709836,  # 2 / (16 + 1 + 1)^¼
        *(0.0, 1.0, 0.0),  # the predicted class
    ]
    assert found == pytest.approx(np.array([wanted]), abs=1e-6)


def test_the_first_of_equal_logits_is_the_predicted_class() -> None:
    # As in what counts as right: `student_right` takes the first, too.
    tied = np.array([[1.0, 2.0, 2.0]], dtype=np.float32)
    for described in (FEATURES["derived"].compute(tied), run("derived", tied)):
        assert described[0, -3:].tolist() == [0.0, 1.0, 0.0]


def test_sorted_probabilities_do_not_say_which_class_is_which() -> None:
    logits = fresh(6)
    turned = FEATURES["sorted_probabilities"].compute(logits[:, [5, 3, 1, 0, 2, 4]])
    assert turned == pytest.approx(FEATURES["sorted_probabilities"].compute(logits))


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(BadInput, match="one of derived, logits, sorted_probabilities"):
        feature("pixels")
