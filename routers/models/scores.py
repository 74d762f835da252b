"""Scores that need no fitting: the baselines that every ranking holds (AppealNet V).

A member is one quantity of :mod:`routers.onnx.confidence` and one line in :data:`SCORES`. All are
turned so that higher = trust. With two classes max_softmax, margin, entropy, gini and temperature
all rise with the difference of the two logits alone: they put rows in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from routers.evaluation import metrics
from routers.onnx import confidence, export
from routers.onnx.confidence import Floats, Logits, Quantity
from routers.onnx.nodes import Writer
from routers.selection.labels import student_right

Labels = NDArray[np.int64]

# Wide enough for logits in the thousands and for those below one hundredth.
TEMPERATURES = (1e-2, 1e4)
# The integers of the authors' own grid; 4, where nothing can be tuned, is its middle.
NORMS, DEFAULT_NORM = (1, 2, 3, 4, 5, 6, 7, 8), 4


@dataclass(frozen=True)
class Score:
    """A quantity with one column as a router.

    ``tune``: for a score with a constant, the function of (logits, labels) that chooses it.
    ``constants``: what it was set to, by name; in the file it is part of the graph.
    """

    quantity: Quantity
    tune: Callable[[Logits, Labels], Score] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)

    def score(self, logits: Logits, /) -> Floats:
        """N scores, higher = trust, for logits N×K, K ≥ 2: rounded to float32, as the file's."""
        return self.quantity.of(logits)[:, 0].astype(np.float64)

    def tuned(self, logits: Logits, labels: Labels) -> Score:
        """The score with its constant chosen on the router part: logits N×K, labels int N.

        A score without a constant is returned as it is; so is the default constant where the
        student is right on every row or on none, as such rows say nothing about trust. The rows
        must have errors at their natural rate. ValueError where the shapes do not fit.
        """
        return self if self.tune is None else self.tune(logits, labels)

    def to_onnx(self, classes: int) -> onnx.ModelProto:
        """The router file: ``logits`` float32 [N, classes] in, ``score`` float32 [N] out."""
        write = Writer("s")
        column = self.quantity.write(write, export.INPUT)
        write("Squeeze", column, np.array([1]), output=export.OUTPUT)
        return export.build(write.nodes, classes)


def temperature(T: float = 1.0) -> Score:
    """The largest probability of softmax(z / T); at T = 1 the plain one.

    With more than two classes T also moves the order of rows: a high one counts all the other
    classes, a low one hardly more than the runner-up.
    """
    return Score(confidence.max_softmax(T), _tune_temperature, {"T": T})


def _tune_temperature(logits: Logits, labels: Labels) -> Score:
    """T of the least negative log-likelihood (Guo et al., 2017), within :data:`TEMPERATURES`.

    The likelihood is concave in 1/T, so that the search over ln T finds the one optimum.
    """
    if not _tells(student_right(logits, labels)):
        return temperature()
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    own = z[np.arange(len(labels)), labels]

    def loss(log_T: float) -> float:
        T = np.exp(log_T)
        return float(np.mean(np.log(np.exp(z / T).sum(axis=1)) - own / T))

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return temperature(float(np.exp(found.x)))


def max_logit_pnorm(p: float = DEFAULT_NORM) -> Score:
    """The largest centred logit over the p-norm of the centred logits (MaxLogit-pNorm)."""
    return Score(confidence.max_logit_pnorm(p), _tune_norm, {"p": p})


def _tune_norm(logits: Logits, labels: Labels) -> Score:
    """p of the largest AUROC among :data:`NORMS`; the default among equals.

    For a teacher that is always right AUROC orders scores as the area of the ranking does.
    """
    right = student_right(logits, labels)
    if not _tells(right):
        return max_logit_pnorm()

    def quality(score: Score) -> tuple[float, bool]:
        auroc = metrics.auroc(score.score(logits), right)
        return auroc, score.constants["p"] == DEFAULT_NORM

    return max(map(max_logit_pnorm, NORMS), key=quality)


def _tells(right: NDArray[np.int64]) -> bool:
    return 0 < int(right.sum()) < len(right)


SCORES: dict[str, Score] = {
    "max_softmax": Score(confidence.max_softmax()),
    "margin": Score(confidence.margin()),
    "entropy": Score(confidence.entropy()),
    "gini": Score(confidence.gini()),
    "energy": Score(confidence.energy()),
    "max_logit": Score(confidence.max_logit()),
    "temperature": temperature(),
    "max_logit_pnorm": max_logit_pnorm(),
}
