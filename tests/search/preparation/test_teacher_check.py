"""A teacher that is wrong about the data is found out before anything learns from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from search.job.events import Event, Note
from search.pipeline import run
from search.preparation.teacher_check import Standing, check_teacher_sense, standing
from teachers.data.datasets import Dataset, load_dataset
from teachers.distillation.training import predict
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher, save_teacher
from teachers.formats.manifest import Teacher, TeacherManifest, parse_manifest
from tests.search import jobs

#: unseen rows of the digits that are asked about
ROWS = np.arange(897, 1397)


@dataclass(frozen=True)
class Told:
    """What a check said: names of warnings and their texts."""

    names: list[str]
    text: str


def check(
    teacher: Teacher,
    data: Dataset,
    rows: NDArray[np.int64] = ROWS,
    *,
    labels: NDArray[np.int64] | None = None,
    images: NDArray[np.uint8] | None = None,
    outputs: list[int] | None = None,
    bend: Any = lambda logits: logits,
    named: bool = True,
) -> Told:
    """The check of a teacher whose ``outputs`` stand in that order, its logits bent."""
    pixels = data.images if images is None else images

    def ask(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
        logits = predict(teacher.module, pixels, preprocess).logits
        return np.asarray(bend(logits if outputs is None else logits[:, outputs]))

    answers = ask(pixels[rows], teacher.manifest.preprocess)
    notes = list(
        check_teacher_sense(
            teacher.manifest,
            data.class_names,
            pixels,
            data.labels if labels is None else labels,
            rows,
            answers,
            ask,
            named=named,
        )
    )
    assert all(note.warning for note in notes)
    return Told([note.name for note in notes], " ".join(note.text for note in notes))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", jobs.GREY8)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher(jobs.digits_teacher())


def changed(teacher: Teacher, **changes: Any) -> Teacher:
    """The same under another JSON."""
    return replace(teacher, manifest=replace(teacher.manifest, **changes))


def prepared_as(teacher: Teacher, mean: float, std: float) -> Teacher:
    said = replace(teacher.manifest.preprocess, mean=(mean,), std=(std,))
    return changed(teacher, preprocess=said)


def test_no_word_of_a_sound_teacher(teacher: Teacher, digits: Dataset) -> None:
    assert check(teacher, digits).names == []
    assert check(changed(teacher, accuracy={"test": 0.96, "train": 1.0}), digits).names == []
    assert check(teacher, digits, ROWS[:20]).names == []


@pytest.mark.parametrize(("mean", "std"), [(0.3, 3.0), (2.0, 0.37), (100.0, 0.01)])
def test_another_mean_and_std_at_chance_are_refused(
    teacher: Teacher, digits: Dataset, mean: float, std: float
) -> None:
    with pytest.raises(BadInput, match="nothing to do with the labels") as caught:
        check(prepared_as(teacher, mean, std), digits)
    assert 'Write "mean": [0.2998], "std": [0.3723] in the teacher' in caught.value.remedy


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.01), (0.9, 0.37), (0.0012, 0.0015)])
def test_another_mean_and_std_are_named(
    teacher: Teacher, digits: Dataset, mean: float, std: float
) -> None:
    told = check(prepared_as(teacher, mean, std), digits)
    assert told.names == ["teacher-mean-and-std"]
    assert '"mean": [0.2998], "std": [0.3723]' in told.text


def test_dark_and_bright_exchanged(teacher: Teacher, digits: Dataset) -> None:
    with pytest.raises(BadInput, match="With dark and bright exchanged .* Invert the images"):
        check(teacher, digits, images=255 - digits.images)


def test_labels_that_say_nothing_are_refused(teacher: Teacher, digits: Dataset) -> None:
    labels = np.random.default_rng(0).permutation(digits.labels)
    with pytest.raises(BadInput, match=r"chance, 10\.\d% here. Neither another order"):
        check(teacher, digits, labels=labels)
    # a score of rows shows nothing: the job may go on, and says so
    assert check(teacher, digits, ROWS[:20], labels=labels).names == ["teacher-near-chance"]


def test_two_classes_exchanged_are_named(teacher: Teacher, digits: Dataset) -> None:
    told = check(teacher, digits, outputs=[0, 1, 2, 8, 4, 5, 6, 7, 3, 9])
    assert told.names == ["teacher-class-order"]
    assert "output 3 as '8', output 8 as '3'" in told.text
    assert 'Write "class_names": ["0", "1", "2", "8", "4", "5", "6", "7", "3", "9"]' in told.text


def test_classes_in_alphabetical_order(teacher: Teacher, digits: Dataset) -> None:
    """Folders 0 … 9 were zero, one, two, … to the teacher, in the order of a listing."""
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    listed = sorted(range(10), key=lambda label: names[label])
    with pytest.raises(BadInput, match="outputs in the alphabetical order") as caught:
        check(teacher, replace(digits, class_names=names), outputs=listed)
    assert 'Write "class_names": ["eight", "five", "four"' in caught.value.remedy
    with pytest.raises(BadInput, match=r"Renumber the labels.*\[8, 5, 4, 9, 1"):
        check(teacher, replace(digits, class_names=names), outputs=listed, named=False)


def test_far_below_what_is_stated(teacher: Teacher, digits: Dataset) -> None:
    """A quarter of the labels is wrong, and nothing in the JSON mends that."""
    labels = digits.labels.copy()
    wrong = np.random.default_rng(0).random(len(labels)) < 0.25
    labels[wrong] = (labels[wrong] + np.random.default_rng(1).integers(1, 9, wrong.sum())) % 10
    told = check(changed(teacher, accuracy={"test": 0.95}), digits, labels=labels)
    assert told.names == ["teacher-below-stated"]
    assert "its JSON states 95.0% (test). Neither another order" in told.text
    # nobody expects the accuracy on the training rows here, and 15 rows prove nothing
    assert check(changed(teacher, accuracy={"train": 1}), digits, labels=labels).names == []
    few = ROWS[:15]
    assert check(changed(teacher, accuracy={"test": 0.95}), digits, few, labels=labels).names == []


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


@pytest.mark.parametrize(
    "bend",
    [
        softmax,
        lambda logits: 100 * softmax(logits),
        lambda logits: 1 / (1 + np.exp(-logits)),
        lambda logits: (softmax(logits) + softmax(logits / 2)) / 2,
    ],
)
def test_probabilities_for_logits_are_named(bend: Any, teacher: Teacher, digits: Dataset) -> None:
    assert check(teacher, digits, bend=bend).names == ["teacher-gives-probabilities"]


def test_chance_counts_how_often_a_class_is_named() -> None:
    """Always "a" is right on 8 of 10 rows of which 8 are "a", which chance explains in full."""
    always = standing(np.tile([1.0, 0.0], (10, 1)), np.array([0] * 8 + [1] * 2))
    assert (always.right, always.chance) == (8, 0.8)
    assert always.beyond_chance == 0
    assert not always.shown_better


@pytest.mark.parametrize(
    ("right", "rows", "chance", "near"),
    [
        (100, 1000, 0.1, True),
        (18, 30, 0.5, False),  # 60 % of two classes on few rows: nothing is shown
        (560, 1000, 0.5, False),  # hard, and better than chance
        (250, 500, 0.5, True),
        (3, 20, 0.1, False),
    ],
)
def test_what_is_shown_to_be_near_chance(right: int, rows: int, chance: float, near: bool) -> None:
    assert Standing(right, rows, chance).shown_near == near


# -- colours -----------------------------------------------------------------------------------


RGB = Preprocess(3, 6, 6, mean=(0.2, 0.5, 0.8), std=(0.3, 0.25, 0.2))


@pytest.fixture(scope="module")
def patches() -> Dataset:
    """Noise of four tints: red, green, blue, and grey."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 4
    tints = np.array([[90, 0, 0], [0, 90, 0], [0, 0, 90], [30, 30, 30]])
    images = rng.integers(0, 150, (600, 6, 6, 3)) + tints[labels][:, None, None]
    names = ("red", "green", "blue", "grey")
    return Dataset("patches", images.astype(np.uint8), labels, names, 600)


