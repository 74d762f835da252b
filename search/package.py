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
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors
from torch import fx

from edge.bundle import write_bundle
from edge.manifest import (
    Figure,
    Manifest,
    PairInfo,
    RouterInfo,
    StudentInfo,
    TeacherInfo,
)
from edge.session import Session
from envs.cost import cost
from envs.export import to_onnx
from envs.netspec import NetSpec
from envs.surgery import load
from routers.calibrate import CalibrationRows
from routers.goal_options import options_of
from routers.goals import Calibrated, calibrate
from routers.labels import student_right
from routers.pair import merge
from routers.ranking import Offered, RankedRouter, Ranking, RouterData, fit_and_rank
from search.answers import Telling
from search.events import Event, Note, Progress, Stage
from search.goal import goal_of
from search.int8 import Int8, first, make_int8
from search.measure import Measure, PairRows, figures
from search.model_card import model_card
from search.preparation import NEVER_SAID, Prepared
from search.run_folder import RunFolder, write_bytes
from search.two_head import Headed, give_head
from teachers.metrics import METRICS

INT8_FILE, ROUTER_FILE, HEAD_FILE = "student-int8.onnx", "router.onnx", "two_head.safetensors"
#: name in the ranking of the student's own head
HEAD = "two_head"
Weights = Mapping[str, NDArray[np.float32]]


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
    weights: Weights,
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
    yield Stage("package", "export to ONNX")
    shape = student.input_shape
    if not folder.cloud_teacher.exists():
        write_bytes(folder.cloud_teacher, to_onnx(prepared.teacher.module, shape))
    plain = to_onnx(_module(student, weights), shape)
    headed = yield from _headed(prepared, student, weights, plain, folder, threads)
    if headed is not None:
        weights = headed.weights
        plain = to_onnx(_module(student, weights), shape)
    small = yield from _int8(prepared, plain, threads)
    shipped = plain if small is None or small.reason else small.model
    measure = Measure(prepared, shipped, folder, threads)

    yield Stage("routers", "fit and rank on rows the student has not learnt from")
    with_head = None if headed is None else Measure(prepared, headed.onnx, folder, threads)
    ranking = yield from _rank(prepared, measure, headed, with_head)
    router: Session | None = None
    if ranking.winner.kind == "head":
        assert headed is not None
        assert with_head is not None
        plain = shipped = headed.onnx
        measure, small = with_head, None
    else:
        router = Session(ranking.winner.model, ROUTER_FILE, threads=threads)
    rows = {part: measure.pair(part, router) for part in ("validation", "calibration")}
    found = calibrate(
        goal_of(prepared.spec), CalibrationRows.of(rows["calibration"].kept()), nearest=True
    )
    yield Note(found.warning or found.words(), warning=bool(found.warning))

    yield Stage("test", f"{len(prepared.parts.test):,} rows, opened once")
    rows["test"] = measure.pair("test", router)
    manifest = _manifest(prepared, student, ranking, found, rows, small)
    contents = {
        "pair.onnx": merge(shipped, ranking.winner.model or None, found.threshold),
        "student.onnx": plain,
        "student.safetensors": save_safetensors(dict(weights)),
        "netspec.json": student.to_json().encode(),
        "MODEL_CARD.md": model_card(manifest).encode(),
    }
    if router is not None:
        contents[ROUTER_FILE] = ranking.winner.model
    if headed is not None:
        contents[HEAD_FILE] = headed.state
    if small is not None:
        contents[INT8_FILE] = small.model
    # left by a process that was stopped after this point, or by a run on a smaller budget
    shutil.rmtree(folder.bundle, ignore_errors=True)
    written = write_bundle(folder.bundle, manifest, contents)
    return Shipped(written, student, ranking, found.threshold, rows)


def _module(student: NetSpec, weights: Weights) -> fx.GraphModule:
    return load(student, {name: torch.from_numpy(np.array(w)) for name, w in weights.items()})


def _headed(
    prepared: Prepared,
    student: NetSpec,
    weights: Weights,
    plain: bytes,
    folder: RunFolder,
    threads: int,
) -> Telling[Headed | None]:
    """The student with AppealNet's head, if one is asked for."""
    if prepared.spec.two_head == "none":
        return None
    yield Stage("head", f"{prepared.spec.two_head}: both heads of a two-head student")
    _, teacher, labels = Measure(prepared, plain, folder, threads).both("validation")
    right = student_right(teacher, labels)
    module = _module(student, weights)
    return (yield from give_head(prepared, student, module, plain, right, folder))


