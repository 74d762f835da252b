"""The teacher is asked once about every row and view, and a stopped job goes on where it stood."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.errors import BadInput
from search.job.events import Progress
from search.preparation import teacher_outputs
from search.preparation.teacher_outputs import Answers, Asker, draw_views, patched
from teachers.data import row_file
from teachers.data.datasets import Dataset, load_dataset
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.cutmix import paste
from teachers.distillation.training import predict
from teachers.formats.formats import load_teacher
from teachers.formats.manifest import Teacher
from tests.search import jobs

ROWS = np.arange(1, 400, 2)  # 200 of them


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher(str(jobs.digits_teacher()))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits", jobs.GREY8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every question put to the teacher; a question is 64 rows at most."""
    monkeypatch.setattr(teacher_outputs, "CHUNK", 64)
    sizes: list[int] = []

    def noted(module: Any, images: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(images))
        return predict(module, images, *rest, **options)

    monkeypatch.setattr(teacher_outputs, "predict", noted)
    return sizes


def answered(asker: Asker, part: str = "distillation", **options: Any) -> tuple[Answers, list[int]]:
    """The answers, and how far they were at every sign of life."""
    steps = asker.answers(part, options.pop("rows", ROWS), **options)
    done: list[int] = []
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value, done
        assert isinstance(event, Progress)
        done.append(event.done)


def test_the_answers_are_the_teachers(
    teacher: Teacher, data: Dataset, asked: list[int], tmp_path: Path
) -> None:
    said, done = answered(Asker(teacher, data, tmp_path, "fc"), features=True)
    right = predict(teacher.module, data.images[ROWS], jobs.GREY8, tap="fc")
    assert right.features is not None
    assert said.features is not None
    np.testing.assert_allclose(said.logits, right.logits[None], atol=1e-5)
    np.testing.assert_allclose(said.features, right.features[None], atol=1e-5)
    assert not said.logits.flags.writeable
    assert done == [0, 64, 128, 192, 200]
    assert sorted(asked) == [8, 64, 64, 64]


def test_every_view_is_answered_as_it_was_drawn(
    teacher: Teacher, data: Dataset, asked: list[int], tmp_path: Path
) -> None:
    views = draw_views("shift", 3, len(ROWS), (8, 8, 1), seed=0)
    assert views.draws.shape == (3, 200, 2)
    said, _ = answered(Asker(teacher, data, tmp_path, "fc"), views=views)
    for view in range(3):
        pixels = AUGMENTS["shift"].apply(data.images[ROWS], views.draws[view])
        right = predict(teacher.module, pixels, jobs.GREY8).logits
        np.testing.assert_allclose(said.logits[view], right, atol=1e-5)
    assert sorted(asked) == [8, 8, 8, *[64] * 9]


def test_patched_views_are_answered_as_they_were_patched(
    teacher: Teacher, data: Dataset, tmp_path: Path
) -> None:
    labels = data.labels[ROWS]
    drawn = draw_views("shift", 3, len(ROWS), (8, 8, 1), seed=0)
    views = patched(drawn, ROWS, labels, (8, 8, 1), seed=0)
    assert views.patches is not None
    assert not (views.patches[0, :, 4] > 0).any()  # every row has a view of its own alone
    assert (views.patches[1:, :, 4] > 0).any(axis=1).all()
    said, _ = answered(Asker(teacher, data, tmp_path, "fc"), views=views)
    for view in range(3):
        pixels = AUGMENTS["shift"].apply(data.images[ROWS], drawn.draws[view])
        pixels = paste(pixels, data.images, views.patches[view])
        right = predict(teacher.module, pixels, jobs.GREY8).logits
        np.testing.assert_allclose(said.logits[view], right, atol=1e-5)
    again = patched(drawn, ROWS, labels, (8, 8, 1), seed=0)
    other = patched(drawn, ROWS, labels, (8, 8, 1), seed=1)
    assert again.digest == views.digest != other.digest != drawn.digest


