"""A bundle's answers to images in every form that people have them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edge.errors import BadInput
from tests.edge.models import bundle_at, pixels
from understudy import Bundle

#: the first is surely left, the second surely right, the third is a tie: its score is .5
ROWS = pixels((255, 0), (0, 255), (9, 9))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Two grey pixels side by side; the brighter one is the class, the threshold .75."""
    bundle_at(tmp_path / "bundle")
    return Bundle(tmp_path / "bundle")


def files(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(ROWS))]
    for path, row in zip(paths, ROWS, strict=True):
        Image.fromarray(row[..., 0]).save(path)
    return paths


def test_an_answer_says_class_score_and_appeal(bundle: Bundle) -> None:
    left, right, tie = bundle.predict(ROWS)
    assert (left.label, left.class_name, left.appeal) == (0, "left", False)
    assert (right.label, right.class_name, right.appeal) == (1, "right", False)
    assert left.score == pytest.approx(1 / (1 + np.exp(-4)))
    assert (tie.appeal, tie.answered_by, tie.image) == (True, "student", None)
    assert bundle.threshold == 0.75
    assert bundle.class_names == ("left", "right")


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows[..., 0],  # N×H×W
        lambda rows: rows.transpose(0, 3, 1, 2),  # N×C×H×W
        lambda rows: rows.astype(np.int64),
        lambda rows: list(rows),
        lambda rows: [row[..., 0] for row in rows],
        lambda rows: rows / 255,  # what this network takes: mean 0, std 1
        lambda rows: torch.from_numpy(rows.transpose(0, 3, 1, 2) / np.float32(255)),
        lambda rows: [Image.fromarray(row[..., 0]) for row in rows],
        lambda rows: (row for row in rows),
    ],
)
def test_images_come_in_many_forms(form: Any, bundle: Bundle) -> None:
    assert bundle.predict(form(ROWS)) == bundle.predict(ROWS)


def test_one_image_is_enough(bundle: Bundle, tmp_path: Path) -> None:
    first = bundle.predict(ROWS)[0]
    assert bundle.predict(ROWS[0]) == [first]
    assert bundle.predict(ROWS[0, ..., 0]) == [first]
    assert bundle.predict(Image.fromarray(ROWS[0, ..., 0])) == [first]
    assert bundle.predict([]) == []
    (answer,) = bundle.predict(files(tmp_path / "images")[0])
    assert answer.label == first.label
    assert answer.image == str(tmp_path / "images" / "0.png")


def test_files_and_folders_are_answered_in_order(bundle: Bundle, tmp_path: Path) -> None:
    paths = files(tmp_path / "images")
    assert [a.image for a in bundle.predict(tmp_path / "images")] == list(map(str, paths))
    assert [a.label for a in bundle.predict(paths[::-1])] == [0, 1, 0]


def test_a_teacher_answers_the_appeals(bundle: Bundle) -> None:
    def teacher(inputs: Any) -> Any:
        return np.array([[0, 9]] * len(inputs), np.float32)

    left, _, tie = bundle.predict(ROWS, teacher=teacher)
    assert left.answered_by == "student"
    assert (tie.answered_by, tie.label, tie.appeal) == ("teacher", 1, True)

    def gone(_: Any) -> Any:
        raise OSError("no network")

    tie = bundle.predict(ROWS, teacher=gone)[2]
    assert (tie.answered_by, tie.label) == ("student", 0)
    assert tie.reason is not None
    assert "no network" in tie.reason


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((3, 5, 5), np.uint8), "another size than the model"),
        (np.zeros((1, 1, 2, 3), np.uint8), "another size than the model"),
        (np.full((1, 2), 300), "integers beyond pixels: got 300 to 300"),
        (np.full((1, 2), 7.0), "no floats of this network's scale: got 7 to 7"),
        (np.full((1, 2), np.nan), "are not finite"),
        (np.array([["a", "b"]]), "are no numbers"),
        ("missing.png", "cannot be opened"),
    ],
)
def test_images_that_cannot_be_used_are_refused(images: Any, said: str, bundle: Bundle) -> None:
    with pytest.raises(BadInput, match=said):
        bundle.predict(images)


def test_floats_that_may_be_either_are_asked_about(tmp_path: Path) -> None:
    from dataclasses import replace

    from edge.bundle import write_bundle
    from edge.preprocess import Preprocess
    from tests.edge.models import contents, manifest

    scaled = Preprocess(channels=1, height=1, width=2, mean=(0.5,), std=(0.25,))
    write_bundle(tmp_path / "bundle", replace(manifest(), preprocess=scaled), contents())
    bundle = Bundle(tmp_path / "bundle")
    with pytest.raises(BadInput, match="may be pixels from 0 to 1, or what the network takes"):
        bundle.predict(ROWS / 255)
    normalised = (ROWS / 255 - 0.5) / 0.25
    assert bundle.predict(normalised) == bundle.predict(ROWS)


def test_what_a_notebook_shows_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<"
    bundle_at(folder)
    shown = Bundle(folder)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "max_softmax, threshold 0.75" in shown
    assert "A tiny example" in shown


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    bundle_at(tmp_path / "bundle")
    (tmp_path / "bundle" / "pair.onnx").write_bytes(b"")
    with pytest.raises(BadInput, match="pair.onnx"):
        Bundle(tmp_path / "bundle")
