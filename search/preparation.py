"""From a job to everything a search needs: checked, loaded, split, and the teacher's answers."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.errors import check_member
from envs.cost import cost
from envs.criteria import CRITERIA
from envs.layers import anatomy
from envs.moves import Moves
from envs.netspec import NetSpec
from envs.reward import REWARDS, Reward
from routers.families import FAMILIES
from routers.qbc import SAMPLING
from search.checks import moves_of
from search.events import Event, Note, Progress, Stage
from search.machine import cores
from search.run_folder import RunFolder
from search.samplers import SAMPLERS
from search.space import Space
from search.spec import JobSpec
from search.workers import Classroom
from teachers.augment import AUGMENTS
from teachers.datasets import Dataset, load_dataset
from teachers.description import understand
from teachers.distill import Lesson, Recipe
from teachers.formats import load_teacher
from teachers.losses import LOSSES
from teachers.manifest import Teacher
from teachers.metrics import METRICS
from teachers.precision import PRECISIONS
from teachers.splits import HeldOut, Parts, hold_out, parse_unseen, withhold_router
from teachers.training import Prediction, predict

#: rows of the teacher's forward pass between two signs of life
CHUNK = 512

T = TypeVar("T")
#: a step of the job that tells of itself and gives a value in the end
Telling = Generator[Event, None, T]


@dataclass(frozen=True)
class Answers:
    """What the teacher says of some rows: logits N×K and, where needed, features N×F."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None


