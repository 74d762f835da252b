"""One finished run as the report shows it: plain values, no torch, no ledger, no models.

Whoever has run the search fills in a :class:`RunRecord`; the report draws it. Shares (accuracies,
rates) are in [0, 1], sizes in KB of 1,024 bytes of fp32 parameters and buffers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS: dict[str, str] = {
    "distillation": "what candidates are trained on",
    "router": "what routers are fitted on; withheld from distillation",
    "validation": "chooses the student and ranks the routers",
    "calibration": "fixes the threshold",
    "test": "opened last, after everything was fixed",
}


def _known_part(part: str, what: str) -> None:
    if part not in PARTS:
        raise ValueError(f"{what} names the part {part!r}; expected one of {', '.join(PARTS)}")


@dataclass(frozen=True)
class Figure:
    """One measured number and where it comes from.

    ``unit``: "share" (shown in per cent) or the unit itself ("KB", "ms", "" for a pure number).
    ``rows``: how many rows of ``part`` it was measured on. ``value``: None where it is undefined
    (AccI where the teacher is no better than the student). ValueError for an unknown part.
    """

    name: str
    value: float | None
    part: str
    rows: int
    unit: str = "share"

    def __post_init__(self) -> None:
        _known_part(self.part, f"the figure {self.name!r}")


@dataclass(frozen=True)
class TeacherFacts:
    """The model submitted; ``figures``: what it reaches, part by part."""

    name: str
    kb: float
    parameters: int
    macs: int
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class StudentFacts:
    """The student that ships; ``actions``: its coefficients, layer by layer."""

    kb: float
    parameters: int
    macs: int
    actions: tuple[float, ...]


@dataclass(frozen=True)
class CandidateRow:
    """One evaluated candidate.

    ``status``: "done"; "stopped" at a rung, where ``accuracy`` and ``reward`` are those of its
    last epoch and ``reason`` names it; or "failed", where ``reason`` says why, ``accuracy`` is
    None and the reward 0. ``accuracy`` is on the validation part, after the short training;
    ``expected``: what the full one is expected to reach there, which is what the reward is of;
    None where it is the same. ``within_limits``: the job's limits on size and, as expected, on
    drop are kept. ``trained``: what a finalist did reach there after its full training; None for
    all others.
    """

    number: int
    accuracy: float | None
    kb: float
    macs: int
    reward: float
    within_limits: bool
    seconds: float
    status: str = "done"
    reason: str = ""
    expected: float | None = None
    trained: float | None = None

    @property
    def shown(self) -> float | None:
        """The accuracy that is held against the thresholds."""
        return self.accuracy if self.expected is None else self.expected

    @property
    def whole(self) -> bool:
        """Trained to the end: its accuracy may be compared."""
        return self.accuracy is not None and self.status == "done"


@dataclass(frozen=True)
class LayerRow:
    """One weight layer of the teacher and what became of it.

    ``before``, ``after``: shapes in words, such as "3×3, 64 → 128, /2"; ``after`` is "" for a
    layer that was removed. ``coefficient``: None where the layer had no choice.
    """

    name: str
    kind: str
    before: str
    after: str
    coefficient: float | None
    kb_before: float
    kb_after: float

    @property
    def removed(self) -> bool:
        return self.kb_after == 0


@dataclass(frozen=True)
class RouterRow:
    """One ranked router, on the validation part; nan if out, or where a figure is not defined.

    ``area`` has a 95 % interval; ``accuracy_at_10``: of the pair at 10 % appeals;
    ``appeals_for_90``: the share of appeals that wins 90 % of the gap back.
    """

    name: str
    kind: str
    area: float
    area_low: float
    area_high: float
    auroc: float
    kb: float
    microseconds: float
    note: str = ""
    accuracy_at_10: float = math.nan
    appeals_for_90: float = math.nan
    tied: bool = False

    @property
    def out(self) -> bool:
        """Listed with its reason, but not in the race."""
        return self.area != self.area


@dataclass(frozen=True)
class FinalistRow:
    """A candidate of the last round, on the validation part.

    ``origin``: "search", or what plain thing it is ("uniform" width, the "largest" that fits, a
    "pilot"); "" where nobody knows. ``proxy``, ``accuracy``: after the short and the full training.
    """

    number: int
    origin: str
    kb: float
    macs: int
    proxy: float | None
    accuracy: float


@dataclass(frozen=True)
class PairSizes:
    """KB: of the student's fp32 weights and the router's file; on disk of ``pair.onnx`` and of the
    student."""

    kb: float
    file_kb: float
    student_file_kb: float


@dataclass(frozen=True)
class RankingFacts:
    """What the routers were fitted on, and between which areas they lie.

    ``complex_rows`` of ``fitted_rows`` are errors of the student; ``oracle_area`` and
    ``random_area``: the best and the blind, on the validation part.
    """

    complex_rows: int
    fitted_rows: int
    oracle_area: float
    random_area: float


# Appealing rates and the pair's accuracies at them; both ascend from rate 0 to rate 1.
Points = Sequence[float] | NDArray[np.floating[Any]]
CurvePoints = tuple[Points, Points]


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    ``thresholds``: c0, a0, alpha, beta and the hard limits as printed when the job started, None
    where a limit was not set. ``earlier``: KB and expected accuracy of candidates of other runs
    that the search began with. ``winner``: the number of the candidate that ships. ``curves``:
    by router, with "oracle" and "random" beside them. ``operating_point``: (appealing rate,
    accuracy of the pair). ``confusion``: ((right trusted, right appealed), (wrong trusted, wrong
    appealed)) rows. Curves, operating point and confusion are measured on ``pair_part``.
    ``figures``: most important first; the first four are shown large. One that stands among the
    teacher's figures too is listed once. ``milliseconds``: of teacher and student for one input, on
    the machine of the search; None where nobody timed them. ``chance``: accuracy of a guess among
    the classes. ``verdict``: the run in one sentence; ``alarms``: names and texts of its warnings,
    the worst first; ``warnings`` are the caveats of the figures. ``data``: name of the data set.
    ``finalists``: the best first, the one that ships among them.
    """

    title: str
    command: str
    created: str
    seed: int
    parts: Mapping[str, int]
    thresholds: Mapping[str, float | None]
    teacher: TeacherFacts
    student: StudentFacts
    candidates: tuple[CandidateRow, ...]
    winner: int
    layers: tuple[LayerRow, ...]
    routers: tuple[RouterRow, ...]
    router_name: str
    threshold: float
    curves: Mapping[str, CurvePoints]
    operating_point: tuple[float, float]
    confusion: tuple[tuple[int, int], tuple[int, int]]
    figures: tuple[Figure, ...]
    chance: float = 0.0
    earlier: tuple[tuple[float, float], ...] = ()
    warnings: tuple[str, ...] = ()
    note: str = ""
    pair_part: str = "test"
    milliseconds: tuple[float, float] | None = None
    ranking: RankingFacts | None = None
    verdict: str = ""
    alarms: tuple[tuple[str, str], ...] = ()
    data: str = ""
    finalists: tuple[FinalistRow, ...] = ()
    pair: PairSizes | None = None

    def __post_init__(self) -> None:
        _known_part(self.pair_part, "the pair")
        for part in self.parts:
            _known_part(part, "the count of rows")
        if self.winner not in {row.number for row in self.candidates}:
            raise ValueError(f"the winner, number {self.winner}, is not among the candidates")
