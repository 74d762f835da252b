"""Edge, cloud and both on data: every figure worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle import Bundle
from edge.errors import BadInput
from search.report.bundle_evaluation import evaluate
from teachers.data.datasets import Dataset
from tests.edge.models import bundle_at, linear, pixels

# Left, tie, right, and right as a picture of "left": the student (threshold .75) trusts all but
# the tie, takes a tie for the first class, and so errs on rows 1 and 3. The teacher prefers the
# second class in a tie, and errs on row 3 alone.
IMAGES = pixels((255, 0), (255, 255), (0, 255), (0, 255))
LABELS = np.array([0, 1, 1, 0])
TIE = np.array([False, True, False, False])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_at(tmp_path / "bundle")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(linear((0.0, 2.0)))
    return path


def data(names: tuple[str, ...] = ("left", "right"), train_rows: int = 0) -> Dataset:
    return Dataset("two pixels", IMAGES, LABELS, names, train_rows)


def test_edge_cloud_cooperation_and_oracle(bundle: Bundle, teacher: Path) -> None:
    found = evaluate(bundle, teacher, data())
    assert found.student.tolist() == [1, 0, 1, 0]
    assert found.teacher.tolist() == [1, 1, 1, 0]
    assert found.appealed.tolist() == TIE.tolist()

    said = found.result()
    assert (said["rows"], said["edge_only"], said["cloud_only"]) == (4, 0.5, 0.75)
    # the one appeal is the one that helps, so nobody could do better with it or with more
    assert (said["appeals"], said["cooperation"], said["acc_i"]) == (0.25, 0.75, 1.0)
    assert (said["oracle"], said["oracle_at"]) == (0.75, 0.75)
    assert said["risk"] == pytest.approx(1 / 3)  # one of three trusted answers is wrong
    # accuracies .5, .75, .75, .75, .75 at rates 0, 1/4 … 1: trapezoids of .625 and three of .75
    assert said["area"] == said["oracle_area"] == pytest.approx((0.625 + 3 * 0.75) / 4)
    assert said["random_area"] == pytest.approx((0.5 + 0.75) / 2)


def test_every_class_has_figures_of_its_own(bundle: Bundle, teacher: Path) -> None:
    left, right = evaluate(bundle, teacher, data()).per_class()
    assert (left.name, left.rows) == ("left", 2)
    assert (left.student, left.teacher, left.pair, left.oracle, left.appeals) == (
        0.5, 0.5, 0.5, 0.5, 0.0,
    )  # fmt: skip
    assert (right.name, right.rows) == ("right", 2)
    assert (right.student, right.teacher, right.pair, right.oracle, right.appeals) == (
        0.5, 1.0, 1.0, 1.0, 0.5,
    )  # fmt: skip


def test_classes_go_by_name_not_by_place(bundle: Bundle, teacher: Path) -> None:
    swapped = Dataset("two pixels", IMAGES, 1 - LABELS, ("right", "left"), 0)
    assert evaluate(bundle, teacher, swapped).result()["edge_only"] == 0.5
    with pytest.raises(BadInput, match="other classes than the bundle"):
        evaluate(bundle, teacher, data(("left", "up")))


def test_the_test_table_is_taken_unless_all_is_asked_for(bundle: Bundle, teacher: Path) -> None:
    done: list[int] = []
    assert evaluate(bundle, teacher, data(train_rows=1), on_rows=done.append).result()["rows"] == 3
    assert done == [3]
    assert evaluate(bundle, teacher, data(train_rows=1), "all").result()["rows"] == 4
    with pytest.raises(BadInput, match="without a test table; .*--rows all"):
        evaluate(bundle, teacher, data(train_rows=4))


def test_the_picture_names_router_oracle_and_chance(bundle: Bundle, teacher: Path) -> None:
    picture = evaluate(bundle, teacher, data()).picture()
    assert picture.lstrip().startswith("<svg")
    assert "25.0 % appeals and 75.00 % accuracy" in picture


def test_what_an_input_costs(bundle: Bundle, teacher: Path) -> None:
    """One of four is appealed, and pays for the edge as well (AppealNet Eq. 15)."""
    known = replace(bundle.manifest.teacher, macs=1000)
    priced = replace(bundle, manifest=replace(bundle.manifest, teacher=known))
    costs = evaluate(priced, teacher, data(), cost_per_appeal=2.0).result()["costs"]
    edge = bundle.manifest.student.macs
    assert costs["macs"] == {
        "edge_only": edge, "cloud_only": 1000, "cooperation": edge + 0.25 * 1000
    }  # fmt: skip
    sent = IMAGES[0].nbytes
    assert costs["bytes"] == {"edge_only": 0, "cloud_only": sent, "cooperation": 0.25 * sent}
    assert costs["price"] == {"edge_only": 0, "cloud_only": 2.0, "cooperation": 0.5}
    # nobody has counted this teacher's, and no price was named
    assert list(evaluate(bundle, teacher, data()).result()["costs"]) == ["bytes"]
