"""Fit every router, and rank them by what they do for the pair.

The order is by area under the deferral curve on the validation part, measured on the scores that
the ONNX file gives (with a teacher that is always right, where ours is not clearly better than its
student). Those that the data cannot tell from the best are *tied*, and of tied ones the smallest
wins: a learned router must earn its kilobytes. Scores that many rows share are in no order for the
area, and are told apart in the file that ships (:mod:`routers.ranking.ties`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput, check_member
from routers.evaluation import metrics
from routers.evaluation.intervals import FIGURES, bootstrap, figures_of
from routers.fitting.crossfit import Plan, plan
from routers.fitting.tuning import tuned
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import Feature, feature
from routers.onnx.standard import standard
from routers.ranking.room import ANY_ROOM, Room
from routers.ranking.ties import broken, second_score
from routers.selection.labels import student_right
from routers.selection.qbc import SAMPLING

Logits = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Model = bytes  # a serialised onnx.ModelProto

# With no gap to win back, the few rows where the teacher is wrong would decide the ranking, and a
# router that appeals at random can come first: it puts off the harm.
NO_GAP = (
    "On the validation part the teacher is not clearly better than the student, so routers are "
    "ranked by how early they find the student's errors, as if every appeal were answered right."
)

# Below this many errors a fitted router mostly learns noise.
LEAST_COMPLEX_ROWS = 20
CONFIDENCE = 0.95

# Takes a router's file, and raises ValueError where it cannot stand in one graph with the student.
Joined = Callable[[Model], object]

# Called after each candidate with its name, how many are done, and how many there are.
OnEvent = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RouterData:
    """What ranking needs, all of it from the student that ships.

    Logits are float N×K, labels int N, ``validation_teacher_right`` N of 0 and 1. What ``router_``
    stands for is fitted on, and should not have been seen by the student's training; the validation
    part must not.
    """

    router_logits: Logits
    router_labels: NDArray[np.int64]
    validation_logits: Logits
    validation_labels: NDArray[np.int64]
    validation_teacher_right: NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True)
class Offered:
    """A router that is ready: a head of the student's own.

    ``scores``: float32 N, on the validation part; ``bytes`` and ``microseconds``: what it adds.
    """

    name: str
    scores: NDArray[np.float32]
    bytes: int
    microseconds: float


@dataclass(frozen=True)
class RankedRouter:
    """One router as the ranking saw it.

    ``kind``: "family" (fitted), "score" (not) or "head" (of the student's own; it has no model).
    ``figures``: all of :data:`routers.evaluation.intervals.FIGURES`, on the validation part;
    ``area_low`` and ``area_high``: the 95 % bootstrap interval of the area. ``bytes`` and
    ``model``: the ONNX file. ``microseconds``: one row on one thread; for information, it moves
    from run to run and never decides. ``tied``: the data cannot tell it from the best. ``reason``:
    why it is out of the race ("" if it is in); then there are no figures and the model may be
    empty. ``parameters``: of a family's fit, by name.
    """

    name: str
    kind: str
    figures: Mapping[str, float] = field(default_factory=dict)
    area_low: float = math.nan
    area_high: float = math.nan
    bytes: int = 0
    microseconds: float = math.nan
    model: Model = b""
    tied: bool = False
    reason: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """Mean accuracy of the pair over all appealing rates; nan out of the race."""
        return self.figures.get("area", math.nan)

    @property
    def whole_kb(self) -> int:
        """Of its file, rounded up: what sizes are compared by, as less says nothing."""
        return math.ceil(self.bytes / 1024)

    @property
    def auroc(self) -> float:
        """Nan where the student is right everywhere or nowhere, and out of the race."""
        return self.figures.get("auroc", math.nan)


@dataclass(frozen=True)
class Ranking:
    """Routers, the winner first, then the tied, the others by area, and those out of the race.

    ``complex_rows``: M, the student's errors among the ``fitted_rows`` that families may use;
    ``error_rate``: their natural share (a balanced fit hides it). ``oracle_area`` and
    ``random_area``: the best and the blind, on the validation part. ``note``: one or two sentences
    for the report. ``gap``: the teacher is clearly better than the student there; where it is not,
    all figures are of a teacher that is always right.
    """

    rows: tuple[RankedRouter, ...]
    winner: RankedRouter
    complex_rows: int
    fitted_rows: int
    oracle_area: float
    random_area: float
    note: str
    gap: bool = True

    @property
    def error_rate(self) -> float:
        """Of the student, on the rows that families were fitted on."""
        return self.complex_rows / self.fitted_rows


class _Part(NamedTuple):
    """The router part as families see it: features float32 N×F, 1 where the student is right."""

    described: NDArray[np.float32]
    right: NDArray[np.int64]
    plan: Plan
    look: Feature


class _Entry(NamedTuple):
    row: RankedRouter
    scores: NDArray[np.float32] | None  # on the validation part, as the file gives them


def fit_and_rank(
    data: RouterData,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    scores: Sequence[str] = tuple(SCORES),
    sampling: str = "qbc",
    r: float = 0.5,
    features: str = "logits",
    trials: int = 1,
    seed: int,
    resamples: int = 1000,
    offered: Sequence[Offered] = (),
    room: Room = ANY_ROOM,
    portable: bool = False,
    joined: Joined | None = None,
    on_event: OnEvent | None = None,
) -> Ranking:
    """Fit ``families`` on the router part, add ``scores``, rank all on the validation part.

    ``sampling`` and ``r`` choose the rows of the fit (:data:`SAMPLING`); ``features`` what the
    families look at; ``trials`` of each family's parameters are made
    (:mod:`routers.fitting.tuning`), on the router part alone; ``offered`` are ranked with the
    others; ``room`` is what limits on size leave for a router. ``portable``: all files are in
    operators of the ONNX standard domain. A router that ``joined`` refuses is out of the race. With
    fewer than 20 complex rows, or no normal one, families are listed unfitted with the reason.
    BadInput for an unknown name and where no score is given, as the baselines always take part, or
    where no router has room.
    """
    look = _check_names(families, scores, sampling, features)
    entries, right = [], student_right(data.router_logits, data.router_labels)
    M, total = int(np.sum(right == 0)), len(scores) + len(families) + len(offered)

    def done(entry: _Entry) -> None:
        entry = _joining(entry, joined)
        entries.append(entry)
        if on_event is not None:
            on_event(entry.row.name, len(entries), total)

    for name in scores:
        done(_score(name, data))
    for one in offered:
        row = RankedRouter(one.name, "head", bytes=one.bytes, microseconds=one.microseconds)
        done(_Entry(row, one.scores))
    unfit = _too_few(M, len(right))
    part = None
    if families and not unfit:
        described = look.compute(data.router_logits)
        chosen = plan(described, right, seed, sampling=sampling, r=r)
        part = _Part(described, right, chosen, look)
    for name in families:
        if part is None:
            done(_Entry(RankedRouter(name, "family", reason=unfit), None))
        else:
            done(_family(name, part, data, seed, trials, portable))
    return _rank(entries, data, M, unfit, resamples, seed, room)


def _check_names(
    families: Sequence[str], scores: Sequence[str], sampling: str, features: str
) -> Feature:
    for what, given, known in (
        ("router family", families, FAMILIES),
        ("router score", scores, SCORES),
        ("sampling of router rows", [sampling], SAMPLING),
    ):
        for name in given:
            check_member(what, name, known)
    if not scores:
        raise BadInput(
            "no score in the ranking",
            value="none",
            bound=f"at least one of {', '.join(sorted(SCORES))}",
            remedy="Scores cost nothing, and are what a fitted router must beat.",
        )
    return feature(features)


def _too_few(M: int, rows: int) -> str:
    if M < LEAST_COMPLEX_ROWS:
        return (
            f"not fitted: the student errs on {M} of {rows} rows to fit on, "
            f"fewer than the {LEAST_COMPLEX_ROWS} that a fit needs"
        )
    if rows == M:
        return f"not fitted: the student errs on all {rows} rows to fit on"
    return ""


def _score(name: str, data: RouterData) -> _Entry:
    logits = data.validation_logits
    # on rows at their natural rate: what is sampled for a family would mislead a temperature
    member = SCORES[name].tuned(data.router_logits, data.router_labels)
    model = member.to_onnx(logits.shape[1]).SerializeToString(deterministic=True)
    return _checked(RankedRouter(name, "score", model=model), member.score(logits), logits)


def _family(
    name: str, part: _Part, data: RouterData, seed: int, trials: int, portable: bool
) -> _Entry:
    row, logits = RankedRouter(name, "family"), data.validation_logits
    classes, look = logits.shape[1], part.look
    try:
        fitted = tuned(
            name, part.described, part.right, seed,
            trials=trials, plan=part.plan, classes=classes, feature=look,
        )  # fmt: skip
        row = replace(row, parameters=fitted.parameters)
        expected = fitted.score(look.compute(logits))
        file = fitted.to_onnx(classes, look)
        model = (standard(file) if portable else file).SerializeToString(deterministic=True)
        return _checked(replace(row, model=model), expected, logits)
    except Exception as error:
        # One family that three libraries disagree on must not cost the job its other eight.
        return _Entry(replace(row, reason=f"{type(error).__name__}: {error}"), None)


def _checked(row: RankedRouter, expected: Floats, logits: Logits) -> _Entry:
    row = replace(row, bytes=len(row.model), microseconds=export.microseconds(row.model, logits))
    try:
        return _Entry(row, export.check_export(expected, row.model, logits))
    except export.ExportMismatch as mismatch:
        return _Entry(replace(row, reason=str(mismatch)), None)


def _joining(entry: _Entry, joined: Joined | None) -> _Entry:
    """The same, or out of the race where the student's graph and the router's cannot be one."""
    if joined is None or entry.scores is None or not entry.row.model:
        return entry
    try:
        joined(entry.row.model)
    except ValueError as error:
        return _Entry(replace(entry.row, reason=f"cannot ship with this student: {error}"), None)
    return entry


def _rank(
    entries: Sequence[_Entry],
    data: RouterData,
    M: int,
    unfit: str,
    resamples: int,
    seed: int,
    room: Room,
) -> Ranking:
    right = student_right(data.validation_logits, data.validation_labels)
    gap = teacher_is_ahead(right, data.validation_teacher_right)
    teacher = data.validation_teacher_right if gap else np.ones_like(right)
    running = [(entry.row, entry.scores) for entry in entries if entry.scores is not None]
    out = [entry.row for entry in entries if entry.scores is None]
    if not running:
        raise RuntimeError("no router is left: " + "; ".join(f"{r.name}: {r.reason}" for r in out))

    measured = [
        replace(row, figures=figures_of(scores, right, teacher, tuple(FIGURES)))
        for row, scores in running
    ]
    measured = _untied(measured, data.validation_logits)
    running = [(row, scores) for row, (_, scores) in zip(measured, running, strict=True)]
    inside = [(row, scores) for row, scores in running if room.holds(row.bytes)]
    out += [_too_large(row, room) for row, _ in running if not room.holds(row.bytes)]
    if not inside:
        raise room.refusal(min((row.bytes, row.name) for row, _ in running))
    drawn = bootstrap(
        [scores for _, scores in inside], right, teacher, ["area"], resamples=resamples, seed=seed
    )
    rows = _judged([row for row, _ in inside], drawn["area"], room)
    winner = rows[0]
    return Ranking(
        rows=(*rows, *out),
        winner=winner,
        complex_rows=M,
        fitted_rows=len(data.router_labels),
        oracle_area=metrics.area_under(metrics.oracle_curve(right, teacher)),
        random_area=metrics.area_under(metrics.random_curve(right, teacher)),
        note=" ".join(filter(None, [_note(winner, rows, unfit), "" if gap else NO_GAP])),
        gap=gap,
    )


def _untied(rows: Sequence[RankedRouter], logits: Logits) -> list[RankedRouter]:
    """``rows`` with files that break ties; their figures stay those of ties in no order."""
    areas = {row.name: row.area for row in rows if row.kind == "score"}
    made = []
    for row in rows:
        # a score that is saturated, such as a probability of 1, leaves no second one to ask
        second, top = second_score(areas, but=row.name), row.kind == "family"
        model = broken(row.model, logits, second, top=top) if row.model else row.model
        if model is not row.model:
            took = export.microseconds(model, logits)
            row = replace(row, model=model, bytes=len(model), microseconds=took)
        made.append(row)
    return made


def teacher_is_ahead(right: NDArray[np.int64], teacher: NDArray[Any]) -> bool:
    """Whether the rows show a teacher better than its student, at 95 % confidence.

    Of the rows where just one of the two is right (``right`` and ``teacher`` are N of 0 and 1), the
    teacher's share has to lie above one half by 1.96 standard errors (McNemar's test).
    """
    won = int(np.sum((right == 0) & (teacher == 1)))
    lost = int(np.sum((right == 1) & (teacher == 0)))
    return won - lost > 1.96 * math.sqrt(won + lost)


def _too_large(row: RankedRouter, room: Room) -> RankedRouter:
    reason = f"takes the pair to {room.pair_kb(row.bytes):,.1f} KB, above --max-pair-kb"
    return RankedRouter(row.name, row.kind, bytes=row.bytes, reason=reason)


def _judged(rows: list[RankedRouter], areas: Floats, room: Room) -> list[RankedRouter]:
    """``rows`` with intervals and ties, in the order of the ranking."""
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    best = max(range(len(rows)), key=lambda i: rows[i].area)
    low, high = np.quantile(areas, tails, axis=1)
    # Tied: the interval of the paired difference to the best does not lie below zero.
    reach = np.quantile(areas - areas[best], tails[1], axis=1)
    judged = [
        replace(row, area_low=float(low[i]), area_high=float(high[i]), tied=bool(reach[i] >= 0))
        for i, row in enumerate(rows)
    ]
    return sorted(judged, key=lambda row: _place(row, room))


def _place(row: RankedRouter, room: Room = ANY_ROOM) -> tuple[bool, bool, int, float, int, str]:
    """Tied ones first, those before the others that keep the pair within the student's limit, then
    by whole KB, as they are shown; the others by area."""
    beyond = row.tied and not room.suits(row.bytes)
    return not row.tied, beyond, row.whole_kb if row.tied else 0, -row.area, row.bytes, row.name


def _note(winner: RankedRouter, rows: Sequence[RankedRouter], unfit: str) -> str:
    tied = sum(row.tied for row in rows)
    parts = [f"Fitted families are {unfit}."] if unfit else []
    if tied > 1:
        parts.append(
            f"{tied} routers cannot be told apart on the validation part; "
            f"{winner.name} is {_smallest(winner, [row for row in rows if row.tied])}."
        )
    elif len(rows) > 1:
        parts.append(f"{winner.name} is better than every other at 95 % confidence.")
    if winner.kind == "score" and any(row.kind == "family" for row in rows):
        parts.append("It needs no fitting: no fitted router earned its size here.")
    return " ".join(parts)


def _smallest(winner: RankedRouter, tied: Sequence[RankedRouter]) -> str:
    """What the winner of several is, in the whole KB that are compared and shown."""
    size = winner.whole_kb
    alike = sum(row.whole_kb == size for row in tied)
    if alike > 1:
        return f"the best by area of the {alike} smallest, of at most {size} KB each"
    return f"the smallest of them, at most {size} KB"
