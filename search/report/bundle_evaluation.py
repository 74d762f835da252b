"""A bundle and a teacher on data of their own: who is right alone, and what the two are together.

The accuracy columns of Zhang's Tables VII and VIII (edge only, cloud only, cooperation) with what
a router that knows everything would have made of it, for all rows and class by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.errors import BadInput
from edge.manifest import Manifest
from edge.runtime import EdgeRuntime, OnnxTeacher
from edge.session import CHUNK
from routers.evaluation import metrics
from search.job.events import Note
from search.packaging.sense import PartSeen, at_chance, far_below
from search.report.plots import deferral_plot
from teachers.data.datasets import Dataset

#: rows done so far
OnRows = Callable[[int], None]


@dataclass(frozen=True)
class ClassFigures:
    """Shares of the rows of one class (``rows`` of them) that are right, or appealed."""

    name: str
    rows: int
    student: float
    teacher: float
    pair: float
    oracle: float
    appeals: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a pair does on ``part`` of a data set.

    ``score``: N, of the router; ``appealed``, ``student`` and ``teacher``: N of 0 and 1, the last
    two say who is right; ``labels``: N, places in ``class_names``. ``prices``: what an input costs,
    by the unit; ``warnings``: what makes no sense, by name (:mod:`search.packaging.sense`).
    """

    part: str
    router: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    score: NDArray[np.float32]
    appealed: NDArray[np.bool_]
    student: NDArray[np.int64]
    teacher: NDArray[np.int64]
    prices: Mapping[str, metrics.Prices] = field(default_factory=dict)
    warnings: tuple[Note, ...] = ()

    def result(self) -> dict[str, Any]:
        """Figures as JSON values. ``oracle`` appeals just where that helps, ``oracle_at`` may
        appeal no more than the router does; areas are mean accuracies over all appealing rates."""
        point = metrics.operating_point(self.appealed, self.student, self.teacher)
        ours, best, blind = self._curves().values()
        return {
            "part": self.part,
            "rows": len(self.labels),
            "router": self.router,
            "edge_only": point.student_accuracy,
            "cloud_only": point.teacher_accuracy,
            "cooperation": point.accuracy,
            "oracle": float(np.maximum(self.student, self.teacher).mean()),
            "oracle_at": metrics.accuracy_at(best, point.appeals),
            "appeals": point.appeals,
            "acc_i": point.acc_i,
            "risk": point.risk,
            "area": metrics.area_under(ours),
            "oracle_area": metrics.area_under(best),
            "random_area": metrics.area_under(blind),
            "auroc": metrics.defined(metrics.auroc(self.score, self.student)),
            "costs": {unit: self._costs(prices) for unit, prices in self.prices.items()},
            "classes": [asdict(one) for one in self.per_class()],
            "warnings": [{"name": note.name, "text": note.text} for note in self.warnings],
        }

    def per_class(self) -> Iterator[ClassFigures]:
        """Classes in their order; those without a row are left out."""
        pair = np.where(self.appealed, self.teacher, self.student)
        for label, name in enumerate(self.class_names):
            rows = self.labels == label
            if rows.any():
                student, teacher = self.student[rows], self.teacher[rows]
                yield ClassFigures(
                    name,
                    int(rows.sum()),
                    student=float(student.mean()),
                    teacher=float(teacher.mean()),
                    pair=float(pair[rows].mean()),
                    oracle=float(np.maximum(student, teacher).mean()),
                    appeals=float(self.appealed[rows].mean()),
                )

    def _costs(self, prices: metrics.Prices) -> dict[str, float]:
        """Of an input: on the edge alone, in the cloud alone, and in the mean of the pair, which
        pays for the edge always and for the cloud where it appeals (AppealNet Eq. 15)."""
        return {
            "edge_only": prices.edge,
            "cloud_only": prices.cloud,
            "cooperation": metrics.overall_cost(self.appealed, prices),
        }

    def picture(self) -> str:
        """The deferral curve with the operating point, as SVG."""
        curves = {
            name: (curve.rate.tolist(), curve.accuracy.tolist())
            for name, curve in self._curves().items()
        }
        point = metrics.operating_point(self.appealed, self.student, self.teacher)
        return deferral_plot(curves, self.router, (point.appeals, point.accuracy), self.part)

    def _curves(self) -> dict[str, metrics.Curve]:
        return {
            self.router: metrics.deferral_curve(self.score, self.student, self.teacher),
            "oracle": metrics.oracle_curve(self.student, self.teacher),
            "random": metrics.random_curve(self.student, self.teacher),
        }


