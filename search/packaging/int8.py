"""The student in int8 beside the one in fp32, both measured, and which of them ships.

Int8 ships where it loses at most .2 points on the validation part and is faster on this machine;
very small networks often are not, as every layer converts its numbers to and fro.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.session import Session
from edge.timing import Timed, least_ms
from envs.export.quantise import to_int8
from search.job.events import Note
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from teachers.distillation.metrics import METRICS

Inputs = Sequence[NDArray[np.float32]]
#: how good a network is: from its session to a share
ValidationSet = Callable[[Session], float]

#: rows of the distillation part that tell the ranges of activations
ROWS = 512
#: what int8 may lose, as a share, and how much faster it has to be
MOST_LOST, LEAST_FASTER = 0.002, 0.03
#: turns of both networks while they are timed
ROUNDS = 12


@dataclass(frozen=True)
class Int8:
    """A student in int8, measured against the same in fp32.

    Attributes:
        model: the ONNX file.
        quality, fp32_quality: on the validation part, by the job's metric.
        ms, fp32_ms: for one input, in turns, in ONNX Runtime on this machine.
    """

    model: bytes
    quality: float
    fp32_quality: float
    ms: float
    fp32_ms: float

    @property
    def reason(self) -> str:
        """Why it does not ship, or "" where it does."""
        lost = self.fp32_quality - self.quality
        # a difference of two shares may be off by a rounding
        if lost > MOST_LOST + 1e-9:
            return f"int8 would lose {lost:.2%} on the validation part ({MOST_LOST:.1%} is allowed)"
        if self.ms > (1 - LEAST_FASTER) * self.fp32_ms:
            return f"int8 is no faster here: {self.ms:.3g} ms against {self.fp32_ms:.3g}"
        return ""


def make_int8(fp32: bytes, seen: Inputs, validation_set: ValidationSet, threads: int = 1) -> Int8:
    """Quantise a student and measure both.

    Args:
        fp32: its ONNX file, ``image`` in and ``logits`` out.
        seen: inputs of the distillation part, N×C×H×W each.
        exam: says how good a network is.
        threads: of ONNX Runtime.
    """
    plain = Session(fp32, "student.onnx", threads=threads)
    good = validation_set(plain)
    best = to_int8(fp32, seen)
    quality = validation_set(Session(best, "student-int8.onnx", threads=threads))
    if good - quality > MOST_LOST + 1e-9:
        # seven bits do not overflow where the processor adds products of eight in 16
        careful = to_int8(fp32, seen, reduce_range=True)
        other = validation_set(Session(careful, "student-int8.onnx", threads=threads))
        if other > quality:
            best, quality = careful, other
    ms, fp32_ms = _timed([best, fp32], seen[0].shape[1:], threads)
    return Int8(best, quality, good, ms, fp32_ms)


def int8_of(prepared: Prepared, student_onnx: bytes, threads: int) -> Telling[Int8 | None]:
    """The student in int8, if one is wanted and can be made."""
    if not prepared.spec.int8:
        return None
    metric, labels = METRICS[prepared.spec.metric], prepared.labels("validation")

    def validation_set(network: Session) -> float:
        classes = (prepared.network.classes,)
        said = [network.run(x, "logits", classes) for x in prepared.inputs("validation")]
        return metric(np.concatenate(said), labels)

    try:
        small = make_int8(
            student_onnx, first(prepared.inputs("distillation")), validation_set, threads
        )
    except Exception as error:
        # an operator that ONNX Runtime cannot quantise costs no job its student
        yield Note(f"no student in int8: {type(error).__name__}: {error}", warning=True)
        return None
    yield Note(small.reason or f"int8 ships: {small.ms:.3g} ms against {small.fp32_ms:.3g} in fp32")
    return small


def first(batches: Iterator[NDArray[np.float32]], rows: int = ROWS) -> Inputs:
    """So many rows from the beginning of a part."""
    taken: list[NDArray[np.float32]] = []
    for batch in batches:
        taken.append(batch[: rows - sum(map(len, taken))])
        if sum(map(len, taken)) >= rows:
            break
    return taken


def _timed(models: Sequence[bytes], shape: tuple[int, ...], threads: int) -> list[float]:
    def opener(model: bytes) -> Callable[[], Session]:
        return lambda: Session(model, "student", threads=threads)

    graphs = [Timed(opener(model), shape, held=len(model)) for model in models]
    *_, (_, least) = least_ms(graphs, ROUNDS, threads)
    return least
