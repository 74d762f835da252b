"""Training a two-head student (AppealNet, Algorithm 1), and the search for β.

A *frozen* trial fits the head alone: the features of all rows are computed once, so that it takes
seconds, and the student's logits stay what they were to the bit. A *joint* trial is the paper's
Algorithm 1: it goes on from the frozen one and trains both heads and what they share. It may cost
the student accuracy, so one that loses more than ``most_drop`` does not count, and where no joint
trial counts the frozen ones decide.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from teachers.distillation import metrics
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.distill import Diverged
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.two_head.head_fitting import Study, fit_head, study
from teachers.two_head.joint_training import JointTraining
from teachers.two_head.two_head import Answers, TwoHead, answer
from teachers.two_head.two_head_recipe import LEAST_EXCESS, SHARES, TwoHeadRecipe, Way

Floats = NDArray[np.float32]
#: scores q(1|x) N and the student's logits N×K on the exam's rows → how good the pair is; more is
#: better. Layers above pass the area under their deferral curve.
Judge = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class BetaTrial:
    """One β, tried in one way.

    Attributes:
        way, beta: what was tried.
        merit: what the judge said of it on the exam's rows.
        accuracy: of the student's own answers, by the exam's metric.
        seconds: that it took.
        weights: the state dict.
        reason: why it has none of these ("" where it has): the training diverged.
    """

    way: Way
    beta: float
    merit: float
    accuracy: float
    seconds: float
    weights: Mapping[str, NDArray[Any]]
    reason: str = ""

    def save(self) -> Checkpoint:
        """Everything, so that a search can go on in another process."""
        meta = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Checkpoint(self.weights, {**meta, "weights": None})

    @classmethod
    def restore(cls, checkpoint: Checkpoint) -> BetaTrial:
        """The inverse of :meth:`save`."""
        return cls(**{**checkpoint.meta, "weights": dict(checkpoint.arrays)})


@dataclass(frozen=True)
class TwoHeadOutcome:
    """What came of it.

    Attributes:
        network: with the weights of the best trial that counts, in eval mode, on the processor.
        chosen: that trial.
        accuracy_before: of the plain student, by the exam's metric.
        fell_back: no joint trial kept the student's accuracy, so the trunk was frozen after all.
        trials: all of them, in the order in which they were made.
        note: the choice in a sentence or two.
    """

    network: TwoHead
    chosen: BetaTrial
    accuracy_before: float
    fell_back: bool
    trials: tuple[BetaTrial, ...]
    note: str


def fit_two_head(
    student: fx.GraphModule,
    tap: str,
    distillation_set: DistillationSet,
    validation_set: ValidationSet,
    judge: Judge,
    recipe: TwoHeadRecipe,
    *,
    seed: int,
    head_lesson: DistillationSet | None = None,
    device: str = "cpu",
    earlier: Iterable[BetaTrial] = (),
    on_trial: Callable[[BetaTrial], None] | None = None,
) -> TwoHeadOutcome:
    """Give a distilled student a predictor head: try every β, keep the best for the pair.

    Interrupted, it has told ``on_trial`` of every trial that was finished; given those as
    ``earlier``, it makes the others and ends as if nothing had happened.

    Args:
        student: as :mod:`envs.compression.surgery` builds it, trained, on the processor; it stays
            as it is.
        tap: name of its classifier.
        lesson: what the student has learnt from, and what joint trials train on.
        exam: validation rows, which choose β and guard the student's accuracy.
        judge: of the scores on the exam's rows.
        recipe: how to train.
        seed: of everything that is drawn.
        head_lesson: rows for the head alone, in place of the lesson's. On rows that it has learnt
            from, a student makes few errors for a head to learn from. A joint trial then fits its
            head anew on these rows in the end, the rest frozen: the student never learns from them.
        device: where joint trials train and networks answer, as torch names it.
        earlier: trials of the same arguments, made before.
        on_trial: told of every trial that is made.

    Raises:
        BadInput: the student's last layer is none that a head can share features with.
    """
    fitting = _Fitting(
        TwoHead(student, tap), distillation_set, validation_set, recipe, seed, device, head_lesson
    )
    made = {(trial.way, trial.beta): trial for trial in earlier}
    trials: list[BetaTrial] = []

    def attempt(way: Way) -> None:
        for beta in fitting.betas:
            trial = made.get((way, beta))
            if trial is None:
                trial = fitting.trial(way, beta, judge)
                if on_trial is not None:
                    on_trial(trial)
            trials.append(trial)

    for way in recipe.ways:
        attempt(way)
    fell_back = not any(map(fitting.counts, trials))
    if fell_back:
        attempt("frozen")
    chosen = max(filter(fitting.counts, trials), key=_merit)
    network = fitting.plain
    network.load_state_dict({name: torch.tensor(w) for name, w in chosen.weights.items()})
    return TwoHeadOutcome(
        network.cpu(), chosen, fitting.accuracy, fell_back, tuple(trials),
        _note(chosen, fitting.accuracy, fell_back),
    )  # fmt: skip


class _Fitting:
    """The plain student, and what all trials share."""

    def __init__(
        self,
        plain: TwoHead,
        distillation_set: DistillationSet,
        validation_set: ValidationSet,
        recipe: TwoHeadRecipe,
        seed: int,
        device: str,
        head_lesson: DistillationSet | None,
    ) -> None:
        self.plain = plain.to(device).eval()
        self.distillation_set, self.head_lesson, self.validation_set = (
            distillation_set,
            head_lesson,
            validation_set,
        )
        self.recipe, self.seed, self.device = recipe, seed, device
        self._examined = self._examine(self.plain)
        self.accuracy = self._accuracy(self._examined)
        self._studied = self._study(self.plain, head_lesson or distillation_set)
        # what joint trials start from, so that nothing of them but the head has seen its own rows
        self._learnt = self._studied
        if head_lesson is not None and "joint" in recipe.ways:
            self._learnt = self._study(self.plain, distillation_set)
        excess = max(self._studied.excess, LEAST_EXCESS)
        # few digits, so that they read well; the same ones whenever a search goes on
        self.betas = recipe.betas or tuple(float(f"{share * excess:.2g}") for share in SHARES)

    def counts(self, trial: BetaTrial) -> bool:
        """Whether a trial may be chosen: it kept the student's accuracy."""
        return trial.way == "frozen" or self.recipe.keeps(trial.accuracy, self.accuracy)

    def trial(self, way: Way, beta: float, judge: Judge) -> BetaTrial:
        """Train with β, the plain student being the start, and measure."""
        started = time.perf_counter()
        network = copy.deepcopy(self.plain)
        try:
            if way == "joint":
                self._jointly(network, beta)
                said = self._examine(network)
            else:
                fit_head(network.head, self._studied, beta)
                said = self._with_head(network.head)
            accuracy, merit = self._accuracy(said), judge(said.score, said.logits)
        except Diverged as error:
            return BetaTrial(way, beta, math.nan, math.nan, _since(started), {}, str(error))
        weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
        return BetaTrial(way, beta, merit, accuracy, _since(started), weights)

    def _jointly(self, network: TwoHead, beta: float) -> None:
        recipe = self.recipe
        fit_head(network.head, self._learnt, beta)
        with JointTraining(
            network,
            self.distillation_set,
            recipe.joint,
            beta=beta,
            black_box=recipe.black_box,
            seed=self.seed,
            device=self.device,
        ) as training:
            while not training.done:
                training.run_epoch(examine=False)
            training.finish()
        if self.head_lesson is not None:
            fit_head(network.head, self._study(network, self.head_lesson), beta)

    def _study(self, network: TwoHead, distillation_set: DistillationSet) -> Study:
        recipe = self.recipe
        on = study(network, distillation_set, recipe.joint.augment, recipe.black_box, self.device)
        if not np.isfinite(on.features).all():
            raise Diverged("a feature", recipe.joint.epochs)
        return on

    def _examine(self, network: TwoHead) -> Answers:
        validation_set = self.validation_set
        said = answer(
            network,
            validation_set.images,
            self.distillation_set.preprocess,
            rows=validation_set.rows,
            device=self.device,
        )
        if not (np.isfinite(said.logits).all() and np.isfinite(said.trust).all()):
            raise Diverged("a validation logit", self.recipe.joint.epochs)
        return said

    def _with_head(self, head: nn.Linear) -> Answers:
        """What the plain student says of the exam's rows, scored by another head."""
        with torch.inference_mode():
            trust = head.cpu()(torch.from_numpy(self._examined.features))[:, 0]
        return replace(self._examined, trust=trust.numpy())

    def _accuracy(self, said: Answers) -> float:
        return metrics.metric(self.validation_set.metric)(said.logits, self.validation_set.labels)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _merit(trial: BetaTrial) -> float:
    return -math.inf if math.isnan(trial.merit) else trial.merit


def _note(chosen: BetaTrial, before: float, fell_back: bool) -> str:
    way = "frozen" if chosen.way == "frozen" else "trained along"
    told = (
        f"the predictor head was trained with β = {chosen.beta:g} and the trunk {way}: "
        f"the student's own accuracy went from {before:.2%} to {chosen.accuracy:.2%}"
    )
    if fell_back:
        told += "; every joint training lost more of it than it may"
    return told