@pytest.fixture(scope="module")
def painter(patches: Dataset) -> Teacher:
    """A network that was trained on BGR, with the numbers of RGB in that order."""
    from teachers.distillation.training import train_classifier

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    turned = np.ascontiguousarray(patches.images[..., ::-1])
    train_classifier(
        module, turned, patches.labels, RGB, epochs=30, batch_size=50, learning_rate=0.02, seed=0
    )
    return Teacher(TeacherManifest("mine", RGB, patches.class_names), module, "0" * 64, "painter")


def test_colours_the_other_way_round(painter: Teacher, patches: Dataset) -> None:
    """Red is taken for blue: another class order would mend it as well, but is not the cause."""
    told = check(painter, patches, np.arange(300))
    assert told.names == ["teacher-channel-order"]
    assert 'Write "channel_order": "BGR" in' in told.text
    right = replace(painter, manifest=_bgr(painter.manifest))
    assert check(understand(right).teacher, patches, np.arange(300)).names == []


def _bgr(manifest: TeacherManifest) -> TeacherManifest:
    """As written in a JSON, where mean and std stand in the order of the network's channels."""
    return parse_manifest(manifest.to_json() | {"channel_order": "BGR"}, "teacher.json")


def test_a_manifest_of_bgr_is_read_back_as_it_was() -> None:
    manifest = _bgr(TeacherManifest("mine", RGB, ("a", "b")))
    assert manifest.preprocess.mean == (0.8, 0.5, 0.2)
    assert manifest.to_json()["mean"] == [0.2, 0.5, 0.8]
    assert parse_manifest(manifest.to_json(), "again.json") == manifest
    with pytest.raises(BadInput, match="channel_order: got GBR; expected 'RGB' or 'BGR'"):
        parse_manifest(manifest.to_json() | {"channel_order": "GBR"}, "teacher.json")


@pytest.mark.parametrize("first", [nn.Identity(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1, groups=3)])
def test_a_network_of_bgr_takes_rgb(first: nn.Module) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(first, nn.Conv2d(3, 4, 6), nn.Flatten(), nn.Linear(4, 2)).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.tensor([1.0, -1.0, 0.0])
    teacher = Teacher(_bgr(TeacherManifest("mine", RGB, ("a", "b"))), module, "0" * 64, "t")
    described = understand(teacher)
    images = torch.randn(3, 3, 6, 6)
    with torch.no_grad():
        assert torch.allclose(described.teacher.module(images), module(images.flip(1)), atol=1e-5)
    added = [node.op for node in described.network.nodes].count("select")
    assert added == (not isinstance(first, nn.Identity))
    assert "its colours are BGR" in described.notes[-1]


# -- a job -------------------------------------------------------------------------------------


@pytest.fixture
def wrong_std(teacher: Teacher, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.safetensors"
    save_teacher(teacher.module, teacher.manifest, path)
    said = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(said | {"std": [3.0]}))
    return path


def test_a_job_is_refused_before_it_learns(wrong_std: Path, tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", teacher=str(wrong_std))
    told: list[Event] = []
    with pytest.raises(BadInput, match=r'Write "mean": \[.*\], "std": \[0.37'):
        told.extend(run(spec))
    assert not (tmp_path / "run").exists()
    assert not [event for event in told if isinstance(event, Note) and "thresholds" in event.text]
