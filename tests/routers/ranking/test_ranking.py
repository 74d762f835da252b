from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.export.tidy import operators_of
from routers.evaluation import metrics
from routers.models.families import FAMILIES, ConvertedRouter
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES, Feature
from routers.ranking import ranking
from routers.ranking.ranking import RouterData, fit_and_rank, teacher_is_ahead
from routers.ranking.room import SCORE_KB, Room
from routers.selection.labels import student_right
from tests.routers.rows import Rows, crooked, student, teacher_right


def data(router: Rows, validation: Rows, teacher: NDArray[Any] | None = None) -> RouterData:
    rows = len(validation.labels)
    return RouterData(*router, *validation, teacher_right(rows, 5) if teacher is None else teacher)


PLAIN = data(student(800, 5, seed=1), student(600, 5, seed=2))


def test_all_take_part_and_the_winner_is_the_first_row() -> None:
    seen: list[tuple[str, int, int]] = []
    result = fit_and_rank(PLAIN, seed=0, on_event=lambda *event: seen.append(event))
    assert sorted(row.name for row in result.rows) == sorted([*FAMILIES, *SCORES])
    assert {row.reason for row in result.rows} == {""}
    assert result.winner == result.rows[0]
    everybody = len(FAMILIES) + len(SCORES)
    assert [i for _, i, _ in seen] == list(range(1, everybody + 1))
    assert {n for _, _, n in seen} == {everybody}
    right = student_right(PLAIN.router_logits, PLAIN.router_labels)
    assert result.complex_rows == np.sum(right == 0)
    assert result.error_rate == pytest.approx(1 - right.mean())


def test_the_figures_are_those_of_the_file_on_the_validation_part() -> None:
    result = fit_and_rank(PLAIN, families=["gbdt"], seed=0)
    right = student_right(PLAIN.validation_logits, PLAIN.validation_labels)
    teacher = PLAIN.validation_teacher_right
    for row in result.rows:
        score = export.run(row.model, PLAIN.validation_logits)
        curve = metrics.deferral_curve(score, right, teacher)
        assert row.area == pytest.approx(metrics.area_under(curve))
        assert row.auroc == pytest.approx(metrics.auroc(score, right))
        assert row.bytes == len(row.model)
        assert row.area_low < row.area < row.area_high
        assert row.area < result.oracle_area
    assert result.random_area == pytest.approx((right.mean() + np.mean(teacher)) / 2)


def test_a_score_with_a_constant_is_tuned_on_the_router_part() -> None:
    # the same students, ten times as sure of themselves: what differs is the temperature
    scores = ["temperature", "max_softmax"]
    calm, loud = (
        fit_and_rank(
            replace(
                PLAIN,
                router_logits=PLAIN.router_logits * scale,
                validation_logits=PLAIN.validation_logits * scale,
            ),
            families=[],
            scores=scores,
            seed=0,
        )
        for scale in (1, 10)
    )
    cooled = {row.name: row.area for row in loud.rows}
    plain = {row.name: row.area for row in calm.rows}
    assert cooled["temperature"] == pytest.approx(plain["temperature"], abs=1e-6)
    # saturated probabilities tell less: what ten times the logits lose to rounding
    assert cooled["max_softmax"] <= plain["max_softmax"]
    models = {row.name: row.model for row in loud.rows}
    assert models["temperature"] != models["max_softmax"]


def test_of_routers_that_cannot_be_told_apart_the_smallest_wins() -> None:
    # Honest Gaussian logits: a forest cannot do better than the margin it would have to learn.
    result = fit_and_rank(PLAIN, families=["rf"], scores=["margin"], seed=0)
    assert result.winner.name == "margin"
    assert result.winner.kind == "score"
    assert "no fitted router earned its size" in result.note


