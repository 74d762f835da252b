"""One sentence a person would say of a finished job."""

from __future__ import annotations

from typing import Any

import pytest

from search.report.verdict import in_order, verdict_of


def result(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rows": {"test": 360},
        "teacher": {"kb": 440.9, "accuracy": 0.9889},
        "student": {"kb": 21.4, "accuracy": 0.9778},
        "pair": {"kb": 21.9, "accuracy": 0.9833, "appeals": 0.072},
        "limits": {"max_kb": {"limit": 22.0, "value": 21.4, "kept": True}},
        "goal": {"words": "at most 10% of the inputs appealed", "part": "calibration", "met": True},
        "warnings": [],
    }
    return found | changes


def warned(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "text": "why, and what to do"} for name in names]


def test_what_ships_how_good_it_is_and_what_is_kept() -> None:
    assert verdict_of(result()) == (
        "A student of 21.4 KB (20.6 times smaller than its teacher) is right on 97.78% of 360 test "
        "rows where the teacher is right on 98.89%, and the pair of 21.9 KB on 98.33% with 7.2% "
        "appealed; --max-kb 22 kept; the goal (at most 10% of the inputs appealed) is met on the "
        "calibration part."
    )


def test_where_a_warning_stands_it_comes_first_and_nothing_is_met() -> None:
    said = verdict_of(result(warnings=warned("student-far-below-teacher", "student-at-chance")))
    assert said.startswith(
        "There is a warning, the student is no better than chance (and 1 more to read): a student"
    )
    assert " met" not in said
    assert said.count(".") == said.count("%.") or said.endswith(".")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("validation-far-above-test", "validation promises far more than test keeps"),
        ("max-drop-not-kept", "--max-drop is not kept"),
        ("goal-not-reached", "the goal of the threshold is not reached"),
        ("parts-share-pictures", "parts share pictures"),  # of a check that is not known here
    ],
)
def test_a_warning_in_a_few_words(name: str, words: str) -> None:
    assert verdict_of(result(warnings=warned(name))).startswith(f"There is a warning, {words}: a s")


def test_a_limit_that_is_broken_says_by_what() -> None:
    limits = {
        "max_kb": {"limit": 22.0, "value": 21.4, "kept": True},
        "max_ms": {"limit": 0.5, "value": 0.25, "kept": True},
        "max_drop": {"limit": 0.01, "value": 0.031, "kept": False},
    }
    said = verdict_of(result(limits=limits, warnings=warned("max-drop-not-kept")))
    assert said.endswith(
        "; --max-kb 22 and --max-ms 0.5 kept, --max-drop 0.01 is not kept (0.031)."
    )
    assert "; ." not in verdict_of(result(limits={}))


def test_the_limit_is_the_students_and_the_pair_says_so() -> None:
    pair = {"kb": 53.7, "accuracy": 0.98, "appeals": 0.1}
    assert "--max-kb 22 kept by the student, whose router takes the pair beyond --max-kb;" in (
        verdict_of(result(pair=pair))
    )


def test_a_goal_that_is_missed_without_a_warning_is_not_met() -> None:
    goal = result()["goal"] | {"met": False}
    assert "is not met on the calibration part" in verdict_of(result(goal=goal))


def test_causes_come_before_what_they_cause() -> None:
    names = ("goal-not-reached", "classes-in-another-order", "student-at-chance",
             "teacher-near-chance", "max-kb-not-kept")  # fmt: skip
    assert [warning["name"] for warning in in_order(warned(*names))] == [
        "teacher-near-chance",
        "student-at-chance",
        "classes-in-another-order",
        "max-kb-not-kept",
        "goal-not-reached",
    ]
