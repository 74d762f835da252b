from __future__ import annotations

import numpy as np
import pytest

from routers.selection.labels import student_right


def test_a_row_is_normal_where_the_largest_logit_is_the_labels() -> None:
    logits = np.array([[2.0, 1.0], [2.0, 1.0], [-3.0, -1.0], [5.0, 5.0]], dtype=np.float32)
    labels = np.array([0, 1, 1, 1])
    # The last row is a tie: the first class wins it, so label 1 is missed.
    assert student_right(logits, labels).tolist() == [1, 0, 1, 0]


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3,\)"):
        student_right(np.zeros((4, 2)), np.zeros(3, dtype=np.int64))
