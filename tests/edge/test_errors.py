"""Errors that a user is told: what they carry survives the way from a worker."""

from __future__ import annotations

import copy

import pytest

from edge.errors import BadInput
from search.job.spec import make_spec


def test_an_error_comes_whole_from_another_process() -> None:
    error = BadInput("no room", value=3, bound="at most 2", remedy="Take 2.", field="max_kb")
    again = copy.copy(error)
    assert str(again) == "no room: got 3; expected at most 2. Take 2."
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_kb": -1}, "max_kb"),
        ({"max_drop": 5}, "max_drop"),
        ({"bugdet": 3}, "bugdet"),
        ({"teacher": ...}, "teacher"),
    ],
)
def test_a_job_that_is_refused_names_the_field(values: dict[str, object], field: str) -> None:
    whole = {"teacher": "t.onnx", "data": "digits", "out": "run", **values}
    with pytest.raises(BadInput) as refusal:
        make_spec({name: value for name, value in whole.items() if value is not ...})
    assert refusal.value.field == field
