"""Teachers made by Python functions, for tests that name them as ``tests.search.factories:…``."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.preprocess import Preprocess
from teachers.formats.formats import load_teacher
from teachers.formats.manifest import TeacherManifest
from tests.search import jobs

Made = tuple[nn.Module, TeacherManifest]
RGB4 = Preprocess(3, 4, 4, mean=(0.5,) * 3, std=(0.25,) * 3)


class Residual(nn.Module):
    """A convolution, one residual block and a classifier; optionally what must not be there."""

    def __init__(self, ending: nn.Module | None = None, cumulated: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 2)
        self.ending = nn.Identity() if ending is None else ending
        self.cumulated = cumulated

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W → N×2."""
        x = self.relu1(self.bn1(self.conv1(x)))
        if self.cumulated:
            x = torch.cumsum(x, 1)
        x = x + self.bn2(self.conv2(x))
        logits: Tensor = self.ending(self.fc(torch.flatten(self.pool(x), 1)))
        return logits


def _made(module: nn.Module) -> Made:
    return module, TeacherManifest("residual", RGB4, ("cat", "dog"))


def residual() -> Made:
    """The network alone."""
    return _made(Residual())


def probabilities() -> Made:
    """The network with a softmax at its end."""
    return _made(Residual(nn.Softmax(1)))


def unsupported() -> Made:
    """The network with an operator that nobody can narrow."""
    return _made(Residual(cumulated=True))


def digits() -> Made:
    """The teacher of scikit-learn's digits that other tests have as a file."""
    teacher = load_teacher(jobs.digits_teacher())
    return teacher.module, teacher.manifest


def digit_probabilities() -> Made:
    """The same with a softmax at its end."""
    module, manifest = digits()
    return nn.Sequential(OrderedDict(network=module, probabilities=nn.Softmax(1))), manifest
