"""What a finished job says: the JSON of ``--json`` and the record behind the report."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.manifest import Figure
from envs.cost import cost, node_cost
from envs.viewer import describe
from routers.calibrate import appeals
from routers.export import run as run_router
from routers.metrics import deferral_curve, defined, oracle_curve, random_curve
from search import record as report
from search.facts import Facts
from search.finalists import LastRound
from search.latency import measured_ms
from search.ledger import Record
from search.measure import PairRows
from search.package import Shipped
from search.pareto import hypervolume, pareto_front
from search.preparation import Prepared
from search.run_folder import RunFolder
from search.spec import JobSpec, fields

#: scores that need no fitting, drawn beside the router that ships
BASELINES = 3


@dataclass(frozen=True)
class Speeds:
    """Milliseconds for one input on this machine, of the files that ship.

    Attributes:
        teacher, student: in ONNX Runtime.
        threads: of one operator.
    """

    teacher: float
    student: float
    threads: int


def speeds_of(prepared: Prepared, shipped: Shipped, folder: RunFolder) -> Speeds:
    """Time both networks."""
    shape = prepared.network.input_shape
    threads = 1 if prepared.latency is None else prepared.latency.profile.threads
    hoped = prepared.space.limits.max_ms
    teacher, student = (
        measured_ms(path.read_bytes(), path.name, shape, threads, limit)
        for path, limit in (
            (folder.cloud_teacher, None),
            (folder.bundle / shipped.manifest.student.file, hoped),
        )
    )
    return Speeds(teacher, student, threads)


def facts_of(prepared: Prepared) -> Facts:
    """What readers of the run will want to know of its teacher."""
    spent, expectation = cost(prepared.network), prepared.space.expectation
    assert expectation is not None
    return Facts(
        bytes=spent.bytes,
        parameters=spent.parameters,
        macs=spent.macs,
        accuracy=prepared.teacher_accuracy,
        rows=len(prepared.parts.validation),
        classes=prepared.network.classes,
        layers=tuple(layer.node for layer in prepared.space.layers),
        pool=tuple(prepared.moves.pool),
        images=expectation.images,
        full=expectation.full,
        gain=expectation.gain if prepared.spec.proxy_gain is None else None,
    )


def result_of(
    prepared: Prepared,
    records: Sequence[Record],
    last: LastRound,
    shipped: Shipped,
    speeds: Speeds,
    folder: RunFolder,
    seconds: float,
) -> dict[str, Any]:
    """The job's result as JSON values; accuracies and appeals are of the test part."""
    figures, manifest = shipped.manifest.figures, shipped.manifest
    teacher = cost(prepared.network)
    parts = prepared.parts.counts()

    limits = _limits(prepared, last.winner, shipped, speeds)

    def test(name: str) -> float | None:
        return figures[f"test.{name}"].value

    return {
        "out": str(folder.root),
        "bundle": str(folder.bundle),
        "report": str(folder.report),
        "part": "test",
        "rows": parts,
        "teacher": {
            "kb": teacher.kb,
            "accuracy": test("teacher_accuracy"),
            "parameters": teacher.parameters,
            "macs": teacher.macs,
            "ms": speeds.teacher,
        },
        "student": {
            "kb": manifest.student.kb,
            "accuracy": test("student_accuracy"),
            "parameters": manifest.student.parameters,
            "macs": manifest.student.macs,
            "file_kb": manifest.student.bytes / 1024,
            "ms": speeds.student,
            "predicted_ms": _predicted(prepared, last.winner),
        },
        "router": {
            "name": manifest.router.name,
            "kind": manifest.router.kind,
            "kb": manifest.router.bytes / 1024,
        },
        "ranking": _ranking(shipped),
        "pair": {
            "accuracy": test("pair_accuracy"),
            "appeals": test("appeals"),
            "acc_i": test("acc_i"),
            "threshold": manifest.threshold,
        },
        "threads": speeds.threads,
        "limits": limits,
        "figures": {
            name: {"value": figure.value, "part": figure.part, "rows": figure.rows}
            for name, figure in figures.items()
        },
        "candidates": len(records),
        **_front(prepared, records),
        "failed": sum(record.failed for record in records),
        "stopped": sum(record.pruned for record in records),
        # accuracies on the validation part: of the proxy, and after the full training
        "finalists": [
            {
                "key": record.key,
                "kb": record.kb,
                "proxy_accuracy": record.accuracy,
                "accuracy": accuracy,
            }
            for record, accuracy in last.ranked
        ],
        "seconds": round(seconds, 1),
        "warnings": [*manifest.warnings, *_broken(limits)],
    }


