"""What a finished job says of itself: the JSON of ``result.json`` and ``--json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.compression.cost import cost
from routers.calibration.goal_options import options_of
from routers.evaluation.metrics import defined
from search.finalists.finalists import LastRound
from search.job.events import Note, has_name
from search.job.run_folder import RunFolder, times
from search.ledger.ledger import Record
from search.packaging.package import Shipped
from search.preparation.latency import measured_ms
from search.preparation.prepared import Prepared
from search.report.verdict import verdict_of
from search.space.pareto import hypervolume, pareto_front


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


def result_of(
    prepared: Prepared,
    records: Sequence[Record],
    last: LastRound,
    shipped: Shipped,
    speeds: Speeds,
    folder: RunFolder,
    seconds: float,
    warned: Sequence[Note] = (),
) -> dict[str, Any]:
    """The job's result as JSON values; accuracies and appeals are of the test part.

    ``warned`` are the named warnings of the job so far; what only a caveat says of the figures
    stands apart from them, under ``caveats``.
    """
    figures, manifest = shipped.manifest.figures, shipped.manifest
    teacher = cost(prepared.network)
    parts = prepared.parts.counts()
    expectation = prepared.space.expectation
    assert expectation is not None

    limits = _limits(prepared, last.winner, shipped, speeds)

    def test(name: str) -> float | None:
        return figures[f"test.{name}"].value

    result: dict[str, Any] = {
        "out": str(folder.root),
        "bundle": str(folder.bundle),
        "report": str(folder.report),
        "part": "test",
        "test_seen": shipped.seen,
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
            "kb": router_kb(shipped),
        },
        "ranking": _ranking(shipped),
        "pair": {
            "accuracy": test("pair_accuracy"),
            "appeals": test("appeals"),
            "acc_i": test("acc_i"),
            "threshold": manifest.threshold,
            # of fp32 weights and of the router's own file; and of the one file that runs
            "kb": pair_kb(shipped),
            "file_kb": manifest.pair.bytes / 1024,
        },
        "goal": {
            **options_of(shipped.goal.goal),
            "words": shipped.goal.goal.words(),
            "part": "calibration",
            "met": shipped.goal.verdict == "met",
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
                "origin": last.origin(record),
                "proxy_accuracy": record.accuracy,
                "expected": expectation(record.accuracy, record.epochs),
                "expected_interval": list(expectation.interval(record.accuracy, record.epochs)),
                "accuracy": accuracy,
            }
            for record, accuracy in last.ranked
        ],
        "seconds": round(seconds, 1),
        "warnings": [
            *({"name": note.name, "text": note.text} for note in warned),
            *_broken(limits),
        ],
        "caveats": [
            *(warning for warning in manifest.warnings if not has_name(warning)),
            *_seen_often(shipped.seen),
        ],
    }
    return {"verdict": verdict_of(result), **result}


def _seen_often(seen: int) -> list[str]:
    if seen < 2:
        return []
    return [
        f"the test part has been seen {times(seen)} by now: if routers or thresholds are chosen by "
        "these figures, they are rosier than new data will be"
    ]


def router_kb(shipped: Shipped) -> float:
    """What the router adds to the student: its file, or the head in the student's own."""
    router = shipped.manifest.router
    return (shipped.ranking.winner.bytes if router.kind == "head" else router.bytes) / 1024


def pair_kb(shipped: Shipped) -> float:
    """Student and router as limits count them: fp32 weights, and the router's file."""
    return shipped.manifest.student.kb + router_kb(shipped)


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
                "whole_kb": row.whole_kb,  # what "smallest" compares
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
    values["max_pair_kb"] = pair_kb(shipped)
    if prepared.spec.max_pair_kb is not None:
        limits["max_pair_kb"] = prepared.spec.max_pair_kb
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


def _broken(limits: Mapping[str, Mapping[str, float | bool]]) -> list[dict[str, str]]:
    return [
        {
            "name": f"{name.replace('_', '-')}-not-kept",
            "text": f"--{name.replace('_', '-')} {found['limit']:g} is not kept: the "
            f"{'pair' if name == 'max_pair_kb' else 'student'} that ships has {found['value']:.4g}",
        }
        for name, found in limits.items()
        if not found["kept"]
    ]


def _front(prepared: Prepared, records: Sequence[Record]) -> dict[str, Any]:
    """The candidates that no other beats in size and expected accuracy, and what they cover."""
    whole = [(number, record) for number, record in enumerate(records, 1) if record.whole]
    expected = [
        prepared.space.expected(record.accuracy, record.epochs, record.key) for _, record in whole
    ]
    sizes, facts = [record.kb for _, record in whole], prepared.facts()
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
