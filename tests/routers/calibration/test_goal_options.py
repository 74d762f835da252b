from __future__ import annotations

import pytest

from edge.errors import BadInput
from routers.calibration.goal_options import chosen_goal, options_of
from routers.calibration.goals import AccI, Accuracy, Appeals, CostPerAppeal, Goal, Risk


@pytest.mark.parametrize(
    ("options", "goal"),
    [
        ({"appeals": 0.1}, Appeals(0.1)),
        ({"accuracy": 0.99, "acci": None, "confidence": None}, Accuracy(0.99)),
        ({"acci": 0.0}, AccI(0.0)),  # nought is given, None is not
        ({"cost_per_appeal": 3.0}, CostPerAppeal(3.0, 100.0)),
        ({"cost_per_appeal": 3.0, "cost_per_error": 50.0}, CostPerAppeal(3.0, 50.0)),
        ({"risk": 0.01}, Risk(0.01, 0.95)),
        ({"risk": 0.01, "confidence": 0.9}, Risk(0.01, 0.9)),
    ],
)
def test_one_goal_is_chosen(options: dict[str, float | None], goal: Goal) -> None:
    assert chosen_goal(options) == goal
    assert chosen_goal(options, default=Appeals(0.5)) == goal


def test_without_a_goal_the_default_stands() -> None:
    assert chosen_goal({"risk": None}, default=Appeals(0.1)) == Appeals(0.1)


def test_options_are_the_fields() -> None:
    assert options_of(Risk(0.01, 0.9)) == {"risk": 0.01, "confidence": 0.9}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "got none; expected exactly one of --appeals, --accuracy, --acci, --cost-per-appeal"),
        ({"risk": 0.1, "appeals": 0.1}, "got --appeals and --risk; expected exactly one"),
        ({"confidence": 0.9}, "got none; expected exactly one"),
        (
            {"appeals": 0.1, "confidence": 0.9},
            "--confidence says nothing beside --appeals: got --confidence 0.9; "
            "expected it with --risk only",
        ),
        ({"risk": 0.1, "cost_per_error": 9.0}, "it with --cost-per-appeal only"),
        ({"f1": 0.9}, "unknown goal of the calibration: got 'f1'"),
        ({"accuracy": 99.0}, "accuracy is out of range: got 99"),
    ],
)
def test_anything_else_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        chosen_goal(options)


def test_an_option_of_no_goal_is_refused_although_there_is_a_default() -> None:
    with pytest.raises(BadInput, match="exactly one of"):
        chosen_goal({"confidence": 0.9}, default=Appeals(0.1))
