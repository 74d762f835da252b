"""What a person would say of a finished job, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.packaging.sense import ABOVE_TEST, AT_CHANCE, BELOW_TEACHER, SHORT

#: the worst first: what explains the others stands before them
ORDER = (
    "teacher-near-chance",
    "teacher-below-stated",
    AT_CHANCE,
    ABOVE_TEST,
    BELOW_TEACHER,
    "pilots-at-chance",
    "max-kb-not-kept",
    "max-pair-kb-not-kept",
    "max-macs-not-kept",
    "max-ms-not-kept",
    "max-drop-not-kept",
    "goal-not-reached",
    "budget-unspent",
)


def verdict_of(result: Mapping[str, Any]) -> str:
    """One sentence: the biggest problem where there is one, what ships, and what of it is kept.

    ``result``: a job's, with ``teacher``, ``student``, ``pair``, ``rows``, ``limits``, ``goal`` and
    ``warnings``.
    """
    teacher, student, pair = result["teacher"], result["student"], result["pair"]
    what = (
        f"a student of {student['kb']:,.1f} KB ({teacher['kb'] / student['kb']:,.1f} times smaller "
        f"than its teacher) is right on {student['accuracy']:.2%} of {result['rows']['test']:,} "
        f"test rows where the teacher is right on {teacher['accuracy']:.2%}, and the pair of "
        f"{pair['kb']:,.1f} KB on {pair['accuracy']:.2%} with {pair['appeals']:.1%} appealed"
    )
    parts = [what, _limits(result["limits"], pair["kb"])]
    if not result["warnings"]:
        parts.append(_goal(result["goal"]))
        return _sentence(parts)
    worst, *others = in_order(result["warnings"])
    more = f" (and {len(others)} more to read)" if others else ""
    return _sentence([f"there is a warning, {_short(worst)}{more}: {what}", *parts[1:]])


def in_order(warnings: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Warnings, the one to read first before the others; those unknown here stand in the middle."""
    places = {name: place for place, name in enumerate(ORDER)}
    middle = places["max-kb-not-kept"] - 0.5
    return sorted(warnings, key=lambda warning: places.get(warning["name"], middle))


def _short(warning: Mapping[str, str]) -> str:
    name = warning["name"]
    if name in SHORT:
        return SHORT[name]
    if name.endswith("-not-kept"):
        return f"--{name.removesuffix('-not-kept')} is not kept"
    return {
        "pilots-at-chance": "plain students as small as this learn nothing",
        "goal-not-reached": "the goal of the threshold is not reached",
        "budget-unspent": "the budget of appeals is too small to spend any of it",
    }.get(name, name.replace("-", " "))


def _limits(limits: Mapping[str, Mapping[str, Any]], pair_kb: float) -> str:
    """What is kept and what is not; --max-kb is the student's, and a pair beyond it is told of."""
    kept = [_option(name, found) for name, found in limits.items() if found["kept"]]
    said = [f"{' and '.join(kept)} kept"] if kept else []
    alone = limits.get("max_kb")
    if alone is not None and alone["kept"] and pair_kb > alone["limit"]:
        said = [f"{said[0]} by the student, whose router takes the pair beyond --max-kb"]
    said += [
        f"{_option(name, found)} is not kept ({found['value']:.4g})"
        for name, found in limits.items()
        if not found["kept"]
    ]
    return ", ".join(said)


def _option(name: str, found: Mapping[str, Any]) -> str:
    return f"--{name.replace('_', '-')} {found['limit']:g}"


def _goal(goal: Mapping[str, Any]) -> str:
    met = "is met" if goal["met"] else "is not met"
    return f"the goal ({goal['words']}) {met} on the {goal['part']} part"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(filter(None, parts))
    return text[0].upper() + text[1:] + "."