@dataclass(frozen=True)
class Prepared:
    """A job with its teacher and data in hand.

    Attributes:
        spec: the job.
        teacher, network: the module, and its description.
        data, parts: rows and their five parts.
        moves, reward, space: of the candidates.
        tap: module whose input counts as features.
        lesson: the distillation part with the teacher's answers.
        teacher_accuracy: by the job's metric, on the validation part.
    """

    spec: JobSpec
    teacher: Teacher
    network: NetSpec
    data: Dataset
    parts: Parts
    moves: Moves
    reward: Reward
    space: Space
    tap: str
    lesson: Lesson
    teacher_accuracy: float

    def rows(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images and labels of a part."""
        index = getattr(self.parts, part)
        return self.data.images[index], self.data.labels[index]

    def classroom(self, proxy: bool) -> Classroom:
        """What workers share; a proxy holds the first rows of a fixed shuffle."""
        lesson = self.lesson
        if proxy and len(lesson.labels) > self.spec.proxy_rows:
            rng = np.random.default_rng([self.spec.seed, 2])
            chosen = np.sort(rng.permutation(len(lesson.labels))[: self.spec.proxy_rows])
            features = lesson.teacher_features
            lesson = replace(
                lesson,
                images=lesson.images[chosen],
                labels=lesson.labels[chosen],
                teacher_logits=lesson.teacher_logits[chosen],
                teacher_features=None if features is None else features[chosen],
            )
        state = self.teacher.module.state_dict()
        return Classroom(
            teacher=self.network.to_json(),
            weights={name: tensor.numpy() for name, tensor in state.items()},
            moves=self.moves,
            tap=self.tap,
            lesson=lesson,
            validation=self.rows("validation"),
            metric=self.spec.metric,
            seed=self.spec.seed,
            threads=self.spec.threads,
            criterion=self.spec.criterion,
        )

    def recipe(self, proxy: bool) -> Recipe:
        """How candidates (proxy) and the winner are trained."""
        return _recipe(self.spec, proxy)


def check_names(spec: JobSpec) -> None:
    """Refuse a name that no open set knows.

    Raises:
        BadInput: names the field, and the members there are.
    """
    chosen: list[tuple[str, str, Collection[str]]] = [
        ("sampler", spec.sampler, SAMPLERS),
        ("reward", spec.reward, REWARDS),
        ("loss", spec.loss, LOSSES),
        ("augment", spec.augment, AUGMENTS),
        ("precision", spec.precision, PRECISIONS),
        ("sampling", spec.sampling, SAMPLING),
        ("criterion", spec.criterion, CRITERIA),
        *(("families", family, FAMILIES) for family in spec.families),
    ]
    for field, name, known in chosen:
        check_member(field, name, known, f"Choose one of these for --{field}.")
    _recipe(spec, proxy=False)


def reward_of(spec: JobSpec, teacher_kb: float, teacher_accuracy: float) -> Reward:
    """The reward with its thresholds taken from the limits where the job names none."""
    limit = 0.95 if spec.max_kb is None else 1 - spec.max_kb / teacher_kb
    options = {
        "alpha": spec.alpha,
        "beta": spec.beta,
        "c0": max(0.0, limit) if spec.c0 is None else spec.c0,
        "a0": max(0.0, teacher_accuracy - spec.max_drop) if spec.a0 is None else spec.a0,
    }
    if spec.reward == "threshold":
        options["rho"] = spec.rho
    return REWARDS[spec.reward](**options)


def _recipe(spec: JobSpec, proxy: bool) -> Recipe:
    return Recipe(
        epochs=spec.proxy_epochs if proxy else spec.final_epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        loss=spec.loss,
        temperature=spec.temperature,
        precision=spec.precision,
        augment="none" if proxy else spec.augment,
        keep_best=not proxy,
    )


def prepare(spec: JobSpec, folder: RunFolder, trusted: bool = False) -> Telling[Prepared]:
    """Load, split and ask the teacher; the folder is made once nothing can be refused any more.

    Raises:
        BadInput: the teacher cannot be described, does not fit the data, or no candidate keeps the
            size limit.
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
    # any reward will do to see whether the limit can be kept; the real one needs the teacher's
    # accuracy, which takes time
    Space(network, moves, REWARDS[spec.reward](), spec.max_kb)
    data = load_dataset(spec.data, preprocess, teacher.manifest.class_names)
    unseen = parse_unseen(spec.teacher_unseen or teacher.manifest.unseen, data.train_rows)
    held = hold_out(data.labels, data.train_rows, unseen=unseen, seed=spec.seed)
    asker = _Asker(teacher, data, folder.cache, anatomy(network).layers[-1].node, spec)
    folder.create(spec, {"teacher": teacher.fingerprint, "data": asker.digest})
    outcome = yield from _ask(asker, held, spec)
    parts, lesson, accuracy = outcome
    if not parts.teacher_unseen:
        yield Note(NEVER_SAID, warning=True)
    teacher_kb = cost(network).kb
    reward = reward_of(spec, teacher_kb, accuracy)
    space = Space(network, moves, reward, spec.max_kb)
    yield Note(
        f"teacher {teacher_kb:,.0f} KB, {accuracy:.2%} {spec.metric} on {len(parts.validation):,} "
        f"validation rows; thresholds C0 {reward.c0:.4f} ({(1 - reward.c0) * teacher_kb:,.0f} KB), "
        f"A0 {reward.a0:.4f}"
    )
    return Prepared(
        spec, teacher, network, data, parts, moves, reward, space, asker.tap, lesson, accuracy
    )


NEVER_SAID = (
    "nobody says which rows the teacher never saw, so figures of the pair may be too rosy: "
    "name them with --teacher-unseen, or as `unseen` in the teacher's JSON"
)


def _ask(asker: _Asker, held: HeldOut, spec: JobSpec) -> Telling[tuple[Parts, Lesson, float]]:
    """Size the router part by the teacher's own errors, then have every row answered."""
    validation = yield from asker.answers("validation", held.validation, exact=True)
    labels = asker.data.labels
    accuracy = METRICS[spec.metric](validation.logits, labels[held.validation])
    error_rate = 1 - accuracy + spec.max_drop / 2
    parts = withhold_router(held, labels, error_rate=error_rate, seed=spec.seed)
    told = yield from asker.answers("distillation", parts.distillation, exact=False)
    lesson = Lesson(
        asker.data.images[parts.distillation],
        labels[parts.distillation],
        told.logits,
        told.features,
        asker.teacher.manifest.preprocess,
    )
    return parts, lesson, accuracy


class _Asker:
    """The teacher runs once over every row; its answers are kept on disk."""

    def __init__(
        self, teacher: Teacher, data: Dataset, cache: Path, tap: str, spec: JobSpec
    ) -> None:
        self.teacher, self.data, self.cache, self.tap = teacher, data, cache, tap
        self.features = LOSSES[spec.loss].needs_features
        self.precision = spec.precision
        self.digest = digest(data)

    def answers(self, part: str, rows: NDArray[np.int64], exact: bool) -> Telling[Answers]:
        """Logits of a part and, for distillation where the loss reads them, features."""
        keep_features = self.features and not exact
        path = self.cache / f"{part}-{self._key(rows, keep_features, exact)}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return Answers(stored["logits"], stored["features"] if keep_features else None)
        predictions: list[Prediction] = []
        for prediction in self._ask(rows, keep_features, "fp32" if exact else self.precision):
            yield Progress(CHUNK * len(predictions), len(rows), f"teacher answers the {part} part")
            predictions.append(prediction)
        yield Progress(len(rows), len(rows), f"teacher answers the {part} part")
        logits = [prediction.logits for prediction in predictions]
        features = [p.features for p in predictions if p.features is not None]
        answers = Answers(np.concatenate(logits), np.concatenate(features) if features else None)
        self._store(path, answers)
        return answers

    def _ask(self, rows: NDArray[np.int64], features: bool, precision: str) -> Iterator[Prediction]:
        """The teacher's answers to chunks of rows, in their order.

        One thread per core works on a chunk of its own: one network shared by all cores stalls at
        every layer as soon as another process wants one of them.
        """
        threads = cores()
        idle: SimpleQueue[nn.Module] = SimpleQueue()
        for _ in range(threads):
            idle.put(copy.deepcopy(self.teacher.module))

        def ask(start: int) -> Prediction:
            module = idle.get()
            try:
                return predict(
                    module,
                    self.data.images[rows[start : start + CHUNK]],
                    self.teacher.manifest.preprocess,
                    tap=self.tap if features else None,
                    precision=precision,
                )
            finally:
                idle.put(module)

        pool = ThreadPoolExecutor(threads, "teacher", torch.set_num_threads, (1,))
        try:
            yield from pool.map(ask, range(0, len(rows), CHUNK))
        finally:
            pool.shutdown(cancel_futures=True)

    def _store(self, path: Path, answers: Answers) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"logits": answers.logits}
        if answers.features is not None:
            arrays["features"] = answers.features
        draft = path.with_suffix(".part.npz")
        np.savez(draft, **arrays)  # type: ignore[arg-type]
        draft.replace(path)

    def _key(self, rows: NDArray[np.int64], features: bool, exact: bool) -> str:
        about = f"{self.teacher.fingerprint} {self.digest} {features} {exact} {self.precision}"
        return hashlib.sha256(about.encode() + rows.tobytes()).hexdigest()[:16]


def digest(data: Dataset) -> str:
    """SHA-256 of images and labels."""
    content = hashlib.sha256(str((data.images.shape, data.train_rows)).encode())
    content.update(np.ascontiguousarray(data.images).data)
    content.update(np.ascontiguousarray(data.labels).data)
    return content.hexdigest()