def test_among_tied_ones_whole_kilobytes_count_then_area() -> None:
    rows = [
        placed(0.95, name="large", bytes=90_000, tied=True),
        placed(0.94, name="better", bytes=400, tied=True),
        placed(0.93, name="smaller", bytes=200, tied=True),  # < 1 KB, like `better`
        placed(0.90, name="behind", bytes=100, tied=False),
        placed(0.92, name="between", bytes=100, tied=False),
    ]
    ordered = [row.name for row in sorted(rows, key=ranking._place)]
    assert ordered == ["better", "smaller", "large", "between", "behind"]


def test_among_tied_ones_those_within_the_wish_come_first() -> None:
    rows = [
        placed(0.95, name="large", bytes=90_000, tied=True),
        placed(0.94, name="two", bytes=1500, tied=True),
        placed(0.93, name="small", bytes=900, tied=True),
        placed(0.96, name="best", bytes=990, tied=True),
    ]

    def order(wished_kb: float) -> list[str]:
        room = Room(student_kb=43.0, wished_kb=wished_kb)
        return [row.name for row in sorted(rows, key=lambda row: ranking._place(row, room))]

    assert order(44.0) == ["best", "small", "two", "large"]
    # 43 + 900/1024 = 43.88; 990 bytes are .97 KB
    assert order(43.9) == ["small", "best", "two", "large"]
    # none keeps it: as without a wish
    assert order(43.0) == ["best", "small", "two", "large"]


def test_a_router_that_takes_the_pair_too_far_is_out_of_the_race() -> None:
    free = fit_and_rank(PLAIN, families=["rf"], scores=["margin", "entropy"], seed=0, resamples=50)
    sizes = {row.name: row.bytes / 1024 for row in free.rows}
    room = Room(student_kb=20.0, most_kb=20.0 + 1.01 * sizes["margin"])
    result = fit_and_rank(
        PLAIN, families=["rf"], scores=["margin", "entropy"], seed=0, resamples=50, room=room
    )
    out = {row.name: row.reason for row in result.rows if row.reason}
    assert list(out) == ["rf"]
    assert f"takes the pair to {20 + sizes['rf']:,.1f} KB, above --max-pair-kb" in out["rf"]
    # what is out takes nothing from the others
    areas = {row.name: row.area for row in free.rows}
    assert {row.name: row.area for row in result.rows if not row.reason} == {
        name: areas[name] for name in ("margin", "entropy")
    }


def test_where_no_router_has_room_the_smallest_is_named() -> None:
    with pytest.raises(BadInput, match=r"--max-pair-kb 20.*at least 20\.\d+ KB.*entropy"):
        fit_and_rank(
            PLAIN,
            families=[],
            scores=["margin", "entropy"],
            seed=0,
            room=Room(student_kb=20.0, most_kb=20.0),
        )


def test_every_score_fits_into_what_a_limit_on_the_pair_leaves() -> None:
    for score in SCORES.values():
        assert len(score.to_onnx(1000).SerializeToString()) <= SCORE_KB * 1024


def test_smallest_is_said_of_what_is_compared() -> None:
    rows = [
        placed(0.95, name="large", bytes=90_000, tied=True),
        placed(0.94, name="best", bytes=990, tied=True),
        placed(0.93, name="small", bytes=400, tied=True),
    ]
    # 400 and 990 bytes are both 1 KB, as the report shows them
    assert (
        ranking._smallest(rows[1], rows)
        == "the best by area of the 2 smallest, of at most 1 KB each"
    )
    assert ranking._smallest(rows[2], rows[::2]) == "the smallest of them, at most 1 KB"


def placed(area: float, **facts: Any) -> ranking.RankedRouter:
    return replace(ranking.RankedRouter("", "score"), figures={"area": area}, **facts)


def test_a_family_wins_where_it_sees_what_scores_cannot() -> None:
    parts = data(crooked(1500, 1), crooked(1500, 2), np.ones(1500, dtype=np.int64))
    result = fit_and_rank(parts, families=["gbdt"], seed=0)
    assert result.winner.name == "gbdt"
    assert result.winner.auroc > 0.95
    assert not any(row.tied for row in result.rows[1:])
    assert "better than every other" in result.note


