"""A limit on the pair leaves its student less."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import BadInput
from search.job.spec import make_spec
from search.space.limits import with_room


def job(**limits: Any) -> Any:
    return make_spec({"teacher": "t.onnx", "data": "digits", "out": "runs/x", **limits})


@pytest.mark.parametrize(
    ("limits", "max_kb"),
    [
        ({}, None),
        ({"max_kb": 44}, 44),
        ({"max_pair_kb": 44}, 43),
        ({"max_kb": 44, "max_pair_kb": 44}, 43),
        ({"max_kb": 30, "max_pair_kb": 44}, 30),
        ({"max_pair_kb": 1.5}, 0.5),
    ],
)
def test_a_student_leaves_room_for_the_smallest_router(
    limits: dict[str, float], max_kb: float | None
) -> None:
    found = with_room(job(**limits))
    assert found.max_kb == max_kb
    assert with_room(found) == found  # a resumed job is the job that began


def test_a_pair_without_room_for_a_student_is_refused() -> None:
    with pytest.raises(BadInput, match=r"--max-pair-kb 1; expected more than 1 KB"):
        with_room(job(max_pair_kb=1))
