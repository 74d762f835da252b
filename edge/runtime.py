"""Student, router and threshold at work: an answer for every image, or an appeal.

All three are one graph. An image is **appealed** when its score lies below the threshold, and
trusted when the score is at the threshold or above it. A score that is no number is never trusted,
nor are logits that are none, for which a router of trees would find a score.
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
        self._pair = _open(bundle, manifest.pair.file, threads)
        self._pair.only_input(manifest.preprocess.input_shape, "image")
        # One blank image: a wrong graph is refused now, not at the first request.
        self._run(np.zeros((1, *manifest.preprocess.pixel_shape), np.uint8))

    def logits(self, images: NDArray[np.uint8]) -> FloatArray:
        """The student's logits [N, K] for pixels [N, H, W, C]; N may be 0."""
        return self._run(images)[0]

    def _run(self, images: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Logits [N, K], scores [N] and whether the student is trusted [N]."""
        logits = np.empty((len(images), self.classes), np.float32)
        scores, trusted = np.empty(len(images), np.float32), np.empty(len(images), np.bool_)
        outputs = {"logits": (np.float32, (self.classes,)), "score": (np.float32, ()),
                   "trusted": (np.bool_, ())}  # fmt: skip
        # Normalised chunk by chunk: as float32 a large request takes four times its memory.
        for start in range(0, max(1, len(images)), CHUNK):
            part = slice(start, start + CHUNK)
            found = self._pair.run_all(self.manifest.preprocess.to_input(images[part]), outputs)
            logits[part], scores[part], trusted[part] = found.values()
        return logits, scores, trusted

    def decide(self, images: NDArray[np.uint8]) -> list[Decision]:
        """Trust or appeal, for pixels [N, H, W, C]. Raises BadInput for another shape."""
        logits, scores, trusted = self._run(images)
        labels, probabilities = _best(logits)
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