def test_the_same_seed_gives_the_same_ranking() -> None:
    first, second = (
        [
            replace(row, microseconds=0)
            for row in fit_and_rank(PLAIN, families=["xgb", "knn"], trials=2, seed=3).rows
        ]
        for _ in range(2)
    )
    assert first == second


def test_more_trials_find_other_parameters_and_say_which() -> None:
    def of_trees(trials: int) -> ranking.RankedRouter:
        result = fit_and_rank(PLAIN, families=["xgb"], trials=trials, seed=0)
        return next(row for row in result.rows if row.name == "xgb")

    once, often = of_trees(1), of_trees(6)
    assert set(once.parameters) == set(often.parameters) != set()
    assert once.parameters != often.parameters
    assert once.model != often.model


def test_a_family_says_probabilities_at_the_natural_rate() -> None:
    # fitted on balanced rows, where one in seven is wrong by nature
    result = fit_and_rank(PLAIN, families=["rf"], scores=["margin"], seed=0)
    (forest,) = [row for row in result.rows if row.name == "rf"]
    right = student_right(PLAIN.validation_logits, PLAIN.validation_labels)
    said = export.run(forest.model, PLAIN.validation_logits)
    assert said.mean() == pytest.approx(right.mean(), abs=0.03)


@pytest.mark.parametrize(("lead", "words"), [(40.0, "errs on 0 of"), (-40.0, "errs on all")])
def test_a_student_that_is_always_right_or_wrong_leaves_scores_alone(
    lead: float, words: str
) -> None:
    parts = data(student(100, 3, seed=1, lead=lead), student(80, 3, seed=2, lead=lead))
    result = fit_and_rank(parts, families=["rf", "svm"], seed=0)
    assert result.winner.kind == "score"
    unfit = [row for row in result.rows if row.kind == "family"]
    assert [row.name for row in unfit] == ["rf", "svm"]
    assert all(words in row.reason and not row.model for row in unfit)
    assert words in result.note
    assert all(np.isnan(row.auroc) for row in result.rows)


def test_below_twenty_complex_rows_nothing_is_fitted() -> None:
    rows = student(400, 3, seed=1, lead=40.0)
    for errors, fitted in [(19, False), (20, True)]:
        labels = rows.labels.copy()
        labels[:errors] = (labels[:errors] + 1) % 3
        parts = data(Rows(rows.logits, labels), student(200, 3, seed=2))
        result = fit_and_rank(parts, families=["knn"], seed=0)
        (family,) = [row for row in result.rows if row.kind == "family"]
        assert result.complex_rows == errors
        assert (family.reason == "") is fitted
        assert bool(family.model) is fitted


def test_a_teacher_no_better_than_the_student_is_still_ranked() -> None:
    # The teacher is right exactly where the student is: no appeal gains anything. The routers are
    # then ranked as if every appeal were answered right, so that random scores cannot win.
    validation = student(300, 5, seed=2)
    right = student_right(validation.logits, validation.labels)
    result = fit_and_rank(data(student(400, 5, seed=1), validation, right), families=[], seed=0)
    score = SCORES[result.winner.name].score(validation.logits)
    perfect = metrics.deferral_curve(score, right, np.ones_like(right))
    assert result.winner.area == pytest.approx(metrics.area_under(perfect), abs=1e-6)
    assert result.winner.auroc > 0.6
    assert "not clearly better" in result.note


@pytest.mark.parametrize(
    ("won", "lost", "ahead"),
    [
        # 1.96·√(won + lost): 18 against 10 differ by 8, less than 1.96·√28 = 10.4.
        (18, 10, False),
        # 30 against 10 differ by 20, more than 1.96·√40 = 12.4.
        (30, 10, True),
        (0, 0, False),
        (10, 30, False),
    ],
)
def test_a_teacher_is_ahead_only_where_the_rows_show_it(won: int, lost: int, ahead: bool) -> None:
    both = 100
    right = np.array([0] * won + [1] * lost + [1] * both)
    teacher = np.array([1] * won + [0] * lost + [1] * both)
    assert teacher_is_ahead(right, teacher) is ahead


