"""Algorithm 2 by hand, and what must hold of every way to choose rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import BadInput
from routers.selection import qbc
from routers.selection.committees import COMMITTEES, Classifier, default_committee
from routers.selection.qbc import SAMPLING, by_committee, entropy, select_normal
from tests.routers.rows import student


class Fixed:
    """A member whose P(wrong | x) stands in one column of the features."""

    def __init__(self, column: int) -> None:
        self.column = column
        self.fitted: tuple[list[float], list[int]] | None = None

    def fit(self, features: NDArray[np.float32], right: NDArray[np.int64], /) -> object:
        self.fitted = features[:, 2].tolist(), right.tolist()
        return self

    def predict_proba(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        wrong = features[:, self.column].astype(np.float64)
        return np.stack([wrong, 1 - wrong], axis=1)


def test_the_entropy_of_equation_11_is_in_nats() -> None:
    # −(½ ln ½ + ½ ln ½) = ln 2 = .693147; −(¼ ln ¼ + ¾ ln ¾) = .346574 + .215762 = .562335;
    # a certain member has entropy 0, by 0·ln 0 = 0.
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]])
    assert entropy(p) == pytest.approx([0.6931471806, 0.5623351446, 0.0], abs=1e-10)
    # Four classes of ¼ each: ln 4.
    assert entropy(np.full((1, 4), 0.25)) == pytest.approx([log(4)])


def test_algorithm_2_by_hand() -> None:
    """M = 4 complex rows, so ½·4 = 2 normal rows at random and 2 by the committee.

    Rows 0–3 are complex, 4–11 normal; the columns are P(wrong) for the two members, and the row.

        row   member 1   e₁      member 2   e₂      S = max
        4     .01        .056    .02        .098    .098
        5     .50        .693    .01        .056    .693   largest: member 1 is unsure
        6     .10        .325    .10        .325    .325
        7     .05        .199    .30        .611    .611
        8     .02        .098    .40        .673    .673   second: member 2 is unsure
        9     .20        .500    .20        .500    .500
        10    .00        .000    1.0        .000    .000   they contradict each other, but each
                                                           is sure: Eq. 12 does not call that unsure
        11    .25        .562    .25        .562    .562

    By the *mean* of the entropies, rows 11 (.562) and 9 (.500) would be first instead.
    """
    wrong = [
        (0.01, 0.02), (0.50, 0.01), (0.10, 0.10), (0.05, 0.30),
        (0.02, 0.40), (0.20, 0.20), (0.00, 1.00), (0.25, 0.25),
    ]  # fmt: skip
    features = np.array([(0.9, 0.9)] * 4 + wrong, dtype=np.float32)
    features = np.column_stack([features, np.arange(12)]).astype(np.float32)
    ranking = [5, 8, 7, 11, 9, 6, 4, 10]
    members = [Fixed(0), Fixed(1)]

    def committee(seed: int, rows: int) -> Sequence[Classifier]:
        assert rows == 6
        return members

    chosen = select_normal(
        features, np.arange(4), np.arange(4, 12), r=0.5, committee=committee, seed=0
    )

    # The members were fitted on all complex rows (0) and on the two normal ones (1) drawn first.
    assert members[0].fitted is not None
    rows, right = members[0].fitted
    assert right == [0, 0, 0, 0, 1, 1]
    assert rows[:4] == [0, 1, 2, 3]
    drawn = {int(row) for row in rows[4:]}
    # The others are the first two of the ranking that the draw has left.
    expected = drawn | set([row for row in ranking if row not in drawn][:2])
    assert chosen.tolist() == sorted(expected)
    assert len(chosen) == 4


@pytest.mark.parametrize(
    ("r", "M", "drawn"),
    [(0.5, 4, 2), (0.5, 5, 3), (0.5, 1, 1), (0.1, 4, 1), (0.9, 4, 4)],
)
def test_the_random_share_is_r_times_m_rounded_and_at_least_one(
    r: float, M: int, drawn: int
) -> None:
    # .5·5 = 2.5 rounds up to 3; .1·4 = .4 would round to 0, but a fit needs a normal row;
    # .9·4 = 3.6 rounds to 4, and leaves the committee nothing to choose.
    seen: list[int] = []

    def committee(seed: int, rows: int) -> Sequence[Classifier]:
        seen.append(rows - M)
        return [Fixed(0)]

    features = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    chosen = select_normal(
        features, np.arange(M), np.arange(M, 40), r=r, committee=committee, seed=0
    )
    assert len(chosen) == M
    assert seen == ([drawn] if drawn < M else [])


def test_equal_scores_go_by_row_number() -> None:
    features = np.full((20, 3), 0.5, dtype=np.float32)
    features[:, 2] = np.arange(20)
    member = Fixed(0)
    chosen = select_normal(
        features, np.arange(4), np.arange(4, 20), committee=lambda seed, rows: [member], seed=3
    )
    assert member.fitted is not None
    drawn = [int(row) for row in member.fitted[0][4:]]
    rest = [row for row in range(4, 20) if row not in drawn]
    assert chosen.tolist() == sorted(drawn + rest[:2])


def test_m_is_cut_to_the_number_of_normal_rows() -> None:
    features = student(30, 3, seed=0).logits
    chosen = select_normal(features, np.arange(25), np.arange(25, 30), seed=0)
    assert chosen.tolist() == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("r", [0.0, 1.0, -0.5, float("nan")])
def test_r_outside_zero_to_one_is_refused(r: float) -> None:
    with pytest.raises(BadInput, match="strictly between 0 and 1"):
        select_normal(np.zeros((4, 2), np.float32), np.arange(2), np.arange(2, 4), r=r, seed=0)


def test_the_committee_adds_rows_between_complex_and_normal() -> None:
    # Complex rows lie about 0, normal ones about 8: what is left between them is undecided.
    rng = np.random.default_rng(0)
    place = np.r_[rng.normal(0, 1.5, 60), rng.normal(8, 3, 600)]
    features = np.column_stack([place, rng.normal(0, 1, 660)]).astype(np.float32)
    between = (place > 1) & (place < 5)
    chosen = select_normal(features, np.arange(60), np.arange(60, 660), seed=1)
    # 15 % of the normal rows lie between: chance would give 9 of 60. The committee chooses 30.
    assert 0.12 < between[60:].mean() < 0.18
    assert between[chosen].sum() >= 28
    assert len(default_committee(0, 120)) == 3


class Counting(Fixed):
    """Also remembers how many rows it was asked about at a time."""

    def __init__(self, column: int) -> None:
        super().__init__(column)
        self.asked: list[int] = []

    def predict_proba(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        self.asked.append(len(features))
        return super().predict_proba(features)


def test_rows_are_judged_in_blocks_and_chosen_as_if_they_were_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = np.random.default_rng(0).random((100, 3)).astype(np.float32)

    def chosen(block: int) -> tuple[list[int], list[int]]:
        monkeypatch.setattr(qbc, "BLOCK", block)
        members = Counting(0), Counting(1)
        rows = select_normal(
            features, np.arange(20), np.arange(20, 100), committee=lambda s, n: members, seed=1
        )
        assert members[0].asked == members[1].asked
        return rows.tolist(), members[0].asked

    # 80 normal rows less 10 drawn are 70; 90 values of three features are 30 rows at a time.
    blocks, asked = chosen(90)
    assert asked == [30, 30, 10]
    at_once, asked = chosen(1_000_000)
    assert asked == [70]
    assert blocks == at_once


def test_a_committee_is_not_asked_where_every_normal_row_is_needed() -> None:
    def committee(seed: int, rows: int) -> Sequence[Classifier]:
        raise AssertionError("nothing is left to choose")

    features = np.zeros((10, 2), np.float32)
    rows = select_normal(features, np.arange(5), np.arange(5, 10), committee=committee, seed=0)
    assert rows.tolist() == [5, 6, 7, 8, 9]


def test_no_complex_row_asks_for_no_normal_one() -> None:
    features = student(10, 3, seed=0).logits
    assert select_normal(features, np.arange(0), np.arange(10), seed=0).tolist() == []


def test_committees_choose_other_rows() -> None:
    rows = student(400, 4, seed=5)
    right = (rows.logits.argmax(axis=1) == rows.labels).astype(np.int64)
    chosen = {
        name: tuple(by_committee(rows.logits, right, r=0.5, seed=9, committee=name).tolist())
        for name in COMMITTEES
    }
    assert len(set(chosen.values())) == len(COMMITTEES)
    # The default is the default, by its name and without.
    assert chosen["default"] == tuple(by_committee(rows.logits, right, r=0.5, seed=9).tolist())


def test_an_unknown_committee_is_refused() -> None:
    with pytest.raises(BadInput, match="committee: got 'jury'; expected one of default, linear"):
        by_committee(
            np.zeros((4, 2), np.float32), np.arange(4) % 2, r=0.5, seed=0, committee="jury"
        )


@pytest.mark.parametrize("committee", sorted(COMMITTEES))
@pytest.mark.parametrize("name", sorted(SAMPLING))
class TestEverySampling:
    """The contract: sorted row numbers, none twice, and balanced unless it takes all."""

    @settings(max_examples=5, deadline=None)
    @given(complex_share=st.sampled_from([0.02, 0.3, 0.5, 0.9]), seed=st.integers(0, 1000))
    def test_rows(self, name: str, committee: str, complex_share: float, seed: int) -> None:
        features = student(120, 3, seed).logits
        right = np.ones(120, dtype=np.int64)
        right[np.random.default_rng(seed).permutation(120)[: int(120 * complex_share)]] = 0
        rows = SAMPLING[name](features, right, r=0.5, seed=seed, committee=committee)
        assert np.all(np.diff(rows) > 0)
        if name == "all":
            assert rows.tolist() == list(range(120))
        else:
            M = min(int(np.sum(right == 0)), int(np.sum(right == 1)))
            assert np.bincount(right[rows], minlength=2).tolist() == [M, M]

    def test_the_same_seed_chooses_the_same_rows(self, name: str, committee: str) -> None:
        rows = student(200, 4, seed=5)
        right = (rows.logits.argmax(axis=1) == rows.labels).astype(np.int64)
        first, second = (
            SAMPLING[name](rows.logits, right, r=0.5, seed=9, committee=committee) for _ in range(2)
        )
        assert first.tolist() == second.tolist()

    @pytest.mark.parametrize("wrong", [1, 2, 3])
    def test_a_handful_of_rows_is_enough(self, name: str, committee: str, wrong: int) -> None:
        features = student(8, 3, seed=1).logits
        right = np.repeat(np.array([0, 1], dtype=np.int64), [wrong, 8 - wrong])
        rows = SAMPLING[name](features, right, r=0.5, seed=0, committee=committee)
        assert right[rows].sum() == (8 - wrong if name == "all" else wrong)