def _ranking(shipped: Shipped) -> dict[str, Any]:
    """Every router with its figures on the validation part, the one that ships first."""
    ranking = shipped.ranking
    return {
        "part": "validation",
        "complex_rows": ranking.complex_rows,
        "fitted_rows": ranking.fitted_rows,
        "error_rate": ranking.error_rate,
        "oracle_area": ranking.oracle_area,
        "random_area": ranking.random_area,
        "routers": [
            {
                "name": row.name,
                "kind": row.kind,
                "kb": row.bytes / 1024,
                "microseconds": defined(row.microseconds),
                "area_low": defined(row.area_low),
                "area_high": defined(row.area_high),
                "tied": row.tied,
                "reason": row.reason,
                "parameters": dict(row.parameters),
                **{name: defined(value) for name, value in row.figures.items()},
            }
            for row in ranking.rows
        ],
    }


def _predicted(prepared: Prepared, winner: Record) -> float | None:
    return None if prepared.latency is None else prepared.space.ms(winner.actions)


def _limits(
    prepared: Prepared, winner: Record, shipped: Shipped, speeds: Speeds
) -> dict[str, dict[str, float | bool]]:
    """Every hard limit, what the student that ships measures, and whether it is kept.

    A latency on another device is the predicted one: it cannot be measured here.
    """
    limits, student = prepared.space.limits.on_cost, shipped.manifest.student
    values = {"max_kb": student.kb, "max_macs": float(student.macs), "max_ms": speeds.student}
    if prepared.latency is not None and not prepared.latency.here:
        values["max_ms"] = prepared.space.ms(winner.actions)
    pairs = {name: (limits[name], value) for name, value in values.items() if name in limits}
    if prepared.spec.max_drop is not None:
        teacher, learnt = (
            shipped.manifest.figures[f"validation.{who}_{prepared.spec.metric}"].value or 0.0
            for who in ("teacher", "student")
        )
        pairs["max_drop"] = prepared.spec.max_drop, teacher - learnt
    return {
        # a drop is a difference of two shares, and may be off by a rounding
        name: {"limit": limit, "value": value, "kept": value <= limit + 1e-9}
        for name, (limit, value) in pairs.items()
    }


def _broken(limits: Mapping[str, Mapping[str, float | bool]]) -> list[str]:
    return [
        f"--{name.replace('_', '-')} {found['limit']:g} is not kept: the student that ships has "
        f"{found['value']:.4g}"
        for name, found in limits.items()
        if not found["kept"]
    ]


def _front(prepared: Prepared, records: Sequence[Record]) -> dict[str, Any]:
    """The candidates that no other beats in size and expected accuracy, and what they cover."""
    whole = [(number, record) for number, record in enumerate(records, 1) if record.whole]
    expected = [prepared.space.expected(record.accuracy, record.epochs) for _, record in whole]
    sizes, facts = [record.kb for _, record in whole], facts_of(prepared)
    covered = hypervolume(sizes, expected, facts.kb, facts.chance)
    front = [
        {
            "number": whole[i][0],
            "kb": sizes[i],
            "accuracy": whole[i][1].accuracy,
            "expected": expected[i],
        }
        for i in pareto_front(list(zip(sizes, expected, strict=True)))
    ]
    return {"hypervolume": float(covered[-1]), "pareto": front}


def record_of(
    prepared: Prepared,
    records: Sequence[Record],
    last: LastRound,
    shipped: Shipped,
    speeds: Speeds,
    now: datetime,
    command: str | None = None,
) -> report.RunRecord:
    """The run as the report shows it."""
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
        warnings=shipped.manifest.warnings,
        note=shipped.ranking.note,
        milliseconds=(speeds.teacher, speeds.student),
        ranking=report.RankingFacts(
            shipped.ranking.complex_rows,
            shipped.ranking.fitted_rows,
            shipped.ranking.oracle_area,
            shipped.ranking.random_area,
        ),
    )


def command_of(spec: JobSpec) -> str:
    """The command line that does this job: what is not the default, and no more."""
    words = ["understudy", "search"]
    for _, name, _, default in fields():
        value = getattr(spec, name)
        if value == default:
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


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
    expected = prepared.space.expected(found.accuracy, found.epochs)
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
    note = row.reason or ("cannot be told from the best" if row.tied else "")
    return report.RouterRow(
        row.name,
        row.kind,
        row.area,
        row.area_low,
        row.area_high,
        row.auroc,
        row.bytes / 1024,
        row.microseconds,
        note,
        figures.get("accuracy_at_10", math.nan),
        figures.get("appeals_for_acc_i_90", math.nan),
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
