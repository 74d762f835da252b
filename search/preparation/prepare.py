"""From a job to everything a search needs: checked, loaded, split, and the teacher's answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.reward import PaperReward, Reward
from search.job.choices import check_choices
from search.job.events import Note, Stage
from search.job.machine import image_budget
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.preparation.latency import keep_profile, latency_of
from search.preparation.prepared import Prepared, recipe_of
from search.preparation.teacher_check import check_teacher_sense
from search.preparation.teacher_outputs import Asker, Telling, Views, draw_views, patched, telling
from search.preparation.validate import moves_of
from search.scheduling.halving import Halving
from search.space.learning_curve import Expectation
from search.space.space import Space
from search.space.thresholds import drop_of, limits_of, reward_of
from search.space.training_plan import TrainingPlan, training_plan
from teachers.data.copies import Copies, find_copies
from teachers.data.datasets import Dataset, map_dataset, open_for, read_dataset
from teachers.data.image_file import image_bytes
from teachers.data.part_checks import part_remarks
from teachers.data.source import Remark, Table
from teachers.data.splits import (
    LEAST_ROWS_A_CLASS,
    SPARED_ROWS_A_CLASS,
    HeldOut,
    Parts,
    hold_out,
    router_share,
    withhold_router,
)
from teachers.data.unseen import Unseen
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.losses import LOSSES
from teachers.distillation.metrics import METRICS
from teachers.distillation.training_sets import DistillationSet
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from teachers.formats.manifest import Teacher

#: validation rows that the teacher is shown mirrored, and the accuracy that it may lose by it
MIRRORED, MIRRORED_DROP = 1000, 0.02


def check_names(spec: JobSpec) -> None:
    """Refuse a name that no open set knows.

    Raises:
        BadInput: names the field, and the members there are.
    """
    check_choices(spec)
    if spec.views and spec.augment == "none":
        raise BadInput(
            "there are no views to draw",
            value=f"views {spec.views}, augment none",
            bound="an augmentation: " + ", ".join(name for name in AUGMENTS if name != "none"),
            remedy="Choose one for --augment, or leave --views at 0.",
        )
    if spec.two_head == "joint" and spec.router_rows == "folds":
        raise BadInput(
            "the folds' students would not be like the one that ships",
            value="two-head joint, router-rows folds",
            bound="folds of students that learn by distillation alone",
            remedy="Choose --two-head frozen, or --router-rows withheld.",
        )
    if spec.gamma and spec.l0 is None and spec.max_ms is None:
        raise BadInput(
            "the latency factor has no threshold",
            value=f"gamma {spec.gamma:g}",
            bound="a latency at which the factor is 1",
            remedy="Give --max-ms or --l0, or leave --gamma at 0.",
        )
    nominal = training_plan(spec, rows=1000, classes=10)
    recipe_of(spec, nominal, proxy=False)
    Halving(nominal.proxy_epochs, spec.halving)


def prepare(
    spec: JobSpec,
    folder: RunFolder,
    trusted: bool = False,
    ready: Callable[[Dataset], None] = lambda data: None,
) -> Telling[Prepared]:
    """Load, split and ask the teacher; the folder is made once nothing can be refused any more.

    ``ready`` is told of the data before the teacher answers, and may refuse them.

    Raises:
        BadInput: the teacher cannot be described, does not fit the data, or no candidate keeps the
            limits on cost.
    """
    yield Stage("prepare", f"teacher {Path(spec.teacher).name}, data {spec.data}")
    described = understand(load_teacher(spec.teacher, trusted=trusted))
    teacher, network = described.teacher, described.network
    for note in described.notes:
        yield Note(note)
    preprocess = replace(teacher.manifest.preprocess, resize=spec.resize)
    teacher = replace(teacher, manifest=replace(teacher.manifest, preprocess=preprocess))
    moves = moves_of(spec)
    moves.check_protected(anatomy(network).layers)
    # any reward will do to see whether the limits can be kept; the real one needs the teacher's
    # accuracy, which takes time
    limits = limits_of(spec, 0.0)
    Space(network, moves, PaperReward(), replace(limits, max_ms=None))
    latency = yield from latency_of(spec, folder, teacher, network, moves)
    if latency is not None:
        Space(network, moves, PaperReward(), limits, latency.predictor)
    beside = Path(spec.teacher).parent
    found = open_for(spec.data, teacher.manifest, unseen=spec.teacher_unseen, beside=beside)
    table = found.table
    yield from map(_told, table.remarks)
    # the data's names serve where the teacher has none
    named = replace(teacher.manifest, class_names=table.class_names, named=True)
    teacher = replace(teacher, manifest=named) if table.class_names else teacher
    # what can be refused by the labels alone is refused before anything is decoded
    hold_out(table.labels, table.train_rows, unseen=found.rows, seed=spec.seed)
    cut = {} if folder.cut == "1" else {"cut": folder.cut}
    data = yield from _load(table, teacher, spec, folder, cut)
    ready(data)
    held, copies = yield from _held_out(data, found, spec, folder.cut)
    share = _router_share(held, spec, folder)
    inputs = {"teacher": teacher.fingerprint, "data": data.digest, "router_share": repr(share)}
    inputs |= cut
    folder.create(spec, inputs if latency is None else inputs | {"profile": latency.digest})
    keep_profile(latency, folder)
    tap = anatomy(network).layers[-1].node
    asker = Asker(teacher, data, folder.cache, tap, gpu=spec.gpus > 0)
    names = table.given_names or data.class_names
    parts, accuracy = yield from _share_out(
        asker, held, spec, copies, names, share, named=bool(table.given_names)
    )
    distillation_set = yield from _lesson(asker, parts, spec)
    mirrored = False
    if spec.augment == "auto":
        mirrored = yield from _as_right_mirrored(asker, parts.validation, spec.seed)
    plan = training_plan(spec, len(distillation_set), network.classes, mirrored)
    drawn = (yield from _lesson(asker, parts, spec, plan)) if plan.views else None
    if not parts.teacher_unseen:
        yield Note(NEVER_SAID, warning=True)
    teacher_kb = cost(network).kb
    predictor = None if latency is None else latency.predictor
    whole = np.array([[moves.keep] * len(anatomy(network).layers)])
    teacher_ms = None if predictor is None else float(predictor(whole)[0])
    reward = reward_of(spec, teacher_kb, accuracy, teacher_ms)
    examined = data.labels[parts.validation]
    expectation = Expectation(
        teacher=accuracy,
        images=plan.proxy_rows,
        full=plan.final_epochs * len(distillation_set),
        gain=spec.proxy_gain or 0.0,  # where it is None, pilots will tell
        rows=len(parts.validation),
        chance=_chance(spec, examined),
    )
    space = Space(network, moves, reward, limits_of(spec, accuracy), predictor, expectation)
    yield Note(
        f"teacher {teacher_kb:,.0f} KB, {accuracy:.2%} {spec.metric} on {len(parts.validation):,} "
        f"validation rows; target {spec.target}, {_thresholds(reward, teacher_kb)}"
    )
    yield Note(str(plan))
    return Prepared(
        spec,
        teacher,
        network,
        data,
        parts,
        moves,
        reward,
        space,
        tap,
        distillation_set,
        drawn,
        accuracy,
        plan,
        latency=latency,
    )


def _chance(spec: JobSpec, labels: NDArray[np.int64]) -> float:
    """The metric of one who always names the most frequent class."""
    counts = np.bincount(labels)
    if spec.metric == "balanced_accuracy":
        return 1 / int((counts > 0).sum())
    return float(counts.max() / counts.sum())


def _thresholds(reward: Reward, teacher_kb: float) -> str:
    """The thresholds in force, in words."""
    settings, told = reward.settings, []
    if "c0" in settings:
        kb = (1 - settings["c0"]) * teacher_kb
        told.append(f"thresholds C0 {settings['c0']:.4f} ({kb:,.0f} KB), A0 {settings['a0']:.4f}")
    if "l0" in settings:
        told.append(f"L0 {settings['l0']:g} ms")
    return ", ".join(told) or "a reward without thresholds"


NEVER_SAID = (
    "nobody says which rows the teacher never saw, so figures of the pair may be too rosy: "
    "name them with --teacher-unseen, or as `unseen` in the teacher's JSON"
)


def _held_out(
    data: Dataset, found: Unseen, spec: JobSpec, cut: str
) -> Telling[tuple[HeldOut, Copies | None]]:
    """The rows held out, and what is to be said of them; ``cut`` as in
    :data:`search.job.run_folder.CUT`."""
    labels = data.labels
    if cut == "1":
        kept = hold_out(labels, data.train_rows, unseen=found.rows, seed=spec.seed, least=0)
        return kept, None
    copies = find_copies(data.images, claimed=found.claimed)
    spared = LEAST_ROWS_A_CLASS if cut == "2" else SPARED_ROWS_A_CLASS
    held = hold_out(
        labels,
        data.train_rows,
        unseen=found.rows,
        seed=spec.seed,
        copies=copies,
        spared=spared,
    )
    used = np.concatenate([held.validation, held.calibration, held.test, held.rest])
    left_out = np.setdiff1d(np.arange(len(labels)), used)
    test_rows = len(labels) - data.train_rows
    unseen_rows = 0 if found.rows is None else len(found.rows)
    remark = copies.remark(labels, test_rows, unseen_rows, left_out)
    remarks = [] if remark is None else [remark]
    yield from map(_told, (*remarks, *part_remarks(data.images, labels, held, data.class_names)))
    return held, copies


def _told(remark: Remark) -> Note:
    return Note(remark.text, warning=bool(remark.name), name=remark.name)


def _load(
    table: Table, teacher: Teacher, spec: JobSpec, folder: RunFolder, cut: Mapping[str, str]
) -> Telling[Dataset]:
    """The data in memory or, beyond its budget, decoded into a file in the run's folder."""
    preprocess, names = teacher.manifest.preprocess, teacher.manifest.class_names
    size, budget = image_bytes(table, preprocess), image_budget(spec.memory_gb)
    if size <= budget:
        return read_dataset(table, preprocess, names)
    # made now, because what is decoded should be there when the job is resumed
    folder.create(spec, {"teacher": teacher.fingerprint, **cut})
    yield Note(
        f"{size / 1e9:.3g} GB of images are more than the {budget / 1e9:.3g} GB that may be held "
        "in memory: they are decoded into the run's folder"
    )
    steps = map_dataset(table, preprocess, names, folder.cache)
    return (yield from telling(steps, len(table.labels), "images decoded"))


