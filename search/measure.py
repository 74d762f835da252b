"""Student and teacher on every part of the data, as the files that ship answer there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.manifest import Figure
from edge.runtime import OnnxTeacher
from edge.session import Session
from routers.calibrate import appeals
from routers.labels import student_right
from routers.metrics import acc_i, pair_accuracy
from search.preparation import Prepared
from search.run_folder import RunFolder
from teachers.metrics import METRICS


@dataclass(frozen=True)
class PairRows:
    """Both networks and the router on every row of one part.

    Attributes:
        logits: of the student, N×K.
        score: of the router, N; higher means trust.
        student, teacher: whether each is right, N of 0 and 1.
        labels: N.
        teacher_logits: N×K.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    teacher_logits: NDArray[np.float32]
    score: NDArray[np.float32]
    student: NDArray[np.int64]
    teacher: NDArray[np.int64]


class Measure:
    """Runs the files that ship over the parts."""

    def __init__(
        self, prepared: Prepared, student_onnx: bytes, folder: RunFolder, threads: int
    ) -> None:
        self.prepared = prepared
        self.preprocess = prepared.teacher.manifest.preprocess
        self.classes = prepared.network.classes
        self.student = Session(student_onnx, "student.onnx", threads=threads)
        self.teacher = OnnxTeacher(
            folder.cloud_teacher, self.preprocess, self.classes, threads=threads
        )
        self._both: dict[
            str, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
        ] = {}

    def logits(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The student's logits and the labels of a part."""
        chunks = [
            self.student.run(inputs, "logits", (self.classes,))
            for inputs in self.prepared.inputs(part)
        ]
        return np.concatenate(chunks), self.prepared.labels(part)

    def both(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Logits of student and teacher, and the labels, of a part; run once and kept."""
        if part not in self._both:
            logits, labels = self.logits(part)
            inputs = self.prepared.inputs(part)
            teacher = np.concatenate([self.teacher(batch) for batch in inputs])
            self._both[part] = logits, teacher, labels
        return self._both[part]

    def pair(self, part: str, router: Session) -> PairRows:
        """Everything about a part."""
        logits, teacher, labels = self.both(part)
        return PairRows(
            logits,
            labels,
            teacher,
            router.run(logits, "score", ()),
            student_right(logits, labels),
            student_right(teacher, labels),
        )


def figures(rows: Mapping[str, PairRows], threshold: float, metric: str) -> dict[str, Figure]:
    """Student, teacher and pair on every part, by name ``part.figure``."""
    found: dict[str, Figure] = {}
    for part, pair in rows.items():
        appealed = appeals(pair.score, threshold)
        answers = np.where(appealed[:, None], pair.teacher_logits, pair.logits)
        together = pair_accuracy(appealed, pair.student, pair.teacher)
        values: dict[str, float | None] = {
            "student_accuracy": float(pair.student.mean()),
            "teacher_accuracy": float(pair.teacher.mean()),
            "pair_accuracy": together,
            "appeals": float(appealed.mean()),
            "acc_i": acc_i(together, float(pair.student.mean()), float(pair.teacher.mean())),
        }
        if metric != "accuracy":
            for name, logits in (
                ("student", pair.logits),
                ("teacher", pair.teacher_logits),
                ("pair", answers),
            ):
                values[f"{name}_{metric}"] = METRICS[metric](logits, pair.labels)
        for name, value in values.items():
            found[f"{part}.{name}"] = Figure(value, part, len(pair.labels))
    return found
