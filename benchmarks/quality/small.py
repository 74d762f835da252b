"""Task 1's problem: a small plain network on MNIST, and how one of its students is distilled.

Five layers may be compressed (four convolutions and a linear layer), the classifier stays. Images
are MNIST's, 2×2 pixels averaged into one. Kernels and widths are scaled ("ko") with the paper's six
coefficients, so a strong coefficient also takes a kernel's reach: layers depend on each other.

The number format and the layout are fixed, so the same candidate and seed give the same accuracy
whenever it is repeated on a machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.quality.task import Standard
from edge.preprocess import Preprocess
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, load
from envs.fx_import.trace import describe
from envs.graph.netspec import NetSpec
from search.scheduling.probe import IMAGES, LinearProbe
from search.space.space import Actions
from teachers.data.datasets import load_dataset
from teachers.distillation.distill import Diverged, Recipe, distil
from teachers.distillation.metrics import accuracy
from teachers.distillation.training import predict, train_classifier
from teachers.distillation.training_sets import DistillationSet, ValidationSet

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))
OUT = Path("runs/search_quality")

WIDTHS = (16, 24, 32, 24, 64)
MOVES = Moves((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "ko")
LOOK = Preprocess(1, 14, 14, mean=(0.1307,), std=(0.28,))
FULL = Preprocess(1, 28, 28, mean=(0.1307,), std=(0.3081,))
RECIPE = Recipe(
    epochs=2, batch_size=64, learning_rate=1.5e-2, precision="fp32", layout="contiguous"
)

# rows of the training table; the teacher sees the first 20,000
TEACHER_ROWS = np.arange(20_000)
LEARNT = np.arange(2_000)
#: what a search is told the accuracy of (V1), and what its choice is judged by (V2)
SEARCHED = np.arange(50_000, 53_000)
JUDGED = np.arange(53_000, 58_000)
TEACHER_EPOCHS = 6
#: 10 KB. Neither C0 nor A0 is idle here: docs/search_quality.md has what moving them changes.
C0 = 0.94
#: seed of the trainings that a search sees, and those of the trainings that judge its choice
SEARCH_SEED, JUDGE_SEEDS = 0, (1, 2)


class SmallNetwork(nn.Module):
    """conv-bn-relu four times, the second and the fourth halve the map; two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four, five = WIDTHS
        self.conv1 = nn.Conv2d(1, one, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(one)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(one, two, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(two)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(two, three, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(three)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(three, four, 3, stride=2, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(four)
        self.relu4 = nn.ReLU()
        self.hidden = nn.Linear(four * 4 * 4, five)
        self.relu5 = nn.ReLU()
        self.fc = nn.Linear(five, 10)

    def forward(self, x: Tensor) -> Tensor:
        """N×1×14×14 images → N×10 logits."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.relu4(self.bn4(self.conv4(x)))
        logits: Tensor = self.fc(self.relu5(self.hidden(torch.flatten(x, 1))))
        return logits


@dataclass(frozen=True, eq=False)
class Lab:
    """Everything that a distillation needs.

    Attributes:
        network: the teacher's description.
        weights: its state dict.
        images, labels: MNIST's training table, uint8 60,000×14×14×1 and int64 60,000.
        logits: float32, the teacher's, about :data:`LEARNT`.
        accuracies: the teacher's, on :data:`SEARCHED` and on :data:`JUDGED`.
    """

    network: NetSpec
    weights: dict[str, Tensor]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    accuracies: tuple[float, float]

    @classmethod
    def open(cls, folder: Path = OUT) -> Lab:
        """With the teacher of ``folder``, trained there the first time it is asked for."""
        torch.set_num_threads(1)
        folder.mkdir(parents=True, exist_ok=True)
        images, labels = data(folder)
        torch.manual_seed(0)
        module = SmallNetwork()
        file = folder / "teacher.safetensors"
        if not file.exists():
            train_classifier(
                module, images[TEACHER_ROWS], labels[TEACHER_ROWS], LOOK,
                epochs=TEACHER_EPOCHS, seed=0, precision="fp32",
            )  # fmt: skip
            draft = file.with_suffix(".part")
            save_file(describe(module, LOOK.input_shape).weights, draft)
            draft.replace(file)
        network, weights = describe(module, LOOK.input_shape).spec, load_file(file)
        teacher = load(network, weights).eval()
        searched, judged = (
            accuracy(predict(teacher, images, LOOK, rows=rows).logits, labels[rows])
            for rows in (SEARCHED, JUDGED)
        )
        logits = predict(teacher, images, LOOK, rows=LEARNT).logits
        return cls(network, weights, images, labels, logits, (searched, judged))

    @property
    def searched(self) -> Standard:
        """What accuracies on :data:`SEARCHED` are held against."""
        return Standard.of(self.accuracies[0], C0, len(LEARNT), RECIPE.epochs, len(SEARCHED))

    @cached_property
    def _inheritance(self) -> Inheritance:
        return Inheritance.of(self.network, self.weights)

    @cached_property
    def _lesson(self) -> DistillationSet:
        labels = self.labels[LEARNT]
        return DistillationSet(self.images, LEARNT, labels, self.logits[None], None, LOOK)

    @cached_property
    def promise(self) -> LinearProbe:
        """What students promise untrained, by the first rows that are learnt from."""
        first = self._lesson.part(np.arange(IMAGES))
        return LinearProbe.of(self._inheritance, MOVES, first, SEARCH_SEED)

    def distil(self, actions: Actions, seed: int) -> float:
        """Accuracy of a candidate: on V1 for the seed that searches see, else on V2; nan failed."""
        rows = SEARCHED if seed == SEARCH_SEED else JUDGED
        student = self._inheritance.student(compress(self.network, MOVES, actions), seed)
        validation_set = ValidationSet(self.images, rows, self.labels[rows])
        try:
            return distil(
                student, None, self._lesson, RECIPE, seed=seed, validation_set=validation_set
            ).accuracy
        except Diverged:
            return float("nan")


def data(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """MNIST's training table, 2×2 pixels averaged; kept as an array once it is decoded."""
    file = folder / "mnist14.npz"
    if not file.exists():
        data = load_dataset(str(DATA / "data" / "mnist"), FULL)
        rows = data.train_rows
        blocks = data.images[:rows].reshape(rows, 14, 2, 14, 2).mean((2, 4))
        draft = folder / "mnist14.part.npz"
        np.savez(
            draft, images=blocks.round().astype(np.uint8)[..., None], labels=data.labels[:rows]
        )
        draft.replace(file)
    with np.load(file) as found:
        return found["images"], found["labels"]