def _router_share(held: HeldOut, spec: JobSpec, folder: RunFolder) -> float:
    """Most of the training rows that the router withholds: settled when a run begins, whatever
    rows its routers are fitted on later, because a student has learnt from all others."""
    if folder.inputs.exists():
        stored = json.loads(folder.inputs.read_text())
        if "data" in stored:  # else it was stopped while its data were still read
            return float(stored.get("router_share", 1 / 3))
    return router_share(len(held.rest)) if spec.router_rows == "auto" else 1 / 3


def _share_out(
    asker: Asker,
    held: HeldOut,
    spec: JobSpec,
    copies: Copies | None,
    names: tuple[str, ...],
    share: float,
    *,
    named: bool,
) -> Telling[tuple[Parts, float]]:
    """The five parts, the router's sized by the teacher's own errors; and its accuracy.

    ``names`` are those of the labels' classes, and ``named`` says whether the data give them.

    Raises:
        BadInput: the teacher's answers have nothing to do with the labels.
    """
    labels = asker.data.labels
    validation = yield from asker.answers("validation", held.validation)
    yield from check_teacher_sense(
        asker.teacher.manifest,
        names,
        asker.data.images,
        labels,
        held.validation,
        validation.logits[0],
        asker.ask_again,
        named=named,
    )
    accuracy = METRICS[spec.metric](validation.logits[0], labels[held.validation])
    error_rate = 1 - accuracy + drop_of(spec) / 2
    parts = withhold_router(
        held, labels, error_rate=error_rate, seed=spec.seed, copies=copies, max_share=share
    )
    return parts, accuracy