class _Liar:
    """Says the opposite of its file."""

    def __init__(self, honest: ConvertedRouter) -> None:
        self.honest = honest

    def score(self, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        return 1 - self.honest.score(features)

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        return self.honest.to_onnx(classes, feature)


def test_a_family_that_fails_is_listed_with_its_reason_and_cannot_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = FAMILIES["gbdt"]

    def liar(features: NDArray[np.float32], right: NDArray[np.int64], seed: int) -> _Liar:
        fitted = honest(features, right, seed)
        assert isinstance(fitted, ConvertedRouter)
        return _Liar(fitted)

    def broken(features: NDArray[np.float32], right: NDArray[np.int64], seed: int) -> _Liar:
        raise RuntimeError("no converter for this")

    monkeypatch.setitem(FAMILIES, "liar", liar)
    monkeypatch.setitem(FAMILIES, "broken", broken)
    parts = data(crooked(800, 1), crooked(500, 2), np.ones(500, dtype=np.int64))
    result = fit_and_rank(parts, families=["liar", "broken"], scores=["entropy"], seed=0)
    reasons = {row.name: row.reason for row in result.rows}
    assert reasons["liar"] == "ExportMismatch: no file of liar says what its fit says"
    assert reasons["broken"] == "RuntimeError: no converter for this"
    assert [row.name for row in result.rows] == ["entropy", "liar", "broken"]
    assert result.winner.name == "entropy"


def test_portable_routers_need_the_standard_domain_alone_and_rank_alike() -> None:
    plain, portable = (
        fit_and_rank(PLAIN, scores=["margin"], seed=0, portable=chosen) for chosen in (False, True)
    )
    assert sorted(row.name for row in portable.rows) == sorted([*FAMILIES, "margin"])
    areas = {row.name: row.area for row in plain.rows}
    for row in portable.rows:
        assert not row.reason
        assert list(operators_of(row.model)) == ["ai.onnx"]
        assert row.area == pytest.approx(areas[row.name], abs=1e-4)
    assert not all(list(operators_of(row.model)) == ["ai.onnx"] for row in plain.rows)


def test_a_router_that_cannot_stand_beside_the_student_is_out_of_the_race() -> None:
    def joined(model: bytes) -> None:
        if "ai.onnx.ml" in operators_of(model):
            raise ValueError("versions 5 and 3")

    result = fit_and_rank(PLAIN, families=["knn", "rf"], scores=["margin"], seed=0, joined=joined)
    assert [row.name for row in result.rows if row.reason] == ["rf"]
    assert "cannot ship with this student: versions 5 and 3" in result.rows[-1].reason
    assert result.winner.name in ("knn", "margin")


@pytest.mark.parametrize("sampling", ["random", "all"])
def test_other_samplings_fit_other_rows(sampling: str) -> None:
    def model(name: str) -> bytes:
        result = fit_and_rank(PLAIN, families=["gbdt"], sampling=name, seed=0)
        return next(row.model for row in result.rows if row.name == "gbdt")

    assert model(sampling) != model("qbc")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"families": ["mlp"]}, "router family: got 'mlp'; expected one of et, gbdt"),
        ({"scores": ["surprise"]}, "router score: got 'surprise'; expected one of energy"),
        ({"sampling": "some"}, "one of all, qbc, random"),
        ({"features": "pixels"}, "one of derived, logits, sorted_probabilities"),
        ({"scores": []}, "no score in the ranking"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_fitted(
    options: dict[str, Any], words: str
) -> None:
    begun = time.perf_counter()
    with pytest.raises(BadInput, match=words):
        fit_and_rank(PLAIN, seed=0, **options)
    assert time.perf_counter() - begun < 0.2
