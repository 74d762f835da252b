"""Small real things that several tests need: digits, and a teacher trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from edge.preprocess import Preprocess
from teachers.data.datasets import Dataset, load_dataset
from teachers.distillation.training import train_classifier
from teachers.formats.zoo import build

TRAIN = 1200


@contextmanager
def one_thread() -> Iterator[None]:
    """Two threads on busy cores wait for each other: training digits then takes a minute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


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
    # Fixtures of a session are made before those of a test, so the limit is set here again.
    with one_thread():
        train_classifier(
            module, digits.images[rows], digits.labels[rows], grey8, epochs=6, batch_size=64, seed=0
        )
    return module