def _as_right_mirrored(asker: Asker, rows: NDArray[np.int64], seed: int) -> Telling[bool]:
    """Whether the teacher is as right about images with left and right exchanged.

    Where it is not, as with digits, a mirrored image is another class or none.
    """
    # parts are in the order of the data, which may be class by class
    chosen = np.sort(np.random.default_rng([seed, 5]).permutation(len(rows))[:MIRRORED])
    views = Views("flip_shift", np.zeros((1, len(chosen), 3), np.int16))
    views.draws[..., 2] = 1  # mirrored, and not moved
    plain = yield from asker.answers("validation", rows)  # which it has given already
    turned = yield from asker.answers("mirrored", rows[chosen], views=views)
    labels = asker.data.labels[rows[chosen]]
    right, still = (
        float((logits.argmax(1) == labels).mean())
        for logits in (plain.logits[0][chosen], turned.logits[0])
    )
    return still >= right - MIRRORED_DROP


def _lesson(
    asker: Asker, parts: Parts, spec: JobSpec, plan: TrainingPlan | None = None
) -> Telling[DistillationSet]:
    """What there is to learn, with the teacher's answers about every image, or about the views of
    a plan."""
    rows, preprocess = parts.distillation, asker.teacher.manifest.preprocess
    drawn = None
    if plan is not None:
        shape = preprocess.pixel_shape
        drawn = draw_views(plan.augment, plan.views, len(rows), shape, spec.seed)
        if plan.cutmix:
            drawn = patched(drawn, rows, asker.data.labels[rows], shape, spec.seed)
    told = yield from asker.answers(
        "distillation",
        rows,
        features=LOSSES[spec.loss].needs_features,
        precision=spec.precision,
        views=drawn,
    )
    return DistillationSet(
        asker.data.images,
        rows,
        asker.data.labels[rows],
        told.logits,
        told.features,
        preprocess,
        None if drawn is None else drawn.draws,
        None if drawn is None else drawn.patches,
    )
