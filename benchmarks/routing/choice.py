"""What a job would ship on one draw, against what it is measured by.

*choice*: the winner of :func:`routers.ranking.ranking.fit_and_rank` from the router and validation
parts, called as a job with its defaults does. *tuned*: the families of that ranking, searched over.
*baseline*: the best score that needs no fitting, chosen on the same validation rows. *oracle* and
*random*: bounds on the test part. *hindsight*, the best of all by test, needs every line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing.contenders import (
    Fits,
    Line,
    area,
    figures,
    fitted,
    head_of,
    judged,
    made_of,
    score_file,
)
from benchmarks.routing.draws import Draw
from edge.session import Session
from edge.timing import Timed, least_ms
from envs.compression.surgery import build
from envs.export.export import to_onnx
from envs.graph.netspec import NetSpec
from routers.evaluation.intervals import bootstrap, figures_of, interval
from routers.evaluation.metrics import area_under, oracle_curve, random_curve
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.pair import merge
from routers.ranking.ranking import Ranking, fit_and_rank
from search.job.spec import JobSpec

RESAMPLES = 1000
#: turns of each graph that is timed
ROUNDS = 40

#: a job's own way to rank
JOB: dict[str, Any] = {
    "families": JobSpec.model_fields["families"].default,
    "sampling": JobSpec.model_fields["sampling"].default,
    "features": JobSpec.model_fields["features"].default,
    "trials": JobSpec.model_fields["router_trials"].default,
}

Scores = NDArray[np.floating[Any]]


def lines(draw: Draw, student_onnx: bytes) -> Iterator[Line]:
    """The tuned families of a draw, and what a job would ship, last."""
    ranking = fit_and_rank(draw.data(), seed=draw.seed, **JOB)
    for row in ranking.rows:
        if row.kind != "family":
            continue
        name = f"{row.name}/{JOB['features']}/{JOB['sampling']}/tuned"
        if row.reason:
            yield head_of(draw, name, "tuned") | {"made_of": of_choice(), "reason": row.reason}
            continue
        yield judged(draw, name, "tuned", row.model) | {
            "made_of": of_choice(),
            "parameters": dict(row.parameters),
        }
    yield _chosen(draw, ranking, student_onnx)


def of_choice() -> str:
    """What a choice depends on beside pair and seed: all of ``routers``, and a job's defaults."""
    return made_of() + hashlib.sha256(repr(JOB).encode()).hexdigest()[:4]


def _chosen(draw: Draw, ranking: Ranking, student_onnx: bytes) -> Line:
    """Areas on test, their paired difference, and the time of the pair."""
    model, logits = ranking.winner.model, draw.logits("test")
    baseline, best = best_score(draw)
    score = export.run(model, logits)
    student, teacher = draw.right("test")
    alone, pair, router = times(student_onnx, model, draw.pair.network)
    return head_of(draw, ranking.winner.name, "choice") | {
        "made_of": of_choice(),
        **figures(draw, score),
        "bytes": len(model),
        "baseline": baseline,
        **{f"baseline_{name}": value for name, value in figures(draw, best).items()},
        "difference": difference(score, best, student, teacher, draw.seed),
        "oracle_area": area_under(oracle_curve(student, teacher)),
        "random_area": area_under(random_curve(student, teacher)),
        "student": float(student.mean()),
        "teacher": float(teacher.mean()),
        "student_us": 1000 * alone,
        "pair_us": 1000 * pair,
        "router_us": 1000 * router,
        "note": ranking.note,
    }


def looked_back(draw: Draw, hindsight: Line, winner: Line) -> Line:
    """How far the best of all by test is ahead of the choice; both are fitted once more.

    It was picked from dozens on these very rows, so a lead of it is what luck alone would give too.
    """
    own, other = (_scores_of(draw, line) for line in (hindsight, winner))
    again = figures(draw, own)["area"]
    if abs(again - hindsight["area"]) > 1e-9:  # a search that ran out of time fits another one
        raise RuntimeError(f"{hindsight['router']}: area {again}, was {hindsight['area']}")
    return head_of(draw, hindsight["router"], "hindsight") | {
        "made_of": of_choice(),
        "difference": difference(own, other, *draw.right("test"), draw.seed),
    }


def _scores_of(draw: Draw, line: Line) -> Scores:
    """What a router says of the test part, by its line."""
    name, logits = line["router"], draw.logits("test")
    if name in SCORES:
        return export.run(score_file(draw, name), logits)
    if line["kind"] == "family":
        family, look, way = name.split("/")
        ((_, model),) = fitted(draw, Fits(look, way, (family,)))
        return export.run(model, logits)
    family = name.split("/")[0]
    asked = JOB | {"families": (family,)}
    ranking = fit_and_rank(draw.data(), seed=draw.seed, **asked)
    model = next(row.model for row in ranking.rows if row.name == family)
    return export.run(model, logits)


@lru_cache(maxsize=2)
def best_score(draw: Draw) -> tuple[str, NDArray[np.float32]]:
    """The score of the largest area on validation, and what its file says of the test part.

    The smallest name among equals.
    """
    models = {name: score_file(draw, name) for name in SCORES}
    logits = draw.logits("validation")
    areas = {
        name: area(draw, "validation", export.run(model, logits)) for name, model in models.items()
    }
    best = min(areas, key=lambda name: (-areas[name], name))
    return best, export.run(models[best], draw.logits("test"))


def difference(
    score: Scores,
    other: Scores,
    student: NDArray[np.int64],
    teacher: NDArray[np.int64],
    seed: int,
    other_student: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
) -> list[float]:
    """The area of a score less that of another on the same rows, and its 95 % interval.

    ``other_student``: whether the other's student is right, where it has one of its own.

    Returns:
        difference, low, high; the interval from the paired bootstrap of the rows.
    """

    def drawn(scores: list[Scores], right: NDArray[np.int64]) -> NDArray[np.float64]:
        # one seed draws the same rows, however often it is asked
        return bootstrap(scores, right, teacher, ["area"], resamples=resamples, seed=seed)["area"]

    if other_student is None:
        other_student = student
        own, its = drawn([score, other], student)
    else:
        own, its = drawn([score], student)[0], drawn([other], other_student)[0]
    low, high = interval(own - its)
    areas = [
        figures_of(of, right, teacher, ["area"])["area"]
        for of, right in ((score, student), (other, other_student))
    ]
    return [areas[0] - areas[1], low, high]


def untrained(network: NetSpec, file: Path) -> bytes:
    """The student's graph, for timing alone: with weights that nobody has trained."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".part")
        draft.write_bytes(to_onnx(build(network).eval(), network.input_shape))
        draft.replace(file)
    return file.read_bytes()


def times(student: bytes, router: bytes, network: NetSpec) -> tuple[float, float, float]:
    """Milliseconds of one input, one thread, taken in turns: student, student + router, router."""
    shape = network.input_shape
    graphs = [(student, shape), (merge(student, router, 0.5), shape), (router, (network.classes,))]
    timed = [in_memory(content, size) for content, size in graphs]
    *_, (_, least) = least_ms(timed, ROUNDS)
    alone, pair, small = least
    return alone, pair, small


def in_memory(content: bytes, shape: tuple[int, ...]) -> Timed:
    """A graph to be timed on inputs of a shape, from the bytes of its file."""
    return Timed(lambda: Session(content, "graph"), shape, len(content))
