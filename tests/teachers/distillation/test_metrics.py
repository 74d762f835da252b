from __future__ import annotations

import numpy as np
import pytest

from edge.errors import BadInput
from teachers.distillation.metrics import METRICS, metric

# Six rows, three classes: class 0 has 4 rows (3 right), class 1 has 2 rows (1 right), class 2 none.
LABELS = np.array([0, 0, 0, 0, 1, 1])
LOGITS = np.array(
    [[2, 0, 0], [2, 0, 0], [2, 0, 0], [0, 0, 1], [0, 5, 0], [5, 0, 0]], dtype=np.float32
)


def test_accuracy_counts_rows() -> None:
    assert metric("accuracy")(LOGITS, LABELS) == pytest.approx(4 / 6)


def test_balanced_accuracy_counts_classes_that_are_there() -> None:
    # (3/4 + 1/2) / 2
    assert metric("balanced_accuracy")(LOGITS, LABELS) == pytest.approx(0.625)


@pytest.mark.parametrize("name", METRICS)
class TestEveryMetric:
    def test_is_one_where_all_is_right(self, name: str) -> None:
        assert METRICS[name](np.eye(3)[LABELS], LABELS) == 1.0

    def test_is_zero_where_all_is_wrong(self, name: str) -> None:
        assert METRICS[name](np.eye(3)[LABELS + 1], LABELS) == 0.0

    def test_does_not_depend_on_the_order_of_rows(self, name: str) -> None:
        assert METRICS[name](LOGITS[::-1], LABELS[::-1]) == METRICS[name](LOGITS, LABELS)

    def test_refuses_no_rows(self, name: str) -> None:
        with pytest.raises(ValueError, match="at least one row"):
            METRICS[name](np.zeros((0, 3)), np.zeros(0, dtype=np.int64))


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="accuracy, balanced_accuracy"):
        metric("f1")