def _int8(prepared: Prepared, student_onnx: bytes, threads: int) -> Telling[Int8 | None]:
    """The student in int8, if one is wanted and can be made."""
    if not prepared.spec.int8:
        return None
    metric, labels = METRICS[prepared.spec.metric], prepared.labels("validation")

    def exam(network: Session) -> float:
        classes = (prepared.network.classes,)
        said = [network.run(x, "logits", classes) for x in prepared.inputs("validation")]
        return metric(np.concatenate(said), labels)

    try:
        small = make_int8(student_onnx, first(prepared.inputs("distillation")), exam, threads)
    except Exception as error:
        # an operator that ONNX Runtime cannot quantise costs no job its student
        yield Note(f"no student in int8: {type(error).__name__}: {error}", warning=True)
        return None
    yield Note(small.reason or f"int8 ships: {small.ms:.3g} ms against {small.fp32_ms:.3g} in fp32")
    return small


def _rank(
    prepared: Prepared, measure: Measure, headed: Headed | None, with_head: Measure | None
) -> Telling[Ranking]:
    router_logits, router_labels = measure.logits("router")
    validation_logits, teacher, labels = measure.both("validation")
    data = RouterData(
        router_logits,
        router_labels,
        validation_logits,
        labels,
        student_right(teacher, labels),
    )
    offered = []
    if headed is not None and with_head is not None:
        spent = 1000 * max(0.0, headed.timing.two_head_ms - headed.timing.student_ms)
        offered.append(Offered(HEAD, with_head.scores("validation"), headed.bytes, spent))
    told: list[Event] = []
    ranking = fit_and_rank(
        data,
        families=prepared.spec.families,
        sampling=prepared.spec.sampling,
        features=prepared.spec.features,
        trials=prepared.spec.router_trials,
        seed=prepared.spec.seed,
        offered=offered,
        on_event=lambda name, done, total: told.append(Progress(done, total, name)),
    )
    yield from told
    yield Note(ranking.note)
    return ranking


def _manifest(
    prepared: Prepared,
    student: NetSpec,
    ranking: Ranking,
    found: Calibrated,
    rows: Mapping[str, PairRows],
    small: Int8 | None,
) -> Manifest:
    spent = cost(student)
    winner: RankedRouter = ranking.winner
    said = "" if prepared.parts.teacher_unseen else NEVER_SAID
    file = "student.onnx" if small is None or small.reason else INT8_FILE
    return Manifest(
        name=f"{prepared.teacher.name} on {prepared.data.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        preprocess=prepared.teacher.manifest.preprocess,
        class_names=prepared.teacher.manifest.class_names,
        student=StudentInfo(file, spent.kb, spent.parameters, spent.macs),
        router=_router(winner),
        pair=PairInfo("pair.onnx"),
        threshold=found.threshold,
        goal=options_of(found.goal),
        note=ranking.note,
        parts=prepared.parts.counts(),
        figures=figures(rows, found.threshold, prepared.spec.metric) | _precision(prepared, small),
        warnings=tuple(filter(None, [said, found.warning])),
        calibration=rows["calibration"].kept(),
        teacher=TeacherInfo(
            prepared.teacher.name, prepared.teacher.fingerprint, cost(prepared.network).kb
        ),
    )


def _router(winner: RankedRouter) -> RouterInfo:
    if winner.kind == "head":
        return RouterInfo("student.onnx", winner.name, "head", input="builtin")
    return RouterInfo(ROUTER_FILE, winner.name, "family" if winner.kind == "family" else "score")


def _precision(prepared: Prepared, small: Int8 | None) -> dict[str, Figure]:
    """Both number formats on the validation part, which chose between them."""
    if small is None:
        return {}
    rows, metric = len(prepared.parts.validation), prepared.spec.metric
    return {
        f"validation.student_{name}_{metric}": Figure(value, "validation", rows)
        for name, value in (("fp32", small.fp32_quality), ("int8", small.quality))
    }
