"""Which goal is asked for: from a set of options to one goal, and back.

The options are the fields of the goals, so command line, YAML and manifest speak of a goal in the
same names: ``--risk .01 --confidence .95`` is ``{"risk": 0.01, "confidence": 0.95}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from edge.errors import BadInput, check_member
from routers.calibration.goals import GOALS, Goal


def chosen_goal(options: Mapping[str, float | None], default: Goal | None = None) -> Goal:
    """The one goal that ``options`` ask for.

    ``options``: by name of a goal or of another field of one (``confidence``); None stands for
    "not given", so a whole set of command-line options can be handed in. ``default``: where no
    goal is named. BadInput for two goals, for none without a default, for a field of a goal that
    was not chosen, and for values out of range. The reverse is :func:`options_of`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = {field.name for goal in GOALS.values() for field in fields(goal)}
    for name in given:
        check_member("goal of the calibration", name, known)
    named = [name for name in GOALS if name in given]
    if not named and not given and default is not None:
        return default
    if len(named) != 1:
        raise BadInput(
            "the threshold serves one goal",
            value=" and ".join(map(_option, named)) or "none",
            bound=f"exactly one of {', '.join(map(_option, GOALS))}",
            remedy="A pair that must keep two bounds: ask for one, and read the other's figure.",
        )
    goal: Any = GOALS[named[0]]
    stray = sorted(set(given) - {field.name for field in fields(goal)})
    if stray:
        raise BadInput(
            f"{_option(stray[0])} says nothing beside {_option(named[0])}",
            value=f"{_option(stray[0])} {given[stray[0]]}",
            bound=f"it with {_option(_owner(stray[0]))} only",
            remedy="Leave it out, or ask for the other goal.",
        )
    chosen: Goal = goal(**given)
    return chosen


def options_of(goal: Goal) -> dict[str, float]:
    """What :func:`chosen_goal` makes ``goal`` from again; JSON keeps it."""
    return asdict(goal)


def _owner(name: str) -> str:
    return next(goal.name for goal in GOALS.values() if name in {f.name for f in fields(goal)})


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
