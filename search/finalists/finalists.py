"""The last round: the best candidates are trained in full, at once, and the best of them ships.

A proxy tells the good from the bad, not the best from the second best. Several narrow students
learn on one thread each in little more time than one of them takes on all threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import WorkerCrashedError

from edge.errors import BadInput
from edge.files import write_bytes
from search.execution.training_context import TrainableFactory
from search.execution.worker import Step
from search.execution.worker_pool import Resources
from search.finalists.likelihood import cross_entropy_of
from search.finalists.train import Course, Trained, together, train_fully
from search.job.events import Note, Progress, Stage
from search.job.run_folder import RunFolder
from search.ledger.ledger import Record
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.space.baselines import BASELINES
from search.space.thresholds import decided_by_accuracy, judged
from teachers.distillation.checkpoint import Checkpoint


@dataclass(frozen=True)
class LastRound:
    """What came of it.

    Attributes:
        winner: the candidate that ships.
        weights: its trained state dict.
        ranked: finalists that were trained, each with its accuracy on the validation part after
            its full training, best first.
        origins: key of a plain student → its origin (:mod:`search.space.baselines`).
    """

    winner: Record
    weights: Mapping[str, NDArray[Any]]
    ranked: tuple[tuple[Record, float], ...]
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, record: Record) -> str:
        """Where a finalist comes from: "uniform", "largest", another "pilot", or the "search"."""
        name = self.origins.get(record.key, "search")
        return name if name in (*BASELINES, "search") else "pilot"


def train_baselines(
    prepared: Prepared, chosen: Sequence[Record], folder: RunFolder, threads: int
) -> Telling[dict[str, float]]:
    """Train plain students in full before the search; gives key → accuracy of those that could be.

    Arguments as of :func:`train_finalists`, which finds them trained.
    """
    finalists = yield from _trained_in_full(prepared, chosen, folder, threads)
    return {one.record.key: one.accuracy for one in finalists if one.trained}


def accuracies_of(folder: RunFolder, keys: Iterable[str]) -> dict[str, float]:
    """Key → accuracy of those candidates that a run has trained in full."""
    found: dict[str, float] = {}
    for key in keys:
        with suppress(OSError, ValueError, KeyError):  # none, or of an earlier version
            found[key] = float(Checkpoint.meta_of(_place(folder, key))["accuracy"])
    return found


def train_finalists(
    prepared: Prepared,
    chosen: Sequence[Record],
    folder: RunFolder,
    threads: int,
    origins: Mapping[str, str] | None = None,
) -> Telling[LastRound]:
    """Train them all; after that the best by validation wins, of those that keep the limit on
    accuracy if any does: where accuracy is the target the most accurate one, with a view to their
    cross entropies (:mod:`search.finalists.likelihood`), else the one of highest reward.

    Args:
        prepared: the job.
        chosen: finalists, at least one.
        folder: where each of them is put away, and its checkpoints until then.
        threads: for all of them together.
        origins: key of a plain student → its origin.

    Raises:
        BadInput: not one of them could be trained.
    """
    finalists = yield from _trained_in_full(prepared, chosen, folder, threads)
    # less a rounding: what is exactly at the limit keeps it
    least = (prepared.space.limits.min_accuracy or 0.0) - 1e-9
    ranked = sorted(
        (one for one in finalists if one.trained),
        key=lambda one: (one.accuracy < least, -one.objective),
    )
    if not ranked:
        raise finalists[0].failure
    winner = ranked[0]
    yield Note(f"student: {winner.title}, {winner.accuracy:.2%} on the validation part")
    if winner.accuracy < least:
        yield Note(
            f"no finalist keeps --max-drop, which asks for {least:.2%} on validation: the best by "
            "reward is taken",
            warning=True,
        )
    assert winner.trained is not None
    order = tuple((finalist.record, finalist.accuracy) for finalist in ranked)
    return LastRound(winner.record, winner.trained.weights, order, origins or {})


def _trained_in_full(
    prepared: Prepared, chosen: Sequence[Record], folder: RunFolder, threads: int
) -> Telling[list[_Finalist]]:
    """All of them, trained as far as they can be."""
    finalists = [_Finalist(prepared, record, folder) for record in chosen]
    for finalist in finalists:
        finalist.judge()
    left = [finalist for finalist in finalists if finalist.trained is None]
    # not more at a time than there are threads for: one after the other learns as much
    each = max(1, threads // max(1, len(left)))
    yield _stage(finalists, left, prepared.plan.final_epochs)
    if left:
        room = ray.put(prepared.training_context(proxy=False))
        yield from _train(left, room, each)
    return finalists


def _stage(finalists: Sequence[_Finalist], left: Sequence[_Finalist], epochs: int) -> Stage:
    if not left:
        return Stage("train", "the student was trained before the run stopped")
    if len(finalists) == 1:
        return Stage("train", f"the best ({finalists[0].title}) for {epochs} epochs")
    sizes = ", ".join(finalist.title for finalist in finalists)
    return Stage("train", f"the best {len(finalists)} ({sizes}) for {epochs} epochs")


def _train(left: Sequence[_Finalist], room: ObjectRef[Any], threads: int) -> Telling[None]:
    """All that are left, as far as they can be trained; tells of every epoch."""
    for finalist in left:
        if finalist.checkpoint.exists():
            yield Note(f"{finalist.title}: goes on after the last epoch before the run stopped")
    epochs = {finalist.record.key: 0 for finalist in left}
    total = sum(finalist.epochs for finalist in left)
    by_key = {finalist.record.key: finalist for finalist in left}
    courses = {key: finalist.course(room, threads) for key, finalist in by_key.items()}
    for key, news in together(courses):
        finalist = by_key[key]
        if isinstance(news, Note):
            yield news
        elif isinstance(news, Trained):
            finalist.put_away(news)
            epochs[key] = finalist.epochs  # it may have stopped early
            if len(left) > 1:
                yield Note(f"{finalist.title}: {news.accuracy:.2%} on the validation part")
        else:
            epochs[key] = news.epoch
            yield Progress(sum(epochs.values()), total, _words(finalist, news, len(left) > 1))


def _words(finalist: _Finalist, step: Step, named: bool) -> str:
    text = f"{finalist.title}: " if named else ""
    text += f"loss {step.loss:.3f}"
    return text if step.accuracy is None else f"{text}, {step.accuracy:.2%} on validation"


class _Finalist:
    """A candidate in the last round."""

    def __init__(self, prepared: Prepared, record: Record, folder: RunFolder) -> None:
        self.prepared, self.record = prepared, record
        self.path = _place(folder, record.key)
        self.checkpoint = folder.trained / f"{record.key}.checkpoint"
        self.trained = _read(self.path)
        self.failure: BadInput

    @property
    def title(self) -> str:
        return f"{self.record.kb:,.0f} KB"

    @property
    def epochs(self) -> int:
        return self.prepared.plan.final_epochs

    @property
    def accuracy(self) -> float:
        """On the validation part, after the full training."""
        assert self.trained is not None
        return self.trained.accuracy

    @property
    def reward(self) -> float:
        """Of that accuracy."""
        return self.prepared.space.reward_of(self.record.actions, self.accuracy)

    @property
    def objective(self) -> float:
        """What the last round is decided by; more is better."""
        if decided_by_accuracy(self.prepared.spec.target, self.prepared.space.reward):
            assert self.trained is not None
            rows = len(self.prepared.parts.validation)
            # of equally good ones the smaller
            return judged(self.accuracy, self.trained.cross_entropy, rows) + 1e-9 * self.reward
        return self.reward

    def put_away(self, trained: Trained) -> None:
        """Keep the student; what was kept to go on from is no longer needed."""
        self.trained = trained
        self._keep()
        self.checkpoint.unlink(missing_ok=True)
        self.judge()

    def judge(self) -> None:
        """Keep its cross entropy, too; one that an earlier version trained lacks it."""
        if self.trained is not None and math.isnan(self.trained.cross_entropy):
            found = cross_entropy_of(self.prepared, self.record.actions, self.trained.weights)
            self.trained = replace(self.trained, cross_entropy=found)
            self._keep()

    def _keep(self) -> None:
        assert self.trained is not None
        facts = {"accuracy": self.trained.accuracy}
        if not math.isnan(self.trained.cross_entropy):
            facts["cross_entropy"] = self.trained.cross_entropy
        write_bytes(self.path, Checkpoint(self.trained.weights, facts).to_bytes())

    def course(self, room: ObjectRef[Any], threads: int) -> Course:
        """Its training, on one thread if several kill the process; a note if it fails.

        Kernels for several threads have had faults that end a process, and they depend on the
        shapes of the student: better a slow end to a search than none.
        """
        try:
            try:
                yield from self._attempt(room, threads)
            except WorkerCrashedError:
                if threads == 1:
                    raise
                text = f"training on {threads} threads crashed; it begins again on one"
                yield Note(text, warning=True)
                self.checkpoint.unlink(missing_ok=True)
                yield from self._attempt(room, 1)
        except BadInput as error:
            self.failure = error
            yield Note(f"{self.title}: {error}", warning=True)

    def _attempt(self, room: ObjectRef[Any], threads: int) -> Course:
        spec = self.prepared.spec
        opener = TrainableFactory(self.prepared.recipe(proxy=False), spec.device, threads)
        resources = Resources(threads, 1.0 if spec.gpus > 0 else 0.0)
        return train_fully(room, opener, self.record.actions, self.checkpoint, resources)


def _place(folder: RunFolder, key: str) -> Path:
    return folder.trained / f"{key}.safetensors"


def _read(path: Path) -> Trained | None:
    """A student that was put away, if it was."""
    if not path.exists():
        return None
    try:
        stored = Checkpoint.from_bytes(path.read_bytes())
        entropy = float(stored.meta.get("cross_entropy", math.nan))
        accuracy = float(stored.meta["accuracy"])
        return Trained(accuracy, dict(stored.arrays), cross_entropy=entropy)
    except (ValueError, KeyError):
        return None  # of an earlier version, without its accuracy
