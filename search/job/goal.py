"""What a job asks of the threshold, from its fields."""

from __future__ import annotations

from routers.calibration.goal_options import chosen_goal
from routers.calibration.goals import Appeals, Goal
from search.job.spec import GOAL, JobSpec

#: where a job names none: a tenth of the inputs may be appealed
DEFAULT = Appeals(0.1)


def goal_of(spec: JobSpec) -> Goal:
    """The one goal that the job names.

    Raises:
        BadInput: two goals, or a field that belongs to another one.
    """
    return chosen_goal({name: getattr(spec, name) for name in GOAL}, DEFAULT)