def evaluate(
    bundle: Bundle,
    teacher: Path,
    data: Dataset,
    part: str = "test",
    on_rows: OnRows = lambda done: None,
    *,
    cost_per_appeal: float | None = None,
) -> Evaluation:
    """Run a bundle and a teacher over a data set.

    Args:
        bundle: verified.
        teacher: an ONNX file with the bundle's input and classes.
        data: read with the bundle's preprocessing.
        part: "test" for the rows of the test table, "all" for every row.
        on_rows: told how many rows are done.
        cost_per_appeal: the user's own price, beside MACs and bytes.

    Raises:
        BadInput: data of other classes, without rows, or a teacher that does not fit.
    """
    manifest = bundle.manifest
    if set(data.class_names) != set(manifest.class_names):
        raise BadInput(
            "the data have other classes than the bundle",
            value=", ".join(map(str, data.class_names[:10])),
            bound=", ".join(manifest.class_names[:10]),
            remedy="Evaluate on data of the same classes, under the same names.",
        )
    rows = np.arange(data.train_rows if part == "test" else 0, len(data.labels))
    if not len(rows):
        raise BadInput(
            "there is nothing to evaluate on",
            value=f"{data.name} without a test table"
            if len(data.labels)
            else f"{data.name}, empty",
            bound="at least one row",
            remedy="--rows all takes every row; student and teacher may have learnt from them.",
        )
    places = np.array([manifest.class_names.index(name) for name in data.class_names])
    labels = places[data.labels[rows]]
    edge = EdgeRuntime(bundle)
    cloud = OnnxTeacher(teacher, manifest.preprocess, len(manifest.class_names))
    kept = []
    for start in range(0, len(rows), CHUNK):
        images = data.images[rows[start : start + CHUNK]]
        decided = edge.decide(images)
        said = cloud(manifest.preprocess.to_input(images)).argmax(1)
        kept += [(d.label, d.score, not d.trusted, t) for d, t in zip(decided, said, strict=True)]
        on_rows(len(kept))
    student, score, appealed, answer = map(np.array, zip(*kept, strict=True))
    seen = PartSeen.of(student, answer, labels)
    odd = at_chance({part: seen}) or far_below(seen, rows="rows")
    return Evaluation(
        part=f"the {part} part of {data.name}" if part == "test" else f"all rows of {data.name}",
        router=manifest.router.name,
        class_names=manifest.class_names,
        labels=labels,
        score=score.astype(np.float32),
        appealed=appealed.astype(bool),
        student=(student == labels).astype(np.int64),
        teacher=(answer == labels).astype(np.int64),
        prices=_prices(manifest, cost_per_appeal),
        warnings=(odd,) if odd else (),
    )


def _prices(manifest: Manifest, cost_per_appeal: float | None) -> dict[str, metrics.Prices]:
    """What an input costs on the edge, and on top where it is appealed: multiply-accumulates of the
    student and of the teacher that the manifest names (a router's are next to none), bytes of the
    image that is sent, the user's price."""
    found = {"bytes": metrics.Prices(0, math.prod(manifest.preprocess.pixel_shape))}
    if manifest.teacher.macs:
        found["macs"] = metrics.Prices(manifest.student.macs, manifest.teacher.macs)
    if cost_per_appeal is not None:
        found["price"] = metrics.Prices(0, cost_per_appeal)
    return found
