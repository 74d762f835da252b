"""From a finished run to the record behind its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.manifest import Figure
from envs.compression.cost import cost, node_cost
from envs.gym.viewer import describe
from routers.calibration.calibrate import appeals
from routers.evaluation.metrics import deferral_curve, oracle_curve, random_curve
from routers.onnx.export import run as run_router
from search.finalists.finalists import LastRound
from search.job.events import has_name
from search.job.spec_file import command_of
from search.ledger.ledger import Record
from search.packaging.measure import PairRows
from search.packaging.package import Shipped
from search.preparation.prepared import Prepared
from search.report import record as report
from search.report.result import Speeds, pair_kb
from search.report.verdict import in_order

#: scores that need no fitting, drawn beside the router that ships
BASELINES = 3


def record_of(
    prepared: Prepared,
    records: Sequence[Record],
    last: LastRound,
    shipped: Shipped,
    speeds: Speeds,
    now: datetime,
    command: str | None = None,
    earlier: Sequence[tuple[float, float]] = (),
    result: Mapping[str, Any] | None = None,
) -> report.RunRecord:
    """The run as the report shows it; ``earlier`` is what its search began with, ``result`` what
    it says of itself (:func:`search.report.result.result_of`)."""
    winner = last.winner
    trained = {finalist.key: accuracy for finalist, accuracy in last.ranked}
    spec, settings = prepared.spec, prepared.reward.settings
    student, teacher = cost(shipped.student), cost(prepared.network)
    appealed = appeals(shipped.rows["test"].score, shipped.threshold)
    figures = shipped.manifest.figures
    return report.RunRecord(
        title=shipped.manifest.name,
        command=command or command_of(spec),
        created=now.isoformat(timespec="minutes"),
        seed=spec.seed,
        parts=prepared.parts.counts(),
        thresholds={
            "c0": settings.get("c0"),
            "a0": settings.get("a0"),
            "alpha": settings.get("alpha"),
            "beta": settings.get("beta"),
            "max_kb": spec.max_kb,
            "max_macs": spec.max_macs,
            "max_ms": spec.max_ms,
            "max_drop": spec.max_drop,
        },
        teacher=report.TeacherFacts(
            prepared.teacher.name,
            teacher.kb,
            teacher.parameters,
            teacher.macs,
            tuple(
                _figure(f"{part}.teacher_accuracy", figures)
                for part in ("validation", "calibration")
            ),
        ),
        student=report.StudentFacts(
            student.kb,
            student.parameters,
            student.macs,
            tuple(prepared.moves.pool[action] for action in winner.actions),
        ),
        candidates=tuple(
            _candidate(number, found, prepared, trained.get(found.key))
            for number, found in enumerate(records, 1)
        ),
        earlier=tuple(earlier),
        winner=1 + records.index(winner),
        layers=_layers(prepared, winner, shipped),
        routers=tuple(_router(row, shipped.ranking.gap) for row in shipped.ranking.rows),
        router_name=shipped.ranking.winner.name,
        threshold=shipped.threshold,
        curves=_curves(shipped),
        operating_point=(
            float(appealed.mean()),
            float(figures["test.pair_accuracy"].value or 0.0),
        ),
        confusion=_confusion(shipped.rows["test"], appealed),
        figures=tuple(
            _figure(name, figures)
            for name in sorted(figures, key=_importance)
            if name not in ("validation.teacher_accuracy", "calibration.teacher_accuracy")
        ),
        chance=1 / prepared.network.classes,
        warnings=(
            tuple(result["caveats"])
            if result
            else tuple(one for one in shipped.manifest.warnings if not has_name(one))
        ),
        note=shipped.ranking.note,
        milliseconds=(speeds.teacher, speeds.student),
        ranking=report.RankingFacts(
            shipped.ranking.complex_rows,
            shipped.ranking.fitted_rows,
            shipped.ranking.oracle_area,
            shipped.ranking.random_area,
        ),
        verdict=result["verdict"] if result else "",
        alarms=tuple(
            (warning["name"], warning["text"])
            for warning in (in_order(result["warnings"]) if result else ())
        ),
        data=prepared.data.name,
        finalists=_finalists(records, last),
        pair=report.PairSizes(
            pair_kb(shipped),
            shipped.manifest.pair.bytes / 1024,
            shipped.manifest.student.bytes / 1024,
        ),
    )


def _finalists(records: Sequence[Record], last: LastRound) -> tuple[report.FinalistRow, ...]:
    numbers = {record.key: number for number, record in enumerate(records, 1)}
    return tuple(
        report.FinalistRow(
            number=numbers.get(found.key, 0),
            origin=last.origin(found),
            kb=found.kb,
            macs=found.macs,
            proxy=None if found.failed else found.accuracy,
            accuracy=accuracy,
        )
        for found, accuracy in last.ranked
    )


#: what a reader looks for first
_FIRST = ("pair_accuracy", "appeals", "student_accuracy", "teacher_accuracy", "acc_i")
_NAMES = {
    "pair_accuracy": "pair, accuracy",
    "student_accuracy": "student alone, accuracy",
    "teacher_accuracy": "teacher alone, accuracy",
    "appeals": "inputs appealed",
    "acc_i": "gap won back (AccI)",
}


def _importance(name: str) -> tuple[int, int]:
    part, figure = name.split(".", 1)
    rank = _FIRST.index(figure) if figure in _FIRST else len(_FIRST)
    return ("test", "calibration", "validation").index(part), rank


def _figure(name: str, figures: Mapping[str, Figure]) -> report.Figure:
    figure = figures[name]
    short = name.split(".", 1)[1]
    shown = _NAMES.get(short, short.replace("_", " "))
    return report.Figure(shown, figure.value, figure.part, figure.rows)


def _candidate(
    number: int, found: Record, prepared: Prepared, trained: float | None
) -> report.CandidateRow:
    least = prepared.space.limits.min_accuracy
    expected = prepared.space.expected(found.accuracy, found.epochs, found.key)
    kept = prepared.space.fits(found.actions) and (least is None or expected >= least)
    return report.CandidateRow(
        number=number,
        accuracy=None if found.failed else found.accuracy,
        kb=found.kb,
        macs=found.macs,
        reward=found.reward,
        within_limits=kept and not found.failed,
        seconds=found.seconds,
        status="failed" if found.failed else "stopped" if found.pruned else "done",
        reason=found.reason or (f"after epoch {found.epochs}" if found.pruned else ""),
        expected=None if found.failed else expected,
        trained=trained,
    )


def _layers(prepared: Prepared, winner: Record, shipped: Shipped) -> tuple[report.LayerRow, ...]:
    after = {node.name: node for node in shipped.student.nodes}
    rows = []
    for layer, action in zip(prepared.space.layers, winner.actions, strict=True):
        before = prepared.network[layer.node]
        kept = after.get(layer.node)
        choice = prepared.space.masks[layer.index].sum() > 1
        rows.append(
            report.LayerRow(
                name=layer.node,
                kind=layer.kind,
                before=describe(before),
                after="" if kept is None else describe(kept),
                coefficient=prepared.moves.pool[action] if choice else None,
                kb_before=node_cost(prepared.network, before).kb,
                kb_after=0.0 if kept is None else node_cost(shipped.student, kept).kb,
            )
        )
    return tuple(rows)


def _router(row: Any, gap: bool) -> report.RouterRow:
    # without a gap the ranking has a teacher that is always right: no figures of this pair
    figures = row.figures if gap else {}
    return report.RouterRow(
        row.name,
        row.kind,
        row.area,
        row.area_low,
        row.area_high,
        row.auroc,
        row.bytes / 1024,
        row.microseconds,
        row.reason,
        figures.get("accuracy_at_10", math.nan),
        figures.get("appeals_for_acc_i_90", math.nan),
        row.tied,
    )


def _curves(shipped: Shipped) -> dict[str, report.CurvePoints]:
    """The winner, the best scores that need no fitting, the oracle and chance, on the test part."""
    rows, ranked = shipped.rows["test"], shipped.ranking.rows
    baselines = sorted(
        (row for row in ranked if row.kind == "score" and not row.reason), key=lambda row: -row.area
    )
    scores: dict[str, NDArray[np.floating[Any]]] = {
        row.name: run_router(row.model, rows.logits) for row in baselines[:BASELINES]
    }
    scores[shipped.ranking.winner.name] = rows.score
    curves = {name: deferral_curve(s, rows.student, rows.teacher) for name, s in scores.items()}
    curves["oracle"] = oracle_curve(rows.student, rows.teacher)
    curves["random"] = random_curve(rows.student, rows.teacher)
    return {name: (curve.rate.tolist(), curve.accuracy.tolist()) for name, curve in curves.items()}


def _confusion(rows: PairRows, appealed: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    def count(right: int) -> tuple[int, int]:
        chosen = rows.student == right
        return int((chosen & ~appealed).sum()), int((chosen & appealed).sum())

    return count(1), count(0)
