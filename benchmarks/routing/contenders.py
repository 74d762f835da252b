"""Every router on one draw: the scores, and each family × features × sampling of its rows.

All are fitted on the router part alone, as a job would, and judged by what their ONNX files say of
the test part. Names: ``margin`` of a score, ``svm/derived/qbc`` of a fitted router.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import routers
from benchmarks.routing.draws import Draw
from routers.evaluation.intervals import RATES, SHARES, figures_of
from routers.evaluation.metrics import auroc
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES
from routers.selection.labels import student_right
from routers.selection.qbc import SAMPLING

Floats = NDArray[np.float64]
Line = dict[str, Any]

FIGURES = (
    "area",
    *(f"accuracy_at_{rate}" for rate in RATES),
    *(f"appeals_for_acc_i_{share}" for share in SHARES),
)


@dataclass(frozen=True)
class Fits:
    """One sampling of the router part, and the families that are fitted on what it chose."""

    features: str
    sampling: str
    families: tuple[str, ...] = tuple(FAMILIES)

    @property
    def names(self) -> list[str]:
        """Of its routers."""
        return [f"{family}/{self.features}/{self.sampling}" for family in self.families]


def every(
    features: Sequence[str] = tuple(FEATURES), sampling: Sequence[str] = tuple(SAMPLING)
) -> list[Fits]:
    """All there is, what the paper fits first."""
    return [Fits(look, way) for look in features for way in sampling]


@cache
def made_of(*modules: str) -> str:
    """What a line depends on beside pair and seed: the source of these modules, or of all."""
    folder = Path(routers.__file__).parent
    named = [next(folder.rglob(f"{name}.py")) for name in modules]
    files = named or sorted(folder.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def of_fits() -> str:
    """:func:`made_of` the lines of fitted routers."""
    return made_of("families", "features", "confidence", "qbc", "committees", "knn")


def of_scores() -> str:
    """:func:`made_of` the lines of scores."""
    return made_of("scores", "confidence")


def scored(draw: Draw) -> Iterator[tuple[Line, bytes]]:
    """The lines of all scores, and their files; constants are tuned on the router part."""
    for name, score in SCORES.items():
        constants = dict(score.tuned(draw.logits("router"), draw.labels("router")).constants)
        model = score_file(draw, name)
        line = judged(draw, name, "score", model) | {"constants": constants}
        yield line | {"made_of": of_scores()}, model


def score_file(draw: Draw, name: str) -> bytes:
    """The file of a score whose constants are tuned on the router part."""
    member = SCORES[name].tuned(draw.logits("router"), draw.labels("router"))
    found: bytes = member.to_onnx(draw.pair.logits.shape[1]).SerializeToString(deterministic=True)
    return found


def fitted(draw: Draw, fits: Fits) -> Iterator[tuple[Line, bytes]]:
    """The lines of some families, and their files."""
    look = FEATURES[fits.features]
    features = look.compute(draw.logits("router"))
    right = student_right(draw.logits("router"), draw.labels("router"))
    rows = SAMPLING[fits.sampling](features, right, r=0.5, seed=draw.seed)
    for family, name in zip(fits.families, fits.names, strict=True):
        try:
            router = FAMILIES[family](features[rows], right[rows], draw.seed)
            classes = draw.pair.logits.shape[1]
            model = router.to_onnx(classes, look).SerializeToString(deterministic=True)
            logits = draw.logits("validation")
            export.check_export(router.score(look.compute(logits)), model, logits)
        except export.ExportMismatch as error:
            yield head_of(draw, name, "family") | {"made_of": of_fits(), "reason": str(error)}, b""
            continue
        line = judged(draw, name, "family", model)
        yield line | {"made_of": of_fits(), "fitted_rows": len(rows)}, model


def judged(draw: Draw, name: str, kind: str, model: bytes) -> Line:
    """A line of what a router's file says."""
    said = {part: export.run(model, draw.logits(part)) for part in ("validation", "test")}
    line = head_of(draw, name, kind) | figures(draw, said["test"]) | {"bytes": len(model)}
    line["validation_area"] = area(draw, "validation", said["validation"])
    if kind != "score":
        line |= told_apart(said["test"] >= 0.5, draw.right("test")[0])
    return line


def figures(draw: Draw, score: NDArray[np.floating[Any]]) -> Line:
    """Of the pair on the test part, under any score."""
    student, teacher = draw.right("test")
    found = figures_of(score, student, teacher, FIGURES)
    return {**found, "auroc": auroc(score, student)}


def area(draw: Draw, part: str, score: NDArray[np.floating[Any]]) -> float:
    """Mean accuracy of the pair over all appealing rates, on a part."""
    return figures_of(score, *draw.right(part), ["area"])["area"]


def told_apart(trusted: NDArray[np.bool_], right: NDArray[np.int64]) -> Line:
    """The accuracy of a router as a classifier (Zhang Fig. 3), over rows and over the two kinds."""
    hits = trusted == (right == 1)
    kinds = [float(hits[right == kind].mean()) for kind in (0, 1) if (right == kind).any()]
    return {"tells": float(hits.mean()), "tells_balanced": float(np.mean(kinds))}


def head_of(draw: Draw, name: str, kind: str) -> Line:
    """What every line begins with."""
    return {"pair": draw.pair.name, "seed": draw.seed, "router": name, "kind": kind}
