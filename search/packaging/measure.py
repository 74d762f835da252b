"""Student and teacher on every part of the data, as the files that ship answer there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from edge.files import write_array
from edge.manifest import Calibration, Figure
from edge.runtime import OnnxTeacher
from edge.session import Session
from routers.calibration.calibrate import appeals
from routers.evaluation.metrics import acc_i, pair_accuracy
from routers.selection.labels import student_right
from search.job.events import Event, Note
from search.job.run_folder import RunFolder
from search.preparation.prepared import Prepared
from teachers.distillation.metrics import METRICS

#: inputs N×C×H×W → logits N×K
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


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

    def kept(self) -> Calibration:
        """What a bundle keeps of them."""
        return Calibration(
            tuple(map(float, self.score)),
            tuple(map(int, self.student)),
            tuple(map(int, self.teacher)),
        )


class Measure:
    """Runs the files that ship over the parts, each part once in the life of a run."""

    def __init__(
        self, prepared: Prepared, student_onnx: bytes, folder: RunFolder, threads: int
    ) -> None:
        self.prepared, self.folder = prepared, folder
        self.preprocess = prepared.teacher.manifest.preprocess
        self.classes = prepared.network.classes
        self.threads = threads
        self._student = student_onnx

    def logits(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The student's logits and the labels of a part."""

        return self._student_says(part, "logits", (self.classes,)), self.prepared.labels(part)

    def scores(self, part: str) -> NDArray[np.float32]:
        """The student's own scores of a part, N; its graph has to give them."""
        return self._student_says(part, "score", ())

    def _student_says(self, part: str, output: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        def network() -> Network:
            session = Session(self._student, "student.onnx", threads=self.threads)
            return lambda inputs: session.run(inputs, output, shape)

        return self._kept(part, self._student + output.encode(), network)

    def both(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Logits of student and teacher, and the labels, of a part."""
        logits, labels = self.logits(part)
        path = self.folder.cloud_teacher

        def network() -> Network:
            return OnnxTeacher(path, self.preprocess, self.classes, threads=self.threads)

        return logits, self._kept(part, path.read_bytes(), network), labels

    def _kept(self, part: str, file: bytes, network: Callable[[], Network]) -> NDArray[np.float32]:
        """A network's logits of a part, from the run's folder where it has answered before."""
        asked = sha256(file)
        asked.update(getattr(self.prepared.parts, part).tobytes())
        path = self.folder.cache / f"{part}-{asked.hexdigest()[:16]}.shipped.npy"
        if not path.exists():
            run = network()
            write_array(path, np.concatenate([run(x) for x in self.prepared.inputs(part)]))
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return found

    def pair(self, part: str, router: Session | None) -> PairRows:
        """Everything about a part; without a router the student's graph gives the score."""
        logits, teacher, labels = self.both(part)
        score = self.scores(part) if router is None else router.run(logits, "score", ())
        return PairRows(
            logits,
            labels,
            teacher,
            score,
            student_right(logits, labels),
            student_right(teacher, labels),
        )


def compared(
    pair: bytes, inputs: NDArray[np.float32], rows: PairRows, threshold: float
) -> Iterator[Event]:
    """Tell where the pair's file decides otherwise than its parts did when they were measured.

    Args:
        pair: the file.
        inputs: the first of the validation part, n×C×H×W.
        rows: the whole part, as the parts see it.
        threshold: of the score.
    """
    trusted = Session(pair, "pair.onnx").run_all(inputs, {"trusted": (np.bool_, ())})["trusted"]
    expected = ~appeals(rows.score[: len(inputs)], threshold)
    other = int((trusted != expected).sum())
    if other:
        yield Note(
            f"pair.onnx decides {other} of {len(inputs)} inputs of the validation part otherwise "
            "than student and router run apart, with which the figures were measured: these lie "
            "so near the threshold that rounding decides, or this runtime errs. --no-int8 or "
            "another --families may agree",
            warning=True,
            name="pair-and-parts-differ",
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
