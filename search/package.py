"""From a trained student to what ships: ONNX files, router, threshold, figures, bundle.

Every figure is measured in ONNX Runtime on the bytes that ship, and names its part of the data.
The test part is opened here and nowhere else, after every choice has been made.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from edge.bundle import write_bundle
from edge.manifest import (
    Calibration,
    Figure,
    Manifest,
    PairInfo,
    RouterInfo,
    StudentInfo,
    TeacherInfo,
)
from edge.runtime import OnnxTeacher
from edge.session import Session
from envs.cost import cost
from envs.export import to_onnx
from envs.netspec import NetSpec
from envs.surgery import load
from routers.calibrate import appeals, threshold_for_appeals
from routers.labels import student_right
from routers.metrics import acc_i, pair_accuracy
from routers.pair import merge
from routers.ranking import RankedRouter, Ranking, RouterData, fit_and_rank
from search.answers import Telling
from search.events import Event, Note, Progress, Stage
from search.model_card import model_card
from search.preparation import NEVER_SAID, Prepared
from search.run_folder import RunFolder, write_bytes
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


@dataclass(frozen=True)
class Shipped:
    """What packaging gave.

    Attributes:
        manifest: as written.
        student: netspec of the student.
        ranking: of the routers, on the validation part.
        threshold: an input is appealed where its score lies below.
        rows: part → both networks and the router on it; validation, calibration and test.
    """

    manifest: Manifest
    student: NetSpec
    ranking: Ranking
    threshold: float
    rows: Mapping[str, PairRows]


def ship(
    prepared: Prepared,
    student: NetSpec,
    weights: Mapping[str, NDArray[np.float32]],
    folder: RunFolder,
    threads: int,
) -> Telling[Shipped]:
    """Export, fit and rank routers, calibrate, measure, and write the bundle.

    Args:
        prepared: the job with teacher and data.
        student: description of the winner.
        weights: its trained state dict.
        folder: of the run; ``cloud/teacher.onnx`` and ``bundle/`` are written.
        threads: of ONNX Runtime while measuring.
    """
    import torch

    yield Stage("package", "export to ONNX")
    module = load(student, {name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
    shape = student.input_shape
    student_onnx = to_onnx(module, shape)
    if not folder.cloud_teacher.exists():
        write_bytes(folder.cloud_teacher, to_onnx(prepared.teacher.module, shape))
    measure = _Measure(prepared, student_onnx, folder, threads)

    yield Stage("routers", "fit and rank on rows the student has not learnt from")
    ranking = yield from _rank(prepared, measure)
    router = Session(ranking.winner.model, "router.onnx", threads=threads)
    rows = {part: measure.pair(part, router) for part in ("validation", "calibration")}
    threshold, warning = calibrate(rows["calibration"], prepared.spec.appeals)
    if warning:
        yield Note(warning, warning=True)

    yield Stage("test", f"{len(prepared.parts.test):,} rows, opened once")
    rows["test"] = measure.pair("test", router)
    manifest = _manifest(
        prepared, student, ranking, threshold, rows, tuple(filter(None, [warning]))
    )
    contents = {
        "pair.onnx": merge(student_onnx, ranking.winner.model, threshold),
        "student.onnx": student_onnx,
        "router.onnx": ranking.winner.model,
        "student.safetensors": save_safetensors(dict(weights)),
        "netspec.json": student.to_json().encode(),
        "MODEL_CARD.md": model_card(manifest, ranking, prepared.parts.counts()).encode(),
    }
    # left by a process that was stopped after this point, or by a run on a smaller budget
    shutil.rmtree(folder.bundle, ignore_errors=True)
    written = write_bundle(folder.bundle, manifest, contents)
    return Shipped(written, student, ranking, threshold, rows)


class _Measure:
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


def _rank(prepared: Prepared, measure: _Measure) -> Telling[Ranking]:
    router_logits, router_labels = measure.logits("router")
    validation_logits, teacher, labels = measure.both("validation")
    data = RouterData(
        router_logits,
        router_labels,
        validation_logits,
        labels,
        student_right(teacher, labels),
    )
    told: list[Event] = []
    ranking = fit_and_rank(
        data,
        families=prepared.spec.families,
        sampling=prepared.spec.sampling,
        seed=prepared.spec.seed,
        on_event=lambda name, done, total: told.append(Progress(done, total, name)),
    )
    yield from told
    yield Note(ranking.note)
    return ranking


def calibrate(rows: PairRows, budget: float) -> tuple[float, str]:
    """The threshold for an appeal budget, and a warning where appealing is of no use.

    Returns:
        threshold, and "" or why nothing is appealed although the budget would allow it.
    """
    threshold = threshold_for_appeals(rows.score, budget)
    appealed = appeals(rows.score, threshold)
    won = pair_accuracy(appealed, rows.student, rows.teacher) - float(rows.student.mean())
    if won > 0 or not appealed.any():
        return threshold, ""
    return threshold_for_appeals(rows.score, 0.0), (
        f"appealing {appealed.mean():.1%} of the calibration part would win {won:+.2%} accuracy, "
        "because the teacher is no better there: as it stands, nothing is appealed"
    )


def _manifest(
    prepared: Prepared,
    student: NetSpec,
    ranking: Ranking,
    threshold: float,
    rows: Mapping[str, PairRows],
    warnings: tuple[str, ...],
) -> Manifest:
    spent = cost(student)
    winner: RankedRouter = ranking.winner
    calibration = rows["calibration"]
    if not prepared.parts.teacher_unseen:
        warnings = (NEVER_SAID, *warnings)
    return Manifest(
        name=f"{prepared.teacher.name} on {prepared.data.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        preprocess=prepared.teacher.manifest.preprocess,
        class_names=prepared.teacher.manifest.class_names,
        student=StudentInfo("student.onnx", spent.kb, spent.parameters, spent.macs),
        router=RouterInfo(
            "router.onnx", winner.name, "family" if winner.kind == "family" else "score"
        ),
        pair=PairInfo("pair.onnx"),
        threshold=threshold,
        appeals_budget=prepared.spec.appeals,
        figures=figures(rows, threshold, prepared.spec.metric),
        warnings=warnings,
        calibration=Calibration(
            tuple(map(float, calibration.score)),
            tuple(map(int, calibration.student)),
            tuple(map(int, calibration.teacher)),
        ),
        teacher=TeacherInfo(
            prepared.teacher.name, prepared.teacher.fingerprint, cost(prepared.network).kb
        ),
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
