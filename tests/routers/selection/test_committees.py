"""The contract of every committee, and what keeps its members cheap."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from routers.selection.committees import COMMITTEES, Capped, Resampled
from routers.selection.labels import student_right
from tests.routers.rows import crooked

OLD, NEW = crooked(400, seed=1), crooked(50, seed=2)
RIGHT = student_right(OLD.logits, OLD.labels)


@pytest.mark.parametrize("name", sorted(COMMITTEES))
class TestEveryCommittee:
    def test_three_members_give_probabilities_of_both_kinds(self, name: str) -> None:
        members = COMMITTEES[name](0, len(RIGHT))
        assert len(members) == 3  # Zhang VI-A: L = 3
        for member in members:
            member.fit(OLD.logits, RIGHT)
            p = member.predict_proba(NEW.logits)
            assert p.shape == (50, 2)
            assert p.min() >= 0
            assert p.sum(axis=1) == pytest.approx(np.ones(50))

    def test_members_tell_right_from_wrong_in_this_order_of_columns(self, name: str) -> None:
        right = student_right(NEW.logits, NEW.labels)
        for member in COMMITTEES[name](0, len(RIGHT)):
            member.fit(OLD.logits, RIGHT)
            p = member.predict_proba(NEW.logits)[:, 1]
            assert p[right == 1].mean() > p[right == 0].mean() + 0.2

    def test_no_two_members_agree_on_everything(self, name: str) -> None:
        found = []
        for member in COMMITTEES[name](0, len(RIGHT)):
            member.fit(OLD.logits, RIGHT)
            found.append(member.predict_proba(NEW.logits)[:, 1])
        for i in range(3):
            assert np.abs(found[i] - found[i - 1]).max() > 1e-3

    def test_one_row_of_each_kind_can_be_fitted(self, name: str) -> None:
        for member in COMMITTEES[name](0, 2):
            member.fit(OLD.logits[:2], np.array([0, 1]))
            assert member.predict_proba(NEW.logits).shape == (50, 2)


class Seen:
    """Remembers the labels that it was fitted on."""

    def __init__(self) -> None:
        self.right: list[int] = []
        self.rows: list[float] = []

    def fit(self, features: NDArray[np.float32], right: NDArray[np.int64], /) -> object:
        self.right, self.rows = right.tolist(), features[:, 0].tolist()
        return self

    def predict_proba(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        return np.full((len(features), 2), 0.5)


NUMBERED = np.arange(40, dtype=np.float32)[:, None]
TEN_WRONG = np.repeat(np.array([0, 1], dtype=np.int64), [10, 30])


def test_a_capped_member_sees_its_share_of_each_kind() -> None:
    inner = Seen()
    Capped(inner, 8, seed=0).fit(NUMBERED, TEN_WRONG)
    assert inner.right == [0, 0, 1, 1, 1, 1, 1, 1]  # a quarter of 8 is 2
    assert [row < 10 for row in inner.rows] == [kind == 0 for kind in inner.right]


def test_a_resampled_member_sees_as_many_of_each_kind_and_some_of_them_twice() -> None:
    inner, other = Seen(), Seen()
    Resampled(inner, seed=0).fit(NUMBERED, TEN_WRONG)
    Resampled(other, seed=1).fit(NUMBERED, TEN_WRONG)
    assert inner.right == TEN_WRONG.tolist()
    assert len(set(inner.rows)) < 40
    assert inner.rows != other.rows
