"""Which thresholds make the reward choose what a user wants, over candidates already paid for.

The user's own objective names a candidate; the reward names another for every (α, β, C0, A0). This
finds where the two agree: as a map over (C0, A0), along α : β, and as one setting to paste.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.reward import REWARDS, WeightedReward
from search.analysis.scored_trials import Run, Standings, standings
from search.job.spec import JobSpec
from search.space.pareto import pareto_front, rectangles
from search.space.thresholds import beta_of, drop_of

#: steps of the map along each threshold, and along the ratio of the weights
STEPS = 61
RATIOS = 41
#: the largest α : β that is tried, and one over it the least
MOST_RATIO = 100.0
#: steps along each threshold where the weights are searched too
COARSE = 21


@dataclass(frozen=True)
class Objective:
    """What a user is after; higher merit is better.

    Attributes:
        text: in words.
        merit: of every candidate, −inf where it does not come into question.
    """

    text: str
    merit: NDArray[np.float64]


def _smallest(found: Standings) -> Objective:
    drop = drop_of(found.spec)
    kept = found.run.facts.accuracy - found.expected <= drop + 1e-9
    text = f"smallest with an expected drop of at most {drop * 100:g} points"
    # of equally small ones the more accurate: far less than any difference between two sizes
    merit = -found.run.columns.kb + 1e-9 * found.expected
    return Objective(text, np.where(kept, merit, -np.inf))


def check_limits(target: str, spec: JobSpec) -> None:
    """Refuse a target whose limit is not there, and a reward that nothing can be tuned of.

    Raises:
        BadInput: names the option.
    """
    if not issubclass(REWARDS.get(spec.reward, WeightedReward), WeightedReward):
        raise BadInput(
            "this reward has no weights and no thresholds to tune",
            value=f"--reward {spec.reward}",
            bound=", ".join(n for n, kind in REWARDS.items() if issubclass(kind, WeightedReward)),
            remedy="Choose one of these for --reward.",
        )
    if target == "accurate" and spec.max_kb is None:
        raise BadInput(
            "the most accurate candidate of all is the largest",
            value="--target accurate without --max-kb",
            bound="a limit on size",
            remedy="Give --max-kb.",
        )


def _accurate(found: Standings) -> Objective:
    spec, kb = found.spec, found.run.columns.kb
    assert spec.max_kb is not None
    text = f"most accurate with at most {spec.max_kb:g} KB"
    # of equally accurate ones the smaller: far less than any difference between two accuracies
    merit = found.expected - 1e-9 * kb / found.run.facts.kb
    return Objective(text, np.where(kb <= spec.max_kb, merit, -np.inf))


def _hypervolume(found: Standings) -> Objective:
    facts = found.run.facts
    sides = rectangles(found.run.columns.kb, found.expected, facts.kb, facts.chance)
    return Objective("covers most of size and accuracy by itself", sides.prod(1))


TARGETS: dict[str, Callable[[Standings], Objective]] = {
    "smallest": _smallest,
    "accurate": _accurate,
    "hypervolume": _hypervolume,
}


@dataclass(frozen=True)
class Plane:
    """Who wins over (C0, A0), at one α and β.

    Attributes:
        c0, a0: the steps, ascending in KB of a student at C0, and in accuracy.
        winners: indices of candidates, of shape (a0, c0).
    """

    c0: NDArray[np.float64]
    a0: NDArray[np.float64]
    winners: NDArray[np.int64]

    @property
    def chosen(self) -> list[int]:
        """Candidates that win somewhere, those with the largest regions first."""
        names, areas = np.unique(self.winners, return_counts=True)
        return [int(name) for name in names[np.argsort(-areas, kind="stable")]]

    def share(self, index: int) -> float:
        """The share of the plane that selects a candidate."""
        return float((self.winners == index).mean())


@dataclass(frozen=True)
class Tuning:
    """What the ledger says about an objective.

    Attributes:
        standings: the run's candidates, under the values the search was asked about.
        objective: what the user is after.
        best: index of the candidate that is best by it.
        plane: over (C0, A0), at the α and β of ``setting`` where there is one.
        ratios, line: α : β, and who wins at each, at the C0 and A0 of ``setting``.
        setting: alpha, beta, c0 and a0 that select ``best``; None where no setting tried does.
        nearest: a setting that selects the best by the objective of those any setting selects;
            None where ``setting`` is there.
        chosen: the candidate that ``setting``, or else ``nearest``, selects.
    """

    standings: Standings
    objective: Objective
    best: int
    plane: Plane
    ratios: NDArray[np.float64]
    line: NDArray[np.int64]
    setting: dict[str, float] | None
    nearest: dict[str, float] | None
    chosen: int

    def result(self) -> dict[str, Any]:
        """Everything but the picture, as JSON values."""
        found, setting = self.standings, self.setting or self.nearest
        assert setting is not None
        words = ["--reward", found.spec.reward]
        for name, value in setting.items():
            words += [f"--{name}", f"{value:g}"]
        for name in ("rho", "proxy_gain", "max_macs"):
            if (value := getattr(found.spec, name)) != getattr(found.run.spec, name):
                words += ["--" + name.replace("_", "-"), str(value)]
        return {
            "run": str(found.run.folder.root),
            "target": self.objective.text,
            "best": found.row(self.best),
            "now": found.row(standings(found.run, found.run.spec).winner),
            "selected": self.setting is not None,
            "setting": setting,
            "chosen": found.row(self.chosen),
            "options": " ".join(words),
            "share": self.plane.share(self.chosen),
            "regions": [
                {"number": index + 1, "share": self.plane.share(index)}
                for index in self.plane.chosen
            ],
        }


def tune(run: Run, spec: JobSpec, target: str) -> Tuning:
    """Find the settings under which the reward selects what the target asks for.

    Args:
        run: whose candidates.
        spec: its job, with the limits that the target is about.
        target: one of :data:`TARGETS`.

    Raises:
        BadInput: no candidate meets the target.
    """
    check_limits(target, spec)
    # a limit that only the target is about must not hide candidates from the map
    free = standings(run, spec.model_copy(update={"max_kb": run.spec.max_kb}))
    assert free.winner >= 0  # refuses where nobody may win
    objective = TARGETS[target](standings(run, spec))
    may = free.eligible
    if spec.max_kb is not None:
        may = may & (run.columns.kb <= spec.max_kb)
        if not may.any():
            raise _nobody(free, free.eligible, spec, "accurate")
    merit = np.where(may, objective.merit, -np.inf)
    best = int(np.argmax(merit))
    if merit[best] == -np.inf:
        raise _nobody(free, may, spec, target)
    field = _Field(free, merit, best)
    setting = field.setting()
    nearest = None if setting else field.nearest()
    used = setting or nearest
    assert used is not None
    plane = field.plane(used["alpha"], used["beta"], STEPS)
    ratios = np.geomspace(1 / MOST_RATIO, MOST_RATIO, RATIOS)
    line = np.array([field.winner(*_weights(r, free.spec), used["c0"], used["a0"]) for r in ratios])
    return Tuning(
        free, Objective(objective.text, merit), best, plane, ratios, line, setting, nearest,
        field.winner(**used),
    )  # fmt: skip


def _weights(ratio: float, spec: JobSpec) -> tuple[float, float]:
    """α and β of a ratio, with the sum that the job has and within what a job may say."""
    total = min(300.0, spec.alpha + beta_of(spec)) or 1.0
    return total * ratio / (1 + ratio), total / (1 + ratio)


class _Field:
    """The candidates that may win, and who does under a setting."""

    def __init__(self, found: Standings, merit: NDArray[np.float64], best: int) -> None:
        self.found, self.merit, self.best = found, merit, best
        self.rows = np.flatnonzero(found.eligible)
        self.accuracy = found.expected[self.rows]
        self.compression = found.compression[self.rows]
        if found.reward_rises:
            # whoever is beaten in both is beaten under every setting
            front = pareto_front(list(zip(-self.compression, self.accuracy, strict=True)))
            keep = np.sort(np.array(front, np.int64))
            self.rows = self.rows[keep]
            self.accuracy, self.compression = self.accuracy[keep], self.compression[keep]

    def winner(self, alpha: float, beta: float, c0: float, a0: float) -> int:
        """Who wins under a setting; of equals the first, as in a search."""
        assert isinstance(self.found.reward, WeightedReward)
        reward = replace(self.found.reward, alpha=alpha, beta=beta, c0=c0, a0=a0)
        return int(self.rows[np.argmax(reward.log(self.accuracy, self.compression))])

    def plane(self, alpha: float, beta: float, steps: int) -> Plane:
        """The map over (C0, A0): sizes even on a log scale, accuracies even."""
        kb = self.found.run.facts.kb
        sizes = (1 - self.compression) * kb
        low, high = float(sizes.min()) / 2, min(kb, float(sizes.max()) * 2)
        c0 = np.clip(1 - np.geomspace(low, high, steps) / kb, 0, 1)
        top = min(1.0, max(float(self.accuracy.max()), self.found.run.facts.accuracy) + 0.01)
        # nobody asks for thresholds far below what a teacher can do; the target's must be there
        asked = float(self.found.expected[self.best]) - 0.02
        low_a0 = min(asked, max(float(self.accuracy.min()), top - 0.25), top - 0.02)
        a0 = np.linspace(max(0.0, low_a0), top, steps)
        winners = np.array([[self.winner(alpha, beta, c, a) for c in c0] for a in a0])
        return Plane(c0, a0, winners)

    def setting(self) -> dict[str, float] | None:
        """A setting that selects the target: with the job's weights if any does, else others."""
        if self.best not in self.rows:
            return None
        spec, now = self.found.spec, self.found.reward
        assert isinstance(now, WeightedReward)
        asked = {"alpha": now.alpha, "beta": now.beta, "c0": now.c0, "a0": now.a0}
        if self.winner(**asked) == self.best:
            return asked
        own = self._within(spec.alpha, now.beta, STEPS)
        if own is not None:
            return own
        ratios = np.geomspace(1 / MOST_RATIO, MOST_RATIO, RATIOS)
        wanted = spec.alpha / now.beta if now.beta else MOST_RATIO
        # the nearest to what the job has is the least surprise
        for ratio in sorted(ratios, key=lambda r: abs(np.log(r / max(wanted, 1e-9)))):
            alpha, beta = (float(f"{w:.3g}") for w in _weights(ratio, spec))
            found = self._within(alpha, beta, COARSE)
            if found is not None:
                return found
        return None

    def _within(self, alpha: float, beta: float, steps: int) -> dict[str, float] | None:
        """The (C0, A0) farthest from where another would win, in digits that one would type."""
        plane = self.plane(alpha, beta, steps)
        for row, column in deepest(plane.winners == self.best):
            for digits in (4, 6):
                found = {
                    "alpha": alpha,
                    "beta": beta,
                    "c0": round(float(plane.c0[column]), digits),
                    "a0": round(float(plane.a0[row]), digits),
                }
                if self.winner(**found) == self.best:
                    return found
        return None

    def nearest(self) -> dict[str, float]:
        """The setting whose winner has the highest merit, of all weights and thresholds tried."""
        best: tuple[float, dict[str, float]] | None = None
        for ratio in np.geomspace(1 / MOST_RATIO, MOST_RATIO, RATIOS):
            alpha, beta = (float(f"{w:.3g}") for w in _weights(ratio, self.found.spec))
            plane = self.plane(alpha, beta, COARSE)
            for index in plane.chosen:
                merit = float(self.merit[index])
                if best is None or merit > best[0]:
                    row, column = next(iter(deepest(plane.winners == index)))
                    where = float(plane.c0[column]), float(plane.a0[row])
                    thresholds = dict(zip(("c0", "a0"), (round(x, 6) for x in where), strict=True))
                    best = merit, {"alpha": alpha, "beta": beta} | thresholds
        assert best is not None
        return best[1]


def deepest(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Cells of a region, those farthest from its border first; the map's edge is one."""
    depth = np.zeros(mask.shape, int)
    inside = mask.copy()
    while inside.any() and depth.max() < max(mask.shape):
        depth += inside
        padded = np.pad(inside, 1, constant_values=False)
        inside = (
            inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    order = np.argsort(-depth, axis=None, kind="stable")[: int(mask.sum())]
    return [(int(i) // mask.shape[1], int(i) % mask.shape[1]) for i in order]


def _nobody(free: Standings, may: NDArray[np.bool_], spec: JobSpec, target: str) -> BadInput:
    if target == "accurate":
        least = np.ceil(free.run.columns.kb[may].min() * 10) / 10
        value, bound = f"--max-kb {spec.max_kb}", f"{least:.1f} KB or more"
    else:
        drops = free.run.facts.accuracy - free.expected[may]
        least = np.ceil(drops.min() * 1e4 - 1e-6) / 1e4
        value, bound = f"--max-drop {drop_of(spec):g}", f"{least:.4f} or more"
    return BadInput(
        "no candidate of the run meets the target",
        value=value,
        bound=bound,
        remedy="Ask for less, or go on searching: `understudy search --resume` with a higher "
        "--budget.",
    )
