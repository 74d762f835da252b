"""Student, router and threshold at work: an answer for every image, or an appeal.

An image is **appealed** when its score lies below the threshold, and trusted when the score is
at the threshold or above it. A score that is no number is never trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge import strict
from edge.bundle import Bundle
from edge.errors import BadInput
from edge.preprocess import Preprocess
from edge.session import CHUNK, FloatArray, Session

# Preprocessed inputs [N, C, H, W] → the teacher's logits [N, K]; may raise anything.
Cloud = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Decision:
    """What the edge thinks of one image. ``probability``: the student's softmax at its label;
    ``score``: the router's, higher for more trust; ``trusted``: no appeal needed."""

    label: int
    class_name: str
    probability: float
    score: float
    trusted: bool


@dataclass(frozen=True)
class Answer:
    """What the user gets for one image: label and probability of whoever answered.

    ``answered_by`` is the teacher only where the edge appealed and the cloud replied. Where the
    cloud was asked in vain the student's label stands, ``appeal_failed`` is true and ``reason``
    says why.
    """

    label: int
    class_name: str
    probability: float
    answered_by: Literal["student", "teacher"]
    decision: Decision
    appeal_failed: bool = False
    reason: str | None = None


class EdgeRuntime:
    """Runs a verified bundle. ``threads`` are those of one operator; 1 suits single images.

    Raises BadInput when the bundle's networks do not fit its manifest.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = manifest = bundle.manifest
        self.classes = len(manifest.class_names)
        if manifest.router.input != "logits":
            raise BadInput(
                "the bundle's router reads something else than this version can give it",
                value=manifest.router.input,
                bound="logits",
                remedy="Use the understudy that wrote the bundle.",
            )
        self._student = _open(bundle, manifest.student.file, threads)
        self._student.only_input(manifest.preprocess.input_shape, "image")
        self._router = _open(bundle, manifest.router.file, threads)
        self._router.only_input((self.classes,), "logits")
        # One blank image through both: a wrong graph is refused now, not at the first request.
        blank = np.zeros((1, *manifest.preprocess.pixel_shape), np.uint8)
        self.scores(self.logits(blank))

    def logits(self, images: NDArray[np.uint8]) -> FloatArray:
        """The student's logits [N, K] for pixels [N, H, W, C]; N may be 0."""
        result = np.empty((len(images), self.classes), np.float32)
        # Normalised chunk by chunk: as float32 a large request takes four times its memory.
        for start in range(0, max(1, len(images)), CHUNK):
            part = slice(start, start + CHUNK)
            inputs = self.manifest.preprocess.to_input(images[part])
            result[part] = self._student.run(inputs, "logits", (self.classes,))
        return result

    def scores(self, logits: FloatArray) -> FloatArray:
        """The router's scores [N] for the student's logits [N, K]."""
        return self._router.run(logits, "score", ())

    def decide(self, images: NDArray[np.uint8]) -> list[Decision]:
        """Trust or appeal, for pixels [N, H, W, C]. Raises BadInput for another shape."""
        logits = self.logits(images)
        scores = self.scores(logits)
        labels, probabilities = _best(logits)
        # In float64, where both float32 scores and the threshold are exact. Written so that NaN,
        # which is not above anything, counts as an appeal; and a router of trees would find a
        # score for logits that are no numbers.
        trusted = scores.astype(np.float64) >= self.manifest.threshold
        trusted &= np.isfinite(logits).all(axis=1)
        return [
            Decision(
                label=int(label),
                class_name=self.manifest.class_names[label],
                probability=float(probability),
                score=float(score),
                trusted=bool(trust),
            )
            for label, probability, score, trust in zip(
                labels, probabilities, scores, trusted, strict=True
            )
        ]

    def answer(self, images: NDArray[np.uint8], cloud: Cloud | None = None) -> list[Answer]:
        """Answers for pixels [N, H, W, C]; what is not trusted goes to ``cloud`` if there is one.

        The edge answers even when the cloud does not: whatever ``cloud`` raises, and logits that
        are not finite numbers [N, K], leave the student's answer with the reason beside it.
        """
        decisions = self.decide(images)
        answers = [Answer(d.label, d.class_name, d.probability, "student", d) for d in decisions]
        if cloud is None:
            return answers
        appeals = [row for row, decision in enumerate(decisions) if not decision.trusted]
        for start in range(0, len(appeals), CHUNK):
            rows = appeals[start : start + CHUNK]
            for row, answer in zip(
                rows,
                self._appeal(images[rows], [decisions[row] for row in rows], cloud),
                strict=True,
            ):
                answers[row] = answer
        return answers

    def _appeal(
        self, images: NDArray[np.uint8], decisions: list[Decision], cloud: Cloud
    ) -> list[Answer]:
        try:
            logits = np.asarray(cloud(self.manifest.preprocess.to_input(images)))
            if logits.shape != (len(images), self.classes) or not np.isfinite(logits).all():
                raise ValueError(f"the cloud's reply has the shape {logits.shape} or no numbers")
        except Exception as error:  # anything at all may go wrong on the way
            reason = strict.shorten(error, 200)
            return [
                Answer(d.label, d.class_name, d.probability, "student", d, True, reason)
                for d in decisions
            ]
        names = self.manifest.class_names
        return [
            Answer(int(label), names[label], float(probability), "teacher", decision)
            for label, probability, decision in zip(*_best(logits), decisions, strict=True)
        ]


class OnnxTeacher:
    """A cloud in the same process: a teacher's ONNX file, called with inputs [N, C, H, W].

    Takes any model with one float32 image input whose first output is float32 [N, K]. Raises
    BadInput when the file is missing, is no model, or does not fit ``preprocess`` or ``classes``.
    """

    def __init__(
        self, path: str | Path, preprocess: Preprocess, classes: int, threads: int = 1
    ) -> None:
        path = Path(path)
        if not path.is_file():
            raise BadInput(
                f"teacher {path} cannot be opened",
                value="a folder" if path.is_dir() else "no such file",
                bound="an ONNX file",
                remedy="Give the file cloud/teacher.onnx from the output of a finished job.",
            )
        self.classes = classes
        self._session = Session(path, f"teacher {path}", threads=threads)
        self._session.only_input(preprocess.input_shape)
        self._output = self._session.outputs[0].name
        self(np.zeros((1, *preprocess.input_shape), np.float32))

    def __call__(self, inputs: FloatArray) -> FloatArray:
        """The teacher's logits [N, K] for preprocessed inputs [N, C, H, W]."""
        return self._session.run(inputs, self._output, (self.classes,))


def _open(bundle: Bundle, file: str, threads: int) -> Session:
    # From the verified bytes, so that what runs is what the checksum was taken of.
    return Session(bundle.read(file), str(bundle.path / file), threads=threads)


def _best(logits: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Per row the best class (the first of equals) and its softmax, in float64; the softmax is 0
    where the logits are no numbers."""
    labels = logits.argmax(axis=1)
    shifted = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted -= shifted.max(axis=1, keepdims=True)
        probabilities = 1 / np.exp(shifted).sum(axis=1)
    return labels, np.nan_to_num(probabilities, nan=0.0)
