"""What the candidates of a job share, and how one of them is trained: distillation for workers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from envs.compression.training_norms import normalised, without_norms
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from search.execution.worker import Step
from teachers.data.image_file import ImageFile
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.distill import Distillation, Recipe
from teachers.distillation.training import normalise
from teachers.distillation.training_sets import DistillationSet, ValidationSet

#: images by whose statistics norms begin
SETTLING = 256
#: and the numbers that they hold: maps of large images fill memory
SETTLING_NUMBERS = 4_000_000


@dataclass(frozen=True)
class TrainingContext:
    """All that the candidates of a job share.

    It goes to shared memory once, and its arrays are read-only there. The images of ``lesson``
    and ``exam`` are one and the same array.

    Attributes:
        teacher: JSON of its netspec.
        weights: its state dict as numpy arrays.
        moves: pool and scaled fields.
        tap: module whose input counts as the features of a student.
        lesson: rows to learn from, with the teacher's answers.
        exam: what accuracy is measured on.
        seed: of every candidate's training.
        threads: of torch in one worker.
        criterion: which channels of the teacher a student keeps.
        normalise: whether students get batch norms for the time of their training
            (:mod:`envs.compression.training_norms`).
        image_file: where the images are, if they are no array in memory but a map of a file; every
            process then maps it for itself.
    """

    teacher: str
    weights: Mapping[str, NDArray[Any]]
    moves: Moves
    tap: str
    distillation_set: DistillationSet
    validation_set: ValidationSet
    seed: int
    threads: int
    criterion: str = "l1"
    image_file: ImageFile | None = None
    normalise: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """For another process: images in a file go as its name."""
        state = dict(self.__dict__)
        if self.image_file is not None:
            nothing = np.zeros((0, *self.distillation_set.images.shape[1:]), np.uint8)
            state["distillation_set"] = replace(self.distillation_set, images=nothing)
            state["validation_set"] = replace(self.validation_set, images=nothing)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.image_file is not None:
            images = self.image_file.open()
            self.__dict__["distillation_set"] = replace(self.distillation_set, images=images)
            self.__dict__["validation_set"] = replace(self.validation_set, images=images)

    @property
    def nbytes(self) -> int:
        """What it takes in shared memory."""
        distillation_set, validation_set = self.distillation_set, self.validation_set
        arrays: list[NDArray[Any] | None] = [
            distillation_set.rows,
            distillation_set.labels,
            distillation_set.logits,
        ]
        arrays += [
            distillation_set.features,
            distillation_set.draws,
            distillation_set.patches,
            validation_set.rows,
            validation_set.labels,
            *self.weights.values(),
        ]
        if self.image_file is None:
            arrays.append(distillation_set.images)
        return sum(array.nbytes for array in arrays if array is not None)

    def inheritance(self) -> Inheritance:
        """The teacher's side of every surgery."""
        with warnings.catch_warnings():
            # they are read-only, and nobody writes to them: a copy would be one per worker
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            weights = {name: torch.from_numpy(value) for name, value in self.weights.items()}
        return Inheritance.of(parse_netspec(self.teacher), weights, self.criterion)


@dataclass(frozen=True)
class TrainableFactory:
    """Opens a classroom; a :data:`search.execution.worker.Opener` that travels to the workers.

    Attributes:
        recipe: of every candidate.
        device: "cpu" or "cuda".
        threads: of torch; None for those of the classroom.
    """

    recipe: Recipe
    device: str = "cpu"
    threads: int | None = None

    def __call__(self, room: TrainingContext) -> Distiller:
        torch.set_num_threads(self.threads or room.threads)
        return Distiller(room, self.recipe, self.device)


class Distiller:
    """Trains candidates of one classroom; a :class:`search.execution.worker.Trainer`."""

    def __init__(self, room: TrainingContext, recipe: Recipe, device: str = "cpu") -> None:
        self.room, self.recipe, self.device = room, recipe, device
        self.inheritance = room.inheritance()

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> Trainable:
        """A student with the teacher's weights, or as far as it had come."""
        room = self.room
        spec = compress(self.inheritance.spec, room.moves, actions)
        module: nn.Module = self.inheritance.student(spec, room.seed)
        if room.normalise:
            module = normalised(module, spec.spec, self._batch())
        module = module.to(self.device)
        distillation = Distillation(
            module,
            room.tap,
            room.distillation_set,
            self.recipe,
            seed=room.seed,
            validation_set=room.validation_set,
            device=self.device,
        )
        if state is not None:
            distillation.restore(Checkpoint.from_bytes(state))
        return Trainable(module, distillation, spec.spec if room.normalise else None)

    def _batch(self) -> Tensor:
        """Inputs by whose statistics norms begin."""
        distillation_set = self.room.distillation_set
        count = SETTLING_NUMBERS // math.prod(distillation_set.preprocess.input_shape)
        count = min(SETTLING, max(SETTLING // 16, count))
        chosen = np.random.default_rng([self.room.seed, 4]).permutation(len(distillation_set))[
            :count
        ]
        return normalise(
            distillation_set.images[distillation_set.rows[chosen]],
            distillation_set.preprocess,
            "cpu",
        )


class Trainable:
    """One candidate under way; a :class:`search.execution.worker.Training`.

    Attributes:
        module: in training.
        distillation: of it.
        plain: description of the student without the norms that ``module`` has for the time of its
            training; None where it has none.
    """

    def __init__(
        self, module: nn.Module, distillation: Distillation, plain: NetSpec | None = None
    ) -> None:
        self.module, self.distillation, self.plain = module, distillation, plain

    def epoch(self, examine: bool) -> Step:
        """Train an epoch more."""
        training = self.distillation
        report = training.run_epoch(examine)
        return Step(
            epoch=report.epoch,
            epochs=report.epochs,
            loss=report.loss,
            accuracy=training.finish().accuracy if training.done else report.accuracy,
            samples_per_second=report.samples_per_second,
            done=training.done,
            mode=training.mode.name,
        )

    def save(self) -> bytes:
        """The distillation's checkpoint."""
        return self.distillation.save().to_bytes()

    def weights(self) -> dict[str, NDArray[Any]]:
        """Of the student, by the names of its description."""
        state = self.module.state_dict()
        if self.plain is not None:
            state = without_norms(self.plain, state)
        return {name: np.array(value.detach().cpu().numpy()) for name, value in state.items()}

    def close(self) -> None:
        """Take the hooks off, and give a shared GPU its memory back."""
        self.distillation.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
