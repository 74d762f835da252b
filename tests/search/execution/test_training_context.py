"""What candidates share travels once, and is not copied where it arrives."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.preprocess import Preprocess
from envs.compression.layers import anatomy
from envs.compression.surgery import build
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from search.execution.training_context import TrainableFactory, TrainingContext
from teachers.data.image_file import ImageFile
from teachers.distillation.distill import Recipe
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from tests.search.conftest import HALVES

ROWS = 40


@pytest.fixture
def room(toy: NetSpec) -> TrainingContext:
    rng = np.random.default_rng(0)
    channels, height, width = toy.input_shape
    pre = Preprocess(channels, height, width, mean=(0.5,) * channels, std=(0.25,) * channels)
    images = rng.integers(0, 256, (ROWS, height, width, channels), dtype=np.uint8)
    learnt, examined = np.arange(30), np.arange(30, ROWS)
    classes = toy.output.attrs["out"]
    labels = rng.integers(0, classes, ROWS)
    torch.manual_seed(0)
    weights = {name: value.numpy() for name, value in build(toy).state_dict().items()}
    logits = rng.standard_normal((1, 30, classes), dtype=np.float32)
    return TrainingContext(
        teacher=toy.to_json(),
        weights=weights,
        moves=HALVES,
        tap=anatomy(toy).layers[-1].node,
        distillation_set=DistillationSet(images, learnt, labels[learnt], logits, None, pre),
        validation_set=ValidationSet(images, examined, labels[examined]),
        seed=0,
        threads=1,
    )


def sent(room: TrainingContext) -> tuple[TrainingContext, list[pickle.PickleBuffer], bytes]:
    """As Ray's object store does it: arrays beside the message, and read-only on arrival."""
    beside: list[pickle.PickleBuffer] = []
    message = pickle.dumps(room, protocol=5, buffer_callback=beside.append)
    frozen: list[Any] = [memoryview(bytes(buffer.raw())) for buffer in beside]
    return pickle.loads(message, buffers=frozen), beside, message  # noqa: S301 - our own bytes


def test_images_travel_once_and_arrive_as_one_array(room: TrainingContext) -> None:
    arrived, beside, _ = sent(room)
    assert arrived.distillation_set.images is arrived.validation_set.images
    sizes = [buffer.raw().nbytes for buffer in beside]
    assert sizes.count(room.distillation_set.images.nbytes) == 1
    # the weights' scalars and the smallest arrays travel inside the message
    assert sum(sizes) <= room.nbytes


def test_weights_are_not_copied_on_arrival(room: TrainingContext) -> None:
    arrived, _, _ = sent(room)
    inheritance = arrived.inheritance()  # warnings are errors: a read-only array is no surprise
    for name, array in arrived.weights.items():
        assert inheritance.weights[name].data_ptr() == array.ctypes.data, name


def test_images_in_a_file_go_as_its_name(room: TrainingContext, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, room.distillation_set.images)
    file = ImageFile(str(path), room.distillation_set.images.shape, "digest")
    mapped = replace(room, image_file=file)
    arrived, beside, message = sent(mapped)
    assert sum(buffer.raw().nbytes for buffer in beside) <= mapped.nbytes
    assert mapped.nbytes == room.nbytes - room.distillation_set.images.nbytes
    assert room.distillation_set.images.tobytes() not in message
    assert not arrived.distillation_set.images.flags.owndata  # a map
    assert arrived.distillation_set.images is arrived.validation_set.images
    np.testing.assert_array_equal(arrived.distillation_set.images, room.distillation_set.images)


def test_a_candidate_that_was_paused_ends_as_if_it_had_not_been(room: TrainingContext) -> None:
    recipe = Recipe(3, batch_size=8, precision="fp32", layout="contiguous")
    actions = (2,) * len(anatomy(parse_netspec(room.teacher)).layers)
    trainer = TrainableFactory(recipe)(sent(room)[0])
    whole = trainer.begin(actions, None)
    steps = [whole.epoch(examine=False) for _ in range(3)]
    assert [step.epoch for step in steps] == [1, 2, 3]
    assert (steps[1].accuracy, steps[1].done) == (None, False)
    assert steps[2].done
    assert steps[2].accuracy is not None

    first = trainer.begin(actions, None)
    first.epoch(examine=True)
    state = first.save()
    first.close()
    other = TrainableFactory(recipe)(sent(room)[0]).begin(actions, state)
    assert other.epoch(examine=False).epoch == 2
    last = other.epoch(examine=False)
    assert (last.accuracy, last.loss) == (steps[2].accuracy, steps[2].loss)
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(array, other.weights()[name])
