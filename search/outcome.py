"""What a finished job says: the JSON of ``--json`` and the record behind the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.cost import cost
from search.ledger import Record
from search.package import Shipped
from search.preparation import Prepared
from search.run_folder import RunFolder


def result_of(
    prepared: Prepared,
    records: Sequence[Record],
    shipped: Shipped,
    folder: RunFolder,
    seconds: float,
) -> dict[str, Any]:
    """The job's result as JSON values; accuracies and appeals are of the test part."""
    figures, manifest = shipped.manifest.figures, shipped.manifest
    teacher = cost(prepared.network)
    parts = prepared.parts.counts()

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
        },
        "student": {
            "kb": manifest.student.kb,
            "accuracy": test("student_accuracy"),
            "parameters": manifest.student.parameters,
            "macs": manifest.student.macs,
            "file_kb": manifest.student.bytes / 1024,
        },
        "router": {
            "name": manifest.router.name,
            "kind": manifest.router.kind,
            "kb": manifest.router.bytes / 1024,
        },
        "pair": {
            "accuracy": test("pair_accuracy"),
            "appeals": test("appeals"),
            "acc_i": test("acc_i"),
            "threshold": manifest.threshold,
        },
        "figures": {
            name: {"value": figure.value, "part": figure.part, "rows": figure.rows}
            for name, figure in figures.items()
        },
        "candidates": len(records),
        "failed": sum(record.failed for record in records),
        "seconds": round(seconds, 1),
        "warnings": list(manifest.warnings),
    }
