"""A promise is what a linear readout explains of the teacher's answers, leave one out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import search.scheduling.probe
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, build
from envs.fx_import.trace import describe
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from search.execution.training_context import TrainingContext
from search.scheduling.probe import (
    IMAGES,
    LEAST,
    LEAST_BATCH,
    LinearProbe,
    explained,
    features,
    probe_of,
)
from teachers.data.datasets import load_dataset
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from tests.search.conftest import HALVES
from tests.search.jobs import digits_teacher


def whole(room: TrainingContext) -> tuple[NetSpec, Moves, tuple[int, ...]]:
    """What makes the student that is the teacher itself."""
    network = parse_netspec(room.teacher)
    return network, room.moves, (2,) * len(anatomy(network).layers)


def half(room: TrainingContext) -> tuple[int, ...]:
    """Every layer halved, but for the classifier."""
    *_, same = whole(room)
    return (*(1 for _ in same[1:]), 2)


def centred(values: torch.Tensor) -> torch.Tensor:
    return values - values.mean(0)


def test_two_images_by_hand() -> None:
    # features 1 and −1 have a standard deviation of √2, so K = [[½, −½], [−½, ½]]; with λ = ½ its
    # inverse is [[⁴⁄₃, ⅔], [⅔, ⁴⁄₃]]. Targets 1, −1: (K + λI)⁻¹ Y = [⅔, −⅔], each over ⁴⁄₃ is ½
    pair = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    found = explained(pair, pair, 0.5)
    assert found == pytest.approx(1 - 0.5**2)


def test_the_closed_form_is_leaving_one_out() -> None:
    rng = torch.Generator().manual_seed(0)
    found = torch.randn(12, 5, generator=rng).double()
    targets = centred(found[:, :2] + 0.5 * torch.randn(12, 2, generator=rng).double())
    scaled = centred(found) / found.std(0)
    kernel = scaled @ scaled.T / 5
    errors = []
    for row in range(12):
        others = [i for i in range(12) if i != row]
        inner = kernel[others][:, others] + 3.0 * torch.eye(11).double()
        said = kernel[row, others] @ torch.linalg.solve(inner, targets[others])
        errors.append(targets[row] - said)
    share = (torch.stack(errors) ** 2).sum() / (targets**2).sum()
    assert explained(found, targets, 3.0) == pytest.approx(1 - float(share))


def test_features_that_say_nothing_promise_nothing() -> None:
    rng = torch.Generator().manual_seed(1)
    targets = centred(torch.randn(100, 3, generator=rng).double())
    noise = torch.randn(100, 8, generator=rng).double()
    assert explained(targets, targets) > 0.7 > 0.2 > explained(noise, targets)
    for useless in (torch.ones(100, 4).double(), torch.full((100, 4), torch.inf).double()):
        assert explained(useless, targets) == LEAST


def test_batch_norms_go_by_the_images_at_hand() -> None:
    norm = nn.BatchNorm2d(3)
    nn.init.constant_(norm.get_buffer("running_mean"), 100.0)  # remembered of other maps
    module = nn.Sequential(
        nn.Conv2d(1, 3, 1), norm, nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 2)
    )
    spec, weights = (found := describe(module, (1, 2, 2))).spec, found.weights
    student = build(spec)
    student.load_state_dict(weights)
    tap = anatomy(spec).layers[-1].node
    images = torch.randn(64, 1, 2, 2)
    heard = features(student, tap, images)
    assert heard.shape == (64, 12)
    # normalised, and nothing dropped out
    assert heard.reshape(64, 3, 4).mean((0, 2)).abs().max() < 1e-5
    assert torch.equal(heard, features(student, tap, images))


def test_large_maps_go_through_in_batches(digits: TrainingContext) -> None:
    module = digits.inheritance().student(compress(*whole(digits)), seed=0)
    images = torch.randn(50, *parse_netspec(digits.teacher).input_shape)
    at_once, parts = (features(module, digits.tap, images, batch) for batch in (50, 16))
    assert at_once.shape == parts.shape
    # 13, 13, 12 and 12: each batch normalises by itself, so that they differ a little and no more
    assert 0 < (at_once - parts).abs().mean() < 0.5 * at_once.std()
    first = features(module, digits.tap, images[:13])
    torch.testing.assert_close(parts[:13], first)


@pytest.fixture(scope="module")
def digits() -> TrainingContext:
    """The room of a small teacher that has learnt its digits; rows are sorted by class."""
    described = understand(load_teacher(str(digits_teacher())))
    look = described.teacher.manifest.preprocess
    data = load_dataset("digits", look)
    rows = np.argsort(data.labels[:800], kind="stable")
    logits = predict(described.teacher.module, data.images, look, rows=rows).logits
    return TrainingContext(
        teacher=described.network.to_json(),
        weights={k: v.numpy() for k, v in described.teacher.module.state_dict().items()},
        moves=HALVES,
        tap=anatomy(described.network).layers[-1].node,
        distillation_set=DistillationSet(
            data.images, rows, data.labels[rows], logits[None], None, look
        ),
        validation_set=ValidationSet(data.images, rows, data.labels[rows]),
        seed=0,
        threads=1,
    )


def test_a_teacher_promises_more_than_what_is_left_of_it(digits: TrainingContext) -> None:
    *_, same = whole(digits)
    both = np.array([same, half(digits)])
    found = probe_of(digits)(both)
    assert found[0] > found[1] + 0.05 > 0.5
    np.testing.assert_array_equal(found, probe_of(digits)(both))


def test_images_of_all_classes_are_looked_at(digits: TrainingContext) -> None:
    # the first 128 of these rows show the digits 0 and 1 alone: two classes are easily told
    first = digits.distillation_set.part(np.arange(IMAGES))
    asked = np.array([half(digits)])
    (all_of_them,), (two,) = (
        probe_of(digits)(asked),
        probe_of(replace(digits, distillation_set=first))(asked),
    )
    assert two > all_of_them + 0.05


def test_a_student_that_cannot_run_promises_least(toy: NetSpec) -> None:
    torch.manual_seed(0)
    inheritance = Inheritance.of(toy, build(toy).state_dict())
    channels, height, width = toy.input_shape
    wrong = np.zeros((8, channels + 1, height, width), np.float32)
    logits = np.eye(8, toy.classes, dtype=np.float32)
    probe = LinearProbe(inheritance, HALVES, wrong, logits, seed=0)
    assert probe(np.array([[2, 2, 2, 2, 2]])).tolist() == [LEAST]


def test_what_takes_too_much_memory_is_not_run(
    toy: NetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    inheritance = Inheritance.of(toy, build(toy).state_dict())
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, *toy.input_shape)).astype(np.float32)
    logits = rng.normal(size=(20, toy.classes)).astype(np.float32)
    teacher = np.array([[2, 2, 2, 2, 2]])
    probe = LinearProbe(inheritance, HALVES, images, logits, seed=0)
    peak, ran = cost(toy).peak, list[int]()

    def run(module: object, tap: str, inputs: torch.Tensor, batch: int) -> torch.Tensor:
        ran.append(batch)
        return torch.eye(len(inputs)).double()

    monkeypatch.setattr(search.scheduling.probe, "features", run)
    monkeypatch.setattr(search.scheduling.probe, "MEMORY", LEAST_BATCH * peak)
    probe(teacher)
    monkeypatch.setattr(search.scheduling.probe, "MEMORY", LEAST_BATCH * peak - 1)
    assert probe(teacher).tolist() == [LEAST]
    assert ran == [LEAST_BATCH]


def test_where_there_is_nothing_to_tell_apart_nothing_is_promised() -> None:
    found = torch.randn(8, 3).double()
    assert explained(found, torch.zeros(8, 2).double()) == LEAST
    assert explained(found[:1], torch.ones(1, 2).double()) == LEAST
