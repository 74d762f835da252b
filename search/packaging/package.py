"""From a trained student to what ships: ONNX files, router, threshold, figures, bundle.

Every figure is measured in ONNX Runtime on the bytes that ship, and names its part of the data.
The test part is opened here and nowhere else, after every choice has been made, and how often that
was is counted: `understudy route RUN` opens it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors
from torch import fx

from edge.files import write_bytes
from edge.manifest import (
    Figure,
    Manifest,
    PairInfo,
    RouterInfo,
    StudentInfo,
    TeacherInfo,
)
from edge.session import Session
from envs.compression.cost import cost
from envs.compression.surgery import load
from envs.export.export import to_onnx
from envs.export.tidy import described, operators_of
from envs.graph.netspec import NetSpec
from routers.calibration.calibrate import CalibrationRows
from routers.calibration.goal_options import options_of
from routers.calibration.goals import Calibrated, calibrate
from routers.onnx.pair import merge
from routers.ranking.ranking import (
    LEAST_COMPLEX_ROWS,
    Offered,
    RankedRouter,
    Ranking,
    RouterData,
    fit_and_rank,
)
from routers.ranking.room import Room
from routers.selection.labels import student_right
from search.job.events import Event, Note, Progress, Stage
from search.job.goal import goal_of
from search.job.run_folder import RunFolder, times
from search.packaging.bundle_folder import put_bundle
from search.packaging.inscription import (
    ROUTER_WORDS,
    named,
    network_facts,
    pair_words,
    router_facts,
)
from search.packaging.int8 import Int8, int8_of
from search.packaging.measure import Measure, PairRows, compared, figures
from search.packaging.model_card import card_of
from search.packaging.router_rows import WAYS
from search.packaging.sense import PartSeen, doubt, sense_of
from search.packaging.two_head import Headed, give_head
from search.preparation.prepare import NEVER_SAID
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.space.space import Actions

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
        goal: what was asked of the threshold, and whether it is met on the calibration part.
        seen: how often the test part has been opened in this run, this time included.
    """

    manifest: Manifest
    student: NetSpec
    ranking: Ranking
    threshold: float
    rows: Mapping[str, PairRows]
    goal: Calibrated
    seen: int = 1


def ship(
    prepared: Prepared,
    actions: Actions,
    weights: Weights,
    folder: RunFolder,
    threads: int,
    warned: Mapping[str, Note] = MappingProxyType({}),
) -> Telling[Shipped]:
    """Export, fit and rank routers, calibrate, measure, and write the bundle.

    Args:
        prepared: the job with teacher and data.
        actions: of the winner.
        weights: its trained state dict.
        folder: of the run; ``cloud/teacher.onnx`` and ``bundle/`` are written.
        threads: of ONNX Runtime while measuring.
        warned: named warnings so far, which the bundle repeats; it may grow with those told here.
    """
    student = prepared.space.student(actions).spec
    if not folder.cloud_teacher.exists():
        teacher = to_onnx(prepared.teacher.module, student.input_shape)
        write_bytes(folder.cloud_teacher, named(prepared, teacher, "teacher"))
    made = yield from _export(prepared, student, weights, folder, threads)

    measure = Measure(prepared, made.ships, folder, threads)
    data = yield from _router_data(prepared, actions, measure, folder)
    room = Room(cost(student).kb, prepared.spec.max_kb, prepared.spec.max_pair_kb)
    ranking = yield from _rank(prepared, data, made, folder, threads, room)
    router: Session | None = None
    if ranking.winner.kind == "head":
        made = made.with_head()
        measure = Measure(prepared, made.ships, folder, threads)
    else:
        router = Session(ranking.winner.model, ROUTER_FILE, threads=threads)
    rows = {part: measure.pair(part, router) for part in ("validation", "calibration")}
    found = calibrate(
        goal_of(prepared.spec), CalibrationRows.of(rows["calibration"].kept()), nearest=True
    )

    seen = folder.see_test()
    yield Stage("test", f"{len(prepared.parts.test):,} rows, seen {times(seen)}")
    rows["test"] = measure.pair("test", router)
    parts = {
        part: PartSeen.of(pair.logits.argmax(1), pair.teacher_logits.argmax(1), pair.labels)
        for part, pair in rows.items()
    }
    unseen = prepared.parts.teacher_unseen
    odd = sense_of(parts, unseen=unseen, limits=prepared.space.limits.options())
    yield from odd
    found = replace(found, doubt=doubt([*warned.values(), *odd], parts["calibration"]))
    yield Note(found.warning or found.words(), warning=bool(found.warning), name=found.name)
    warnings = {note.name: note for note in (*warned.values(), *odd)}
    manifest = _manifest(prepared, student, ranking, found, rows, made, tuple(warnings.values()))
    contents = _contents(made, student, ranking.winner.model, manifest)
    pair = contents[manifest.pair.file]
    yield from compared(
        pair, next(prepared.inputs("validation")), rows["validation"], found.threshold
    )
    manifest = replace(manifest, pair=PairInfo("pair.onnx", operators=operators_of(pair)))
    contents["MODEL_CARD.md"] = card_of(manifest, contents)
    # one may have been left by a process that was stopped here, or by a run on a smaller budget
    written = put_bundle(folder.bundle, manifest, contents)
    return Shipped(written, student, ranking, found.threshold, rows, found, seen)


