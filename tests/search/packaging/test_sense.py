"""Figures that cannot be right are told of by name, and sound ones on few rows are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from search.packaging.sense import (
    ABOVE_TEST,
    AT_CHANCE,
    BELOW_TEACHER,
    Blind,
    PartSeen,
    apart_by,
    at_chance,
    doubt,
    far_above,
    far_below,
    sense_of,
)


def answers(
    labels: NDArray[np.int64], accuracy: float, classes: int, seed: int
) -> NDArray[np.int64]:
    """Right on this share of rows; else another class, drawn."""
    rng = np.random.default_rng(seed)
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    keep = rng.permutation(len(labels)) < round(accuracy * len(labels))
    return np.where(keep, labels, wrong)


def part(rows: int, student: float, teacher: float, classes: int = 10, seed: int = 0) -> PartSeen:
    labels = np.arange(rows) % classes
    return PartSeen.of(
        answers(labels, student, classes, seed), answers(labels, teacher, classes, seed + 1), labels
    )


def names(**parts: PartSeen) -> list[str]:
    return [note.name for note in sense_of(parts, unseen=True)]


def test_four_blind_answers_by_hand() -> None:
    # labels 0 0 1 1, answers 0 1 1 1: of the 4 orders of the answers the 0 lies on a 0 in two,
    # which makes 3 right, and on a 1 in two, which makes 1 right: mean 2, deviation 1
    blind = Blind.of(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]))
    assert (blind.rows, blind.mean, blind.deviation) == (4, 2.0, 1.0)
    # always the same: always two right, without any luck
    assert Blind.of(np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])) == Blind(4, 2.0, 0.0)


def test_blindness_is_what_shuffled_answers_show() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.choice(3, 40, p=[0.7, 0.2, 0.1]), rng.choice(3, 40, p=[0.5, 0.3, 0.2])
    right = [(rng.permutation(said) == labels).sum() for _ in range(20_000)]
    blind = Blind.of(said, labels)
    assert blind.mean == pytest.approx(np.mean(right), abs=0.05)
    assert blind.deviation == pytest.approx(np.std(right), rel=0.03)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        # ten classes, answers drawn: the student of 10.3 %
        (np.arange(1000) % 10, np.random.default_rng(0).integers(0, 10, 1000)),
        # one class whatever the image, which on these data is right on 90 %
        (np.repeat([0, 1], [900, 100]), np.zeros(1000, int)),
        # two classes of which each is named as often as it comes, at random
        (np.repeat([0, 1], [50, 50]), np.random.default_rng(1).permutation(np.repeat([0, 1], 50))),
        # worse than chance: classes in another order
        (np.arange(300) % 3, (np.arange(300) + 1) % 3),
    ],
)
def test_a_student_at_chance_is_told_of(labels: NDArray[np.int64], said: NDArray[np.int64]) -> None:
    seen = PartSeen.of(said, labels, labels)
    notes = sense_of({"test": seen}, unseen=True)
    assert [note.name for note in notes] == [AT_CHANCE]
    assert notes[0].warning
    assert "no better than chance" in notes[0].text
    assert "--final-epochs" in notes[0].text


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (np.arange(8) % 2, 1),  # 7 of 8 right prove nothing, and are no fault either
        (np.arange(20) % 10, 3),
        (np.repeat([0, 1], [57, 3]), 1),  # 98 % where one class makes up 95 %
        (np.arange(4) % 2, 0),
        (np.zeros(30, int), 0),  # one class alone: nothing can be told
    ],
)
def test_students_on_few_rows_are_not_called_blind(labels: NDArray[np.int64], wrong: int) -> None:
    said = labels.copy()
    said[:wrong] = (said[:wrong] + 1) % 2
    assert at_chance({"test": PartSeen.of(said, labels, labels)}) is None


def test_a_student_that_is_at_chance_on_validation_alone_is_told_of_too() -> None:
    assert names(test=part(500, 0.95, 0.97), validation=part(500, 0.1, 0.97)) == [AT_CHANCE]


@pytest.mark.parametrize(
    ("student", "told"), [(0.899, True), (0.307, True), (0.9, False), (0.98, False)]
)
def test_nine_tenths_of_the_teacher_are_the_bound(student: float, told: bool) -> None:
    found = names(test=part(1000, student, 1.0))
    assert found == ([BELOW_TEACHER] if told else [])


def test_few_rows_do_not_excuse_a_student_below_its_teacher() -> None:
    # 17 of 20 against 19 of 20: .85 < .9 · .95
    note = far_below(part(20, 0.85, 0.95), limits="--max-kb 44")
    assert note is not None
    assert "85.0% of 20 test rows" in note.text
    assert "--max-kb 44: raise it" in note.text


@pytest.mark.parametrize(
    ("high", "low", "told"),
    [
        ((300, 300), (350, 2000), True),  # the sorted data: 100 % of one class, 17.5 % on test
        ((480, 500), (430, 500), True),  # 96 % and 86 %: 5.6 standard errors
        ((48, 50), (43, 50), False),  # the same shares on a tenth of the rows: luck
        ((4950, 5000), (9450, 10_000), False),  # sure, but 4.5 points
        ((430, 500), (480, 500), False),  # test better than validation
        ((10, 10), (0, 0), False),
    ],
)
def test_validation_far_above_test(high: tuple[int, int], low: tuple[int, int], told: bool) -> None:
    assert apart_by(*high, *low) is told


def test_of_a_teacher_that_learnt_from_the_validation_rows_that_is_expected() -> None:
    validation, test = part(2000, 0.88, 1.0), part(2000, 0.87, 0.89)
    assert far_above(validation, test, unseen=False) is None
    note = far_above(validation, test, unseen=True)
    assert note is not None
    assert note.name == ABOVE_TEST
    assert "--teacher-unseen" in note.text
    assert "the teacher is right on 100.0% of 2,000 validation rows and on 89.0%" in note.text
    assert "the student" not in note.text.split(", more than")[0]


def test_a_student_that_shines_on_one_class_alone() -> None:
    found = names(test=part(2000, 0.175, 0.99), validation=part(300, 1.0, 1.0))
    assert found == [BELOW_TEACHER, ABOVE_TEST]


def test_doubts_stand_in_a_few_words() -> None:
    good, bad = part(200, 0.95, 0.97), part(200, 0.1, 0.97)
    assert doubt([]) == doubt([], good) == ""
    assert doubt([], bad) == "the student is no better than chance"
    assert doubt([], part(200, 0.9, 0.1)) == "the teacher is no better than chance"
    assert doubt(sense_of({"test": part(200, 0.5, 0.97)}, unseen=True), good) == (
        "the student is far below its teacher"
    )
