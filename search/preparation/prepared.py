"""A job with its teacher and data in hand: what every later step asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from envs.compression.cost import cost
from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.reward import Reward
from search.execution.training_context import TrainingContext
from search.job.spec import JobSpec
from search.preparation.latency import Latency
from search.space.space import Space
from search.space.teacher_stats import Facts
from search.space.training_plan import TrainingPlan
from teachers.data.datasets import Dataset
from teachers.data.image_file import block_rows
from teachers.data.splits import Parts
from teachers.distillation.distill import Recipe
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats.manifest import Teacher

#: of every student's weights, per step and unit of the learning rate (AdamW)
WEIGHT_DECAY = 0.02
#: most rows of a part that are in hand at a time
BATCH_ROWS = 1024


@dataclass(frozen=True)
class Prepared:
    """A job with its teacher and data in hand.

    Attributes:
        spec: the job.
        teacher, network: the module, and its description.
        data, parts: rows and their five parts.
        moves, reward, space: of the candidates.
        tap: module whose input counts as features.
        lesson: the distillation part with the teacher's answers about the unchanged images.
        drawn: the same with its answers about the views that were drawn beforehand, from which
            finalists learn; None where there are none.
        teacher_accuracy: by the job's metric, on the validation part.
        plan: how long students train, on how much.
        normalise: whether students get batch norms for the time of their training.
        latency: of candidates, where the job asks for it.
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
    distillation_set: DistillationSet
    drawn: DistillationSet | None
    teacher_accuracy: float
    plan: TrainingPlan
    normalise: bool = False
    latency: Latency | None = None

    @property
    def own_device(self) -> str:
        """Where this process trains: it may have no GPU where the workers of a cluster have."""
        return self.spec.device if torch.cuda.is_available() else "cpu"

    def labels(self, part: str) -> NDArray[np.int64]:
        """Labels of a part."""
        found: NDArray[np.int64] = self.data.labels[getattr(self.parts, part)]
        return found

    def inputs(self, part: str) -> Iterator[NDArray[np.float32]]:
        """A part as inputs n×C×H×W, a batch at a time."""
        preprocess = self.teacher.manifest.preprocess
        rows = getattr(self.parts, part)
        step = min(BATCH_ROWS, block_rows(preprocess.pixel_shape))
        for start in range(0, len(rows), step):
            yield preprocess.to_input(self.data.images[rows[start : start + step]])

    def training_context(self, proxy: bool) -> TrainingContext:
        """What workers share; a proxy holds the first rows of a fixed shuffle."""
        distillation_set = self.distillation_set if proxy or self.drawn is None else self.drawn
        if proxy and len(distillation_set) > self.plan.proxy_rows:
            rng = np.random.default_rng([self.spec.seed, 2])
            distillation_set = distillation_set.part(
                np.sort(rng.permutation(len(distillation_set))[: self.plan.proxy_rows])
            )
        state = self.teacher.module.state_dict()
        validation = self.parts.validation
        return TrainingContext(
            teacher=self.network.to_json(),
            weights={name: tensor.numpy() for name, tensor in state.items()},
            moves=self.moves,
            tap=self.tap,
            distillation_set=distillation_set,
            validation_set=ValidationSet(
                self.data.images, validation, self.labels("validation"), self.spec.metric
            ),
            seed=self.spec.seed,
            threads=self.spec.threads,
            criterion=self.spec.criterion,
            image_file=self.data.file,
            normalise=self.normalise,
        )

    @property
    def whole_images(self) -> DistillationSet:
        """What a head learns from that has to know real images: the views, or images unpatched."""
        drawn = self.drawn
        return self.distillation_set if drawn is None or drawn.patches is not None else drawn

    def recipe(self, proxy: bool) -> Recipe:
        """How candidates (proxy) and finalists are trained."""
        return recipe_of(self.spec, self.plan, proxy)

    def facts(self) -> Facts:
        """What readers of the run will want to know of its teacher."""
        spent, expectation = cost(self.network), self.space.expectation
        assert expectation is not None
        return Facts(
            bytes=spent.bytes,
            parameters=spent.parameters,
            macs=spent.macs,
            accuracy=self.teacher_accuracy,
            rows=len(self.parts.validation),
            classes=self.network.classes,
            layers=tuple(layer.node for layer in self.space.layers),
            pool=tuple(self.moves.pool),
            images=expectation.images,
            full=expectation.full,
            gain=expectation.gain if self.spec.proxy_gain is None else None,
            spread=expectation.spread,
            guess=expectation.chance,
            proxy_epochs=self.plan.proxy_epochs,
            normalise=self.normalise,
        )


def recipe_of(spec: JobSpec, plan: TrainingPlan, proxy: bool) -> Recipe:
    """How a job trains its candidates (proxy) and its finalists."""
    return Recipe(
        epochs=plan.proxy_epochs if proxy else plan.final_epochs,
        batch_size=plan.proxy_batch_size if proxy else plan.batch_size,
        learning_rate=plan.learning_rate,
        weight_decay=WEIGHT_DECAY,
        loss=spec.loss,
        kd_weight=spec.kd_weight,
        ce_weight=spec.ce_weight,
        temperature=plan.temperature,
        precision=spec.precision,
        layout=spec.layout,
        augment="none" if proxy else plan.augment,
        keep_best=not proxy,
        ema=0.0 if proxy else spec.ema,
        patience=0 if proxy else plan.patience,
    )
