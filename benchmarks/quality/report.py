"""What a comparison says: the table that is printed, and the JSON that says the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality import score
from benchmarks.quality.play import MARKS, Search
from benchmarks.quality.table import Table
from benchmarks.quality.task import Task
from search.job.spec import JobSpec

DEFAULT = str(JobSpec.model_fields["sampler"].default)
Entries = Mapping[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Match:
    """All searches of one task, scored."""

    task: Task
    reward: str
    searches: list[Search]
    judge: score.Judge
    scores: score.Scores

    @classmethod
    def of(cls, task: Task, reward: str, searches: list[Search]) -> Match:
        judge = score.Judge(task, reward)
        top = None if table_of(task) is None else _optimum(task, judge)
        return cls(task, reward, searches, judge, score.scores(searches, judge, top))

    @property
    def unjudged(self) -> list[int]:
        """Networks of the table that were chosen and that nobody trained again."""
        table = table_of(self.task)
        return sorted({table.row(actions) for actions in self.judge.missing}) if table else []

    def about(self) -> dict[str, Any]:
        """Seeds, thresholds, and the log-rewards that became 0 and 1."""
        scores = self.scores
        searched, judged = (
            standard.rewards[self.reward].settings
            for standard in (self.task.searched, self.task.judged)
        )
        found = {
            "seeds": len(scores.of[score.FLOOR]),
            "c0": searched["c0"],
            "a0": round(searched["a0"], 4),
            "a0_of_the_judge": round(judged["a0"], 4),
            "floor": round(scores.floor, 4),
            "optimum": round(scores.optimum, 4),
            "choices_not_judged": len(self.judge.missing),
        }
        if table_of(self.task) is not None:
            worth = self.judge.worth(_best_seen(self.task, self.reward))
            place = (worth - scores.floor) / ((scores.optimum - scores.floor) or 1.0)
            found["exhaustive_search"] = round(place, 4)
        return found


def table_of(task: Task) -> Table | None:
    """The table of a task that has one."""
    return task.truth if isinstance(task.truth, Table) else None


def _optimum(task: Task, judge: score.Judge) -> float:
    """The best worth in the table."""
    table = table_of(task)
    assert table is not None
    known = np.flatnonzero(~np.isnan(table.again).any(0))
    return max(judge.worth(table.candidate(int(row))) for row in known)


def _best_seen(task: Task, reward: str) -> tuple[int, ...]:
    """What a search would choose that distils everything."""
    table = table_of(task)
    assert table is not None
    ratio = 1 - table.bytes / table.bytes[-1]
    logs = task.searched.log(reward, table.accuracy, ratio)
    return table.candidate(int(logs.argmax()))


def entries(matches: Sequence[Match], samplers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One entry per sampler; scores are means over the tasks, intervals are of 95 %."""
    scored = [match.scores for match in matches]
    found: dict[str, dict[str, Any]] = {}
    for name in samplers:
        entry: dict[str, Any] = {"interval": {}}
        for place, mark in enumerate(MARKS):
            mean, low, high = score.interval([of.of[name][:, place] for of in scored])
            entry[str(mark)] = round(mean, 4)
            entry["interval"][str(mark)] = _rounded(low, high)
        if DEFAULT in samplers and name != DEFAULT:
            entry["default_leads_by"] = {
                str(mark): _rounded(*score.lead(scored, DEFAULT, name, mark)) for mark in MARKS
            }
        found[name] = entry | _effort([s for of in matches for s in of.searches], name)
    return found


def _rounded(*values: float) -> list[float | None]:
    """As they are written; JSON has no word for an endless interval but null."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]


def comparisons(samplers: Sequence[str]) -> int:
    """How many differences are held against 0: every pair, at every mark."""
    return math.comb(len(samplers), 2) * len(MARKS)


def _effort(searches: Sequence[Search], name: str) -> dict[str, Any]:
    """What it took to propose; counted apart from the distillations."""
    played = [search for search in searches if search.sampler == name]
    proposals = sum(search.proposals for search in played)
    return {
        "duplicates": round(sum(search.duplicates for search in played) / proposals, 4),
        "seconds_per_proposal": round(sum(search.seconds for search in played) / proposals, 4),
        "slowest_proposal": round(max(search.slowest for search in played), 3),
        "ended_early": sum(len(search.found) < MARKS[-1] for search in played),
    }


def lines(found: Entries, matches: Sequence[Match]) -> Iterator[str]:
    """The table, best at 100 first, and who is ahead of whom."""
    heads = "".join(f"{f'n={mark}':>22s}" for mark in MARKS)
    yield f"{'':22s}{heads}  duplicates  s/proposal"
    for name in sorted(found, key=lambda one: -float(found[one]["100"])):
        entry = found[name]
        cells = "".join(_cell(entry, str(mark)).rjust(22) for mark in MARKS)
        yield f"{name:22s}{cells}{entry['duplicates']:12.1%}{entry['seconds_per_proposal']:12.3f}"
    for match in matches:
        yield f"{match.task.name}: {json.dumps(match.about())}"
    scored = [match.scores for match in matches]
    count = comparisons(list(found))
    yield f"{count} comparisons at 95 %, not corrected for their number"
    for mark in MARKS:
        for one in sorted(found):
            behind = [other for other in found if score.ahead(scored, one, other, mark)]
            if behind:
                yield f"n={mark}: {one} is ahead of {', '.join(sorted(behind))}"
    if DEFAULT in found and "tpe" in found:
        mean, low, high = score.lead(scored, DEFAULT, "tpe", 50, 100)
        yield f"{DEFAULT} at 50 less tpe at 100: {mean:.3f} [{low:.3f}, {high:.3f}]"


def _cell(entry: Mapping[str, Any], mark: str) -> str:
    low, high = entry["interval"][mark]
    if low is None:
        return f"{entry[mark]:.3f} [too few]"
    return f"{entry[mark]:.3f} [{low:.2f}, {high:.2f}]"
