"""Small real things that several tests need: digits, and a teacher trained on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from edge.preprocess import Preprocess
from teachers.datasets import load_dataset
from teachers.source import Dataset
from teachers.training import train_classifier
from teachers.zoo import build

TRAIN = 1200


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def grey8() -> Preprocess:
    return Preprocess(channels=1, height=8, width=8, mean=(0.3,), std=(0.37,))


@pytest.fixture(scope="session")
def digits(grey8: Preprocess) -> Dataset:
    return load_dataset("digits", grey8)


@pytest.fixture(scope="session")
def digits_teacher(digits: Dataset, grey8: Preprocess) -> nn.Module:
    """A small CNN trained on the first 1,200 digits; its accuracy on the others is about .96."""
    torch.manual_seed(0)
    module = build("small_cnn", input_shape=(1, 8, 8), classes=10)
    rows = np.arange(TRAIN)
    train_classifier(
        module, digits.images[rows], digits.labels[rows], grey8, epochs=6, batch_size=64, seed=0
    )
    return module