@dataclass(frozen=True)
class _Made:
    """The student in the forms that may ship.

    Attributes:
        plain: its ONNX file in fp32.
        weights: its state dict.
        small: the same in int8, if there is one.
        headed: the same with AppealNet's head, if there is one.
    """

    plain: bytes
    weights: Weights
    small: Int8 | None
    headed: Headed | None

    @property
    def ships(self) -> bytes:
        """The form whose logits routers are fitted on, and which the pair's graph holds."""
        return self.plain if self.small is None or self.small.reason else self.small.model

    @property
    def file(self) -> str:
        """Its name in the bundle."""
        return "student.onnx" if self.ships is self.plain else INT8_FILE

    def with_head(self) -> _Made:
        """As it ships where its own head decides: in fp32, logits and score from one graph."""
        assert self.headed is not None
        return replace(self, plain=self.headed.onnx, small=None)


def _export(
    prepared: Prepared, student: NetSpec, weights: Weights, folder: RunFolder, threads: int
) -> Telling[_Made]:
    yield Stage("package", "export to ONNX")
    plain = _exported(prepared, student, weights)
    headed = yield from _headed(prepared, student, weights, plain, folder, threads)
    if headed is not None and headed.changed:
        weights = headed.weights
        plain = _exported(prepared, student, weights)
    small = yield from int8_of(prepared, plain, threads)
    if small is not None:
        small = replace(small, model=named(prepared, small.model, "student in int8"))
    return _Made(plain, weights, small, headed)


def _exported(prepared: Prepared, student: NetSpec, weights: Weights) -> bytes:
    plain = to_onnx(_module(student, weights), student.input_shape)
    return named(prepared, plain, "student")


def _contents(made: _Made, student: NetSpec, router: bytes, manifest: Manifest) -> dict[str, bytes]:
    """Files of the bundle but for its card; no ``router`` where the student's own head decides."""
    chosen = router_facts(manifest.router)
    facts = network_facts(manifest.preprocess, manifest.class_names, manifest.licence or None)
    words = pair_words(len(manifest.class_names), manifest.router)
    contents = {
        "pair.onnx": merge(made.ships, router or None, manifest.threshold, facts | chosen, words),
        "student.onnx": made.plain,
        "student.safetensors": save_safetensors(dict(made.weights)),
        "netspec.json": student.to_json().encode(),
    }
    if router:
        contents[ROUTER_FILE] = described(router, ROUTER_WORDS, chosen)
    if made.headed is not None:
        contents[HEAD_FILE] = made.headed.state
    if made.small is not None:
        contents[INT8_FILE] = made.small.model
    return contents


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
    found = yield from give_head(prepared, student, module, plain, right, folder)
    if found is None:
        return None
    return replace(found, onnx=named(prepared, found.onnx, "student with a score of its own"))


def _router_data(
    prepared: Prepared, actions: Actions, measure: Measure, folder: RunFolder
) -> Telling[RouterData]:
    logits, labels = yield from WAYS[prepared.spec.router_rows](prepared, actions, measure, folder)
    validation, teacher, truth = measure.both("validation")
    return RouterData(logits, labels, validation, truth, student_right(teacher, truth))


def _rank(
    prepared: Prepared,
    data: RouterData,
    made: _Made,
    folder: RunFolder,
    threads: int,
    room: Room,
) -> Telling[Ranking]:
    offered, headed = [], made.headed
    if headed is not None:
        with_head = Measure(prepared, headed.onnx, folder, threads)
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
        room=room,
        portable=prepared.spec.portable,
        joined=lambda router: merge(made.ships, router, 0.0),
        on_event=lambda name, done, total: told.append(Progress(done, total, name)),
    )
    yield from told
    yield Note(ranking.note)
    few = ranking.complex_rows < LEAST_COMPLEX_ROWS and prepared.spec.families
    if few and prepared.spec.router_rows in ("auto", "withheld"):
        yield Note("--router-rows folds would look for errors in all training rows")
    return ranking


def _manifest(
    prepared: Prepared,
    student: NetSpec,
    ranking: Ranking,
    found: Calibrated,
    rows: Mapping[str, PairRows],
    made: _Made,
    odd: Sequence[Note],
) -> Manifest:
    spent = cost(student)
    winner: RankedRouter = ranking.winner
    goal = Note(found.warning, name=found.name if found.warning else "")
    said = ("" if prepared.parts.teacher_unseen else NEVER_SAID, goal.named_text)
    teacher = cost(prepared.network)
    return Manifest(
        name=f"{prepared.teacher.name} on {prepared.data.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        preprocess=prepared.teacher.manifest.preprocess,
        class_names=prepared.teacher.manifest.class_names,
        student=StudentInfo(made.file, spent.kb, spent.parameters, spent.macs),
        router=_router(winner),
        pair=PairInfo("pair.onnx"),
        threshold=found.threshold,
        goal=options_of(found.goal),
        note=ranking.note,
        parts=prepared.parts.counts(),
        figures=figures(rows, found.threshold, prepared.spec.metric)
        | _precision(prepared, made.small),
        warnings=tuple(dict.fromkeys((*(note.named_text for note in odd), *filter(None, said)))),
        calibration=rows["calibration"].kept(),
        teacher=TeacherInfo(
            prepared.teacher.name, prepared.teacher.fingerprint, teacher.kb, teacher.macs
        ),
        licence=prepared.spec.licence or "",
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