def test_views_are_drawn_from_the_seed_and_differ() -> None:
    one, same, other = (draw_views("flip_shift", 2, 50, (8, 8, 1), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.draws, same.draws)
    assert (one.draws != other.draws).any()
    assert (one.draws[0] != one.draws[1]).any()


def test_what_changes_the_answers_is_asked_anew_and_nothing_else(
    teacher: Teacher, data: Dataset, asked: list[int], tmp_path: Path
) -> None:
    asker = Asker(teacher, data, tmp_path, "fc")
    drawn = [draw_views("shift", 1, len(ROWS), (8, 8, 1), seed) for seed in (0, 1)]
    questions: list[dict[str, Any]] = [
        {},
        {"rows": ROWS + 1},
        {"precision": "bf16"},
        {"features": True},
        {"views": drawn[0]},
        {"views": drawn[1]},
    ]
    for question in questions:
        asked.clear()
        answered(asker, **question)
        assert sum(asked) == 200, question
        asked.clear()
        _, done = answered(Asker(teacher, data, tmp_path, "fc"), **question)
        assert (asked, done) == ([], []), question


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_stopped_job_goes_on_to_the_same_answers(
    stop_after: int, teacher: Teacher, data: Dataset, asked: list[int], tmp_path: Path
) -> None:
    views = draw_views("shift", 2, len(ROWS), (8, 8, 1), seed=0)
    whole, _ = answered(Asker(teacher, data, tmp_path / "whole", "fc"), features=True, views=views)
    folder = tmp_path / "stopped"
    steps = Asker(teacher, data, folder, "fc").answers(
        "distillation", ROWS, features=True, views=views
    )
    for _ in range(stop_after + 1):
        next(steps)
    steps.close()
    assert not list(folder.glob("distillation-*"))
    asked.clear()
    said, done = answered(Asker(teacher, data, folder, "fc"), features=True, views=views)
    # 2 views of 64 + 64 + 64 + 8 rows
    before = [0, 64, 128, 192, 200, 264][stop_after]
    assert done[0] == before
    assert sum(asked) == 400 - before
    np.testing.assert_array_equal(said.logits, whole.logits)
    assert said.features is not None
    assert whole.features is not None
    np.testing.assert_array_equal(said.features, whole.features)
    assert not list(folder.glob(".*.part"))


def test_what_one_of_two_files_lacks_is_asked_again(
    teacher: Teacher, data: Dataset, asked: list[int], tmp_path: Path
) -> None:
    # killed between the two: 128 rows of logits are there, 64 of features
    steps = Asker(teacher, data, tmp_path, "fc").answers("distillation", ROWS, features=True)
    for _ in range(3):
        next(steps)
    steps.close()
    (draft,) = tmp_path.glob(".*.features.npy.part")
    with draft.open("r+b") as file:
        file.truncate(draft.stat().st_size - 1)
    said, done = answered(Asker(teacher, data, tmp_path, "fc"), features=True)
    assert done[0] == 64
    right = predict(teacher.module, data.images[ROWS], jobs.GREY8)
    np.testing.assert_allclose(said.logits[0], right.logits, atol=1e-5)


def test_answers_without_room_are_refused(
    teacher: Teacher, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_file, "SPARE_BYTES", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=7999))
    # 200 rows of 10 logits of 4 bytes
    with pytest.raises(BadInput, match=r"the teacher's answers: got 8,000 bytes.*7,999 bytes"):
        answered(Asker(teacher, data, tmp_path, "fc"))
    assert not list(tmp_path.iterdir())


def test_large_images_are_asked_about_few_at_a_time(teacher: Teacher, data: Dataset) -> None:
    def sizes(side: int) -> tuple[int, int]:
        images = np.broadcast_to(np.uint8(0), (10, side, side, 3))
        asker = Asker(teacher, Dataset("large", images, data.labels[:10], (), 10), Path(), "fc")
        return asker.batch, asker.chunk

    # A chunk is of 8 MiB at most, in whole batches of at most 600,000 numbers, but at least 4 rows:
    # of 100×100×3 there are 20 in a batch and 279 in a chunk, 13 batches of 20.
    assert [sizes(side) for side in (32, 100, 1000)] == [(64, 512), (20, 260), (4, 4)]
