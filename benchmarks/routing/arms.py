"""AppealNet's two-head students of the pairs, and what they are held against.

Four *arms* go on from a pair's student, on the rows that it has learnt from:

- ``plain``: as many epochs more of its own distillation, for the scores that need no fitting;
- ``frozen``: a predictor head alone, its answers as they were;
- ``white``: joint training by Eq. 9, which knows the teacher's losses;
- ``black``: joint training by Eq. 10, which takes the teacher to be right everywhere.

Epochs, rate, batches, augmentation and seed are the same for all that train, and the last epoch
counts. β is the best of four by the area on the pair's own validation rows; rows that draws later
take for testing are among these, which favours the heads. Every trial that is finished is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import fx

from benchmarks.quality.making import where
from benchmarks.rivals.study import Study
from benchmarks.routing import making
from benchmarks.routing.pairs import COMMAND, UNSEEN, Pair
from edge.files import write_bytes
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.surgery import load
from search.packaging.two_head import judging
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.distill import distil
from teachers.distillation.recipe import Recipe
from teachers.distillation.training import predict
from teachers.distillation.training_sets import ValidationSet
from teachers.two_head.two_head import TwoHead, answer
from teachers.two_head.two_head_recipe import TwoHeadRecipe, Way
from teachers.two_head.two_head_training import BetaTrial, TwoHeadOutcome, fit_two_head

ARMS = ("plain", "frozen", "white", "black")
#: further epochs; digits have fewer rows
EPOCHS = {"cifar10": 6, "mnist": 8}
RATE = 2e-3
SEED = 0

Answers = dict[str, NDArray[np.float32]]


def make(pairs: list[Pair], out: Path = making.OUT) -> None:
    """Train every arm that is not there yet, in one thread; answers and notes go beside the pair's.

    ``arm.safetensors`` holds ``logits`` N×K and, of a head, ``trust`` N, the logits of q, on the
    unseen rows of the pair in their order; ``arm.json`` how it was made.
    """
    torch.set_num_threads(1)
    studies: dict[str, Study] = {}
    for pair in pairs:
        folder = out / pair.name / "two_head"
        if finished(pair.name, out):
            continue
        if not folder.parent.exists():
            raise FileNotFoundError(f"no student in {folder.parent}; make the pairs: {COMMAND}")
        folder.mkdir(exist_ok=True)
        data = pair.about["data"]
        if data not in studies:
            studies[data] = making.study_of(data, EPOCHS[data], out)
        _Arms(pair, studies[data], folder).make()


def finished(pair: str, out: Path = making.OUT) -> bool:
    """Whether every arm of a pair is there."""
    return all((out / pair / "two_head" / f"{arm}.json").exists() for arm in ARMS)


def joint_recipe(data: str) -> Recipe:
    """Of joint trainings; further epochs of the plain student are as many, at the same rate."""
    return Recipe(
        epochs=EPOCHS[data], learning_rate=RATE, loss="none", augment=making.DATA[data].augment
    )


class _Arms:
    """One pair's."""

    def __init__(self, pair: Pair, study: Study, folder: Path) -> None:
        self.pair, self.study, self.folder = pair, study, folder
        self.data, self.look = study.data, study.teacher.manifest.preprocess
        self.distillation_set = study.distillation_set.part(np.flatnonzero(making.learnt_of(study)))
        rows = pair.rows[pair.of("validation")]
        self.validation_set = ValidationSet(
            self.data.images, rows, self.data.labels[rows], "accuracy"
        )
        self.teacher_right = pair.teacher_right[pair.of("validation")]

    def make(self) -> None:
        if not self._there("plain"):
            self._plain()
        if not (self._there("frozen") and self._there("white")):
            outcome = self._heads(("frozen", "joint"), black_box=False)
            self._keep_head("frozen", outcome, "frozen")
            self._keep_head("white", outcome, "joint")
        if not self._there("black"):
            self._keep_head("black", self._heads(("joint",), black_box=True), "joint")

    def _there(self, arm: str) -> bool:
        return (self.folder / f"{arm}.json").exists()

    def _student(self) -> fx.GraphModule:
        weights = load_file(self.folder.parent / "student.safetensors")
        return load(self.pair.network, {name: torch.from_numpy(w) for name, w in weights.items()})

    def _plain(self) -> None:
        start, module = time.perf_counter(), self._student()
        job = self.study.prepared(float(self.pair.about["kb"]), SEED)
        recipe = replace(
            job.recipe(proxy=False), epochs=EPOCHS[self.study.name], learning_rate=RATE,
            keep_best=False,
        )  # fmt: skip
        outcome = distil(
            module,
            None,
            self.distillation_set,
            recipe,
            seed=SEED,
            validation_set=self.validation_set,
        )
        said = predict(module, self.data.images, self.look, rows=self._unseen())
        about = {"validation": outcome.accuracy, "seconds": time.perf_counter() - start}
        self._keep("plain", {"logits": said.logits}, about)

    def _heads(self, ways: tuple[Way, ...], black_box: bool) -> TwoHeadOutcome:
        recipe = TwoHeadRecipe(ways=ways, joint=joint_recipe(self.study.name), black_box=black_box)
        mark = "black" if black_box else "white"
        right = np.ones_like(self.teacher_right) if black_box else self.teacher_right
        tap = anatomy(self.pair.network).layers[-1].node
        return fit_two_head(
            self._student().eval(), tap, self.distillation_set, self.validation_set,
            judging(self.validation_set.labels, right),
            recipe, seed=SEED, earlier=self._earlier(mark),
            on_trial=lambda trial: self._keep_trial(mark, trial),
        )  # fmt: skip

    def _earlier(self, mark: str) -> Iterator[BetaTrial]:
        for path in sorted(self.folder.glob(f"{mark}-*.trial")):
            yield BetaTrial.restore(Checkpoint.from_bytes(path.read_bytes()))

    def _keep_trial(self, mark: str, trial: BetaTrial) -> None:
        write_bytes(
            self.folder / f"{mark}-{trial.way}-{trial.beta!r}.trial", trial.save().to_bytes()
        )
        making.say(
            f"{self.pair.name} {mark} {trial.way} β {trial.beta:g}: area {trial.merit:.5f}, "
            f"student {trial.accuracy:.4f}, {trial.seconds:.0f} s"
        )

    def _keep_head(self, arm: str, outcome: TwoHeadOutcome, way: Way) -> None:
        """The best trial of one way, of those that kept the student's accuracy where one did."""
        mine = [trial for trial in outcome.trials if trial.way == way and not trial.reason]
        recipe, before = TwoHeadRecipe(), outcome.accuracy_before
        able = [t for t in mine if way == "frozen" or recipe.keeps(t.accuracy, before)]
        best = max(able or mine, key=lambda trial: trial.merit)
        network = TwoHead(self._student(), outcome.network.tap).eval()
        network.load_state_dict({name: torch.tensor(w) for name, w in best.weights.items()})
        said = answer(network, self.data.images, self.look, rows=self._unseen())
        about = {
            "beta": best.beta, "validation": best.accuracy, "merit": best.merit,
            "before": before, "kept_accuracy": bool(able),
            "trials": [[trial.beta, trial.merit, trial.accuracy] for trial in mine],
            "bytes": network.added().bytes, "seconds": best.seconds,
        }  # fmt: skip
        self._keep(arm, {"logits": said.logits, "trust": said.trust}, about)

    def _unseen(self) -> NDArray[np.int64]:
        return self.pair.rows[self.pair.of(*UNSEEN)]

    def _keep(self, arm: str, said: Answers, about: dict[str, Any]) -> None:
        about = about | {
            "epochs": EPOCHS[self.study.name], "rate": RATE, "seed": SEED, "where": where(),
            "teacher_macs": cost(self.study.network).macs,
        }  # fmt: skip
        save_file(said, self.folder / f"{arm}.safetensors")
        # last: it says that the answers are there
        write_bytes(self.folder / f"{arm}.json", json.dumps(about, indent=1).encode())
        making.say(f"{self.pair.name} {arm}: {json.dumps(about)}")


def answers(pair: str, arm: str, out: Path = making.OUT) -> Answers:
    """What :func:`make` kept of an arm."""
    found: Answers = load_file(out / pair / "two_head" / f"{arm}.safetensors")
    return found


def about(pair: str, arm: str, out: Path = making.OUT) -> dict[str, Any]:
    """How an arm was made."""
    found: dict[str, Any] = json.loads((out / pair / "two_head" / f"{arm}.json").read_text())
    return found
