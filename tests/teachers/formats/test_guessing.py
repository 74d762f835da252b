"""An ONNX file without a JSON: what it says, and what has to be guessed."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from edge.errors import BadInput
from teachers.formats.formats import guess_teacher, lacks_json, load_teacher
from teachers.formats.guessing import guess_manifest
from tests.teachers.onnx_graphs import floats, model, node, weights


def classifier(**options: Any) -> ModelProto:
    """A convolution, a mean over space, and a linear layer to four classes."""
    stored = weights(**{"conv.weight": (6, 3, 3, 3), "fc.weight": (4, 6)})
    nodes = [
        node("Conv", "x conv.weight", "c", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f fc.weight", "y", transB=1),
    ]
    return model(nodes, stored, **options)


def saved(made: ModelProto, folder: Path, **said: Any) -> Path:
    path = folder / "mine.onnx"
    path.write_bytes(made.SerializeToString())
    if said:
        path.with_suffix(".json").write_text(json.dumps(said))
    return path


def test_input_and_classes_come_from_the_file(tmp_path: Path) -> None:
    path = saved(classifier(image=("N", 3, 96, 80)), tmp_path)
    assert lacks_json(path)
    guess = guess_manifest(path)
    assert (guess.data["input"], guess.data["classes"]) == ([3, 96, 80], 4)
    assert set(guess.found) == {"input", "classes"}
    assert set(guess.guessed) == {"mean and std"}
    # what is printed can be saved as it is
    path.with_suffix(".json").write_text(json.dumps(guess.data))
    assert not lacks_json(path)
    assert load_teacher(path).manifest.preprocess.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("image", "input_shape"),
    [
        ((None, None, None, None), [3, 224, 224]),
        (("N", 3, "height", "width"), [3, 224, 224]),
        (("N", 3, 40, None), [3, 40, 224]),
    ],
)
def test_open_sizes_are_guessed(
    image: tuple[int | str | None, ...], input_shape: list[int], tmp_path: Path
) -> None:
    guess = guess_manifest(saved(classifier(image=image, logits=("N", None)), tmp_path))
    assert (guess.data["input"], guess.data["classes"]) == (input_shape, 4)
    assert "input" in guess.guessed


def test_an_open_size_is_one_that_the_network_runs_on(tmp_path: Path) -> None:
    """A linear layer of 3·16·16 numbers takes images of 16×16 alone."""
    nodes = [node("Flatten", "x", "f"), node("MatMul", "f w", "y")]
    made = model(nodes, weights(w=(3 * 16 * 16, 4)), image=("N", 3, "h", "w"))
    assert guess_manifest(saved(made, tmp_path)).data["input"] == [3, 16, 16]
    none = model(nodes, weights(w=(3 * 17 * 17, 4)), image=("N", 3, "h", "w"))
    with pytest.raises(BadInput, match='runs on none of the usual ones.*Write "input"'):
        guess_manifest(saved(none, tmp_path))


def test_channels_last_are_seen(tmp_path: Path) -> None:
    stored = weights(**{"conv.weight": (6, 1, 3, 3), "fc.weight": (4, 6)})
    turned = node("Transpose", "x", "t", perm=[0, 3, 1, 2])
    nodes = [turned, node("Conv", "t conv.weight", "c"), *tail_of_six()]
    made = model(nodes, stored, image=("N", 28, 28, 1))
    guess = guess_manifest(saved(made, tmp_path))
    assert guess.data["input"] == [1, 28, 28]
    assert guess.data["mean"] == [0.1307]


def tail_of_six() -> list[Any]:
    return [
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f fc.weight", "y", transB=1),
    ]


@pytest.mark.parametrize(
    ("first", "stored"),
    [
        (node("Div", "x by", "s"), floats(255.0)),
        (node("Mul", "x by", "s"), floats(1 / 255)),
        (node("Mul", "x by", "s"), floats(1 / 127.5)),
    ],
)
def test_a_network_that_scales_pixels_itself_gets_them_whole(
    first: Any, stored: Any, tmp_path: Path
) -> None:
    kept = weights(**{"conv.weight": (6, 3, 3, 3), "fc.weight": (4, 6)}) | {"by": stored}
    made = model([first, node("Conv", "s conv.weight", "c"), *tail_of_six()], kept)
    data = guess_manifest(saved(made, tmp_path)).data
    assert data["mean"] == [0, 0, 0]
    assert data["std"] == pytest.approx([1 / 255] * 3, abs=1e-6)


@pytest.mark.parametrize("text", ['["a", "b", "c", "d"]', "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"])
def test_names_in_the_metadata(text: str, tmp_path: Path) -> None:
    made = classifier()
    entry = made.metadata_props.add()
    entry.key, entry.value = "names", text
    guess = guess_manifest(saved(made, tmp_path))
    assert guess.data["class_names"] == ["a", "b", "c", "d"]
    assert guess.found["class_names"] == "its metadata"


@pytest.mark.parametrize("text", ["[", "__import__('os')", '["a", "a", "b", "c"]', '["a"]', "3"])
def test_metadata_that_are_no_names_say_nothing(text: str, tmp_path: Path) -> None:
    made = classifier()
    entry = made.metadata_props.add()
    entry.key, entry.value = "classes", text
    assert "class_names" not in guess_manifest(saved(made, tmp_path)).data


def test_what_the_json_says_counts(tmp_path: Path) -> None:
    path = saved(
        classifier(), tmp_path, class_names=["a", "b", "c", "d"], mean=[0.1] * 3, std=[1] * 3
    )
    teacher, guess = guess_teacher(path)
    assert teacher.manifest.class_names == ("a", "b", "c", "d")
    assert teacher.manifest.preprocess.mean == (0.1,) * 3
    assert set(guess.found) == {"input"}
    assert not guess.guessed


def test_one_output_is_two_classes(tmp_path: Path) -> None:
    stored = weights(w=(3 * 8 * 8, 1))
    made = model([node("Flatten", "x", "f"), node("MatMul", "f w", "y")], stored, logits=("N", 1))
    assert guess_manifest(saved(made, tmp_path)).data["classes"] == 2


def test_a_job_wants_to_be_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no manifest.*understudy inspect .*prints a JSON"):
        load_teacher(saved(classifier(), tmp_path))


def test_no_classifier_at_all(tmp_path: Path) -> None:
    convolution = node("Conv", "x conv.weight", "y")
    made = model([convolution], weights(**{"conv.weight": (6, 3, 3, 3)}), logits=("N", 6, 8, 8))
    with pytest.raises(BadInput, match="not one logit per class"):
        guess_manifest(saved(made, tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_in_front_of_the_json_is_fine(encoding: str, tmp_path: Path) -> None:
    said = {"input": [3, 8, 8], "class_names": ["ä", "b", "c", "d"], "classes": 4}
    path = saved(classifier(), tmp_path)
    text = json.dumps(said | {"mean": [0.5] * 3, "std": [0.5] * 3}, ensure_ascii=False)
    path.with_suffix(".json").write_bytes(text.encode(encoding))
    assert path.with_suffix(".json").read_bytes()[:2] in (
        codecs.BOM_UTF8[:2],
        codecs.BOM_UTF16_LE,
        codecs.BOM_UTF16_BE,
    )
    assert load_teacher(path).manifest.class_names == ("ä", "b", "c", "d")
