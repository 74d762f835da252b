"""What a job asks of the threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from routers.calibration.goals import Accuracy, Appeals, CostPerAppeal, Goal, Risk
from search.job.goal import goal_of
from search.job.spec import GOAL, JobSpec, make_spec

LEAST = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x"}


@pytest.mark.parametrize(
    ("options", "goal"),
    [
        ({}, Appeals(0.1)),
        ({"appeals": 0.0}, Appeals(0.0)),
        ({"accuracy": 0.99}, Accuracy(0.99)),
        ({"cost_per_appeal": 3}, CostPerAppeal(3.0, cost_per_error=100.0)),
        ({"cost_per_appeal": 3, "cost_per_error": 10}, CostPerAppeal(3.0, cost_per_error=10.0)),
        ({"risk": 0.01, "confidence": 0.9}, Risk(0.01, confidence=0.9)),
    ],
)
def test_a_job_names_one_goal(options: dict[str, Any], goal: Goal) -> None:
    assert goal_of(make_spec(LEAST | options)) == goal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"appeals": 0.1, "risk": 0.01}, "got --appeals and --risk; expected exactly one of"),
        ({"confidence": 0.9}, "expected exactly one of --appeals"),
        ({"appeals": 0.1, "confidence": 0.9}, "--confidence says nothing beside --appeals"),
    ],
)
def test_two_goals_are_refused_before_anything_is_loaded(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    from search.preparation.validate import check_inputs

    spec = make_spec(LEAST | {"out": str(tmp_path / "run")} | options)
    with pytest.raises(BadInput, match=message):
        check_inputs(spec)


def test_every_field_of_a_goal_is_a_field_of_the_job() -> None:
    from dataclasses import fields

    from routers.calibration.goals import GOALS

    assert {field.name for goal in GOALS.values() for field in fields(goal)} == set(GOAL)
    assert set(GOAL) <= set(JobSpec.model_fields)
