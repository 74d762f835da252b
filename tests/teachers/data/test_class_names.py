"""Classes of data in the teacher's order, by names that a person would call the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest

from edge.errors import BadInput
from teachers.data.class_names import are_numbers, fit_classes, matched
from teachers.data.source import Table


def table(names: Sequence[str], labels: Sequence[int] | None = None) -> Table:
    """Rows of the classes ``names``, two of each unless ``labels`` says otherwise."""
    rows = np.repeat(np.arange(len(names)), 2) if labels is None else np.array(labels)
    return Table("data", rows, tuple(names), len(rows), lambda look, start: iter(()), lambda: "")


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize(
    ("folders", "teacher", "labels"),
    [
        # a capital sorts before small letters, so that every label would move by one
        (["Squares", "bars", "poles"], ["bars", "poles", "squares"], [2, 2, 0, 0, 1, 1]),
        ([decomposed("été"), "hiver", "zone"], ["hiver", "zone", "été"], [2, 2, 0, 0, 1, 1]),
        (["dog", "cat"], ["cat", "dog"], [1, 1, 0, 0]),
        (["STRASSE", "weg"], ["weg", "Straße"], [1, 1, 0, 0]),
        (["great_dane", "Golden Retriever"], ["golden-retriever", "Great Dane"], [1, 1, 0, 0]),
        (["hiver", "ete"], ["été", "hiver"], [1, 1, 0, 0]),
        (["ｂｅｅ", "ant"], ["ant", "bee"], [1, 1, 0, 0]),
        (["00", "01", "10"], ["1", "0", "10"], [1, 1, 0, 0, 2, 2]),
        (["A", "a"], ["a", "A"], [1, 1, 0, 0]),
    ],
)
def test_names_decide_not_places(folders: list[str], teacher: list[str], labels: list[int]) -> None:
    fitted = fit_classes(table(folders), len(teacher), teacher)
    assert fitted.labels.tolist() == labels
    assert fitted.class_names == tuple(teacher)
    assert sorted(fitted.given_names) == sorted(folders)
    assert matched(fitted.given_names, teacher) == [*range(len(teacher))]
    assert not fitted.remarks


def test_letters_in_two_cases_stay_two_classes() -> None:
    # folded, "a" and "A" would be one class: they are compared as they are
    assert matched(["A", "a", "b"], ["a", "b", "A"]) == [2, 0, 1]
    assert matched(["A", "a"], ["x", "y"]) == [None, None]


@pytest.mark.parametrize(
    ("folders", "teacher", "message"),
    [
        (
            ["ant", "bee", "cow"],
            ["ant", "bee", "dog"],
            "got 3 classes, of which the teacher lacks 'cow'; expected 3 classes, with 'dog'",
        ),
        (["ant", "bee"], ["ant", "bee", "dog"], "got 2 classes; expected 3 classes, with 'dog'"),
        (
            ["ant", "bee", "cow"],
            ["ant", "bee"],
            "got 3 classes, .*lacks 'cow'; expected 2 classes, no other",
        ),
        (["Ant", "wasp"], ["ant", "bee"], "got .*lacks 'wasp'; expected .*with 'bee'"),
    ],
)
def test_names_that_agree_in_part_are_refused(
    folders: list[str], teacher: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=f"only in part: {message}"):
        fit_classes(table(folders), len(teacher), teacher)


def test_another_language_is_taken_in_order_with_a_warning() -> None:
    fitted = fit_classes(table(["barres", "carrés"]), 2, ["bars", "squares"])
    assert fitted.labels.tolist() == [0, 0, 1, 1]
    assert fitted.class_names == ("bars", "squares")
    assert fitted.given_names == ("barres", "carrés")
    (remark,) = fitted.remarks
    assert remark.name == "class-names-differ"
    assert "'barres', 'carrés'" in remark.text


def test_another_language_with_another_number_of_classes_is_refused() -> None:
    with pytest.raises(BadInput, match="not the teacher's: got 3 classes.*expected 2 classes"):
        fit_classes(table(["un", "deux", "trois"]), 2, ["one", "two"])


def test_the_data_name_what_the_teacher_leaves_unnamed() -> None:
    fitted = fit_classes(table(["ant", "bee"]), 2)
    assert fitted.class_names == ("ant", "bee")
    assert not fitted.remarks


NUMBERS = [str(number) for number in range(12)]


def test_folders_of_numbers_stand_as_torchvision_sorts_them_where_nobody_names_classes() -> None:
    # 0, 1, 10, 11, 2 …: what a teacher has learnt that was trained on this folder
    fitted = fit_classes(table(sorted(NUMBERS)), 12)
    assert fitted.class_names[:4] == ("0", "1", "10", "11")
    assert fitted.labels.tolist() == np.repeat(np.arange(12), 2).tolist()
    (remark,) = fitted.remarks
    assert "'0', '1', '10', '11', '2'" in remark.text
    assert not remark.name


def test_up_to_ten_folders_of_numbers_leave_nothing_to_be_told() -> None:
    assert not fit_classes(table(NUMBERS[:10]), 10).remarks


def test_a_teacher_that_names_numbers_has_them_in_its_own_order() -> None:
    fitted = fit_classes(table(sorted(NUMBERS)), 12, NUMBERS)
    # the third folder is called 10
    assert fitted.labels[4] == 10
    assert fitted.class_names == tuple(NUMBERS)


def test_folders_of_numbers_are_the_labels_of_a_teacher_with_names() -> None:
    names = [f"class {letter}" for letter in "abcdefghijkl"]
    for folders in (NUMBERS, [str(number) for number in range(1, 13)]):
        fitted = fit_classes(table(sorted(folders)), 12, names)
        # sorted as texts, the third folder is 10, or 11 where they count from 1
        assert fitted.labels[4] == folders.index(sorted(folders)[2])
        assert [remark.name for remark in fitted.remarks] == [""]


def test_a_teacher_of_numbers_takes_names_in_their_order_without_a_warning() -> None:
    fitted = fit_classes(table(["ant", "bee"]), 2, ["0", "1"])
    assert fitted.labels.tolist() == [0, 0, 1, 1]
    assert [remark.name for remark in fitted.remarks] == [""]


@pytest.mark.parametrize("teacher", [["ant", "cow"], []])
def test_a_folder_without_pictures_is_no_class_of_the_teacher(teacher: list[str]) -> None:
    fitted = fit_classes(table(["ant", "annotations", "cow"], [0, 0, 2, 2]), 2, teacher)
    assert fitted.labels.tolist() == [0, 0, 1, 1]
    assert fitted.class_names == ("ant", "cow")
    assert "'annotations' (folders without a picture)" in fitted.remarks[0].text


def test_labels_that_count_from_one_are_told_apart_from_wrong_data() -> None:
    with pytest.raises(BadInput, match="Labels count from 0: subtract 1"):
        fit_classes(table([], [1, 2, 3]), 3, ["a", "b", "c"])


def test_numbers_are_a_whole_range() -> None:
    assert are_numbers(["2", "0", "1"])
    assert are_numbers(["01", "02"])
    assert not any(are_numbers(names) for names in (["0", "2"], ["a", "1"], ["1", "1"], []))
