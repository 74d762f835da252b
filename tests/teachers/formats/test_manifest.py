from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from teachers.formats.manifest import parse_manifest, read_manifest

GOOD: dict[str, Any] = {
    "arch": "resnet18",
    "input": [3, 32, 32],
    "classes": 2,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
    "scale": "pixels / 255, then (x - mean) / std",
    "class_names": ["cat", "dog"],
    "unseen": "last 5000 rows of train.parquet",
    "accuracy": {"validation": 0.9, "test": 0.8},
}


def test_a_manifest_says_what_the_teacher_is() -> None:
    manifest = parse_manifest(GOOD, "t.json")
    assert manifest.arch == "resnet18"
    assert manifest.classes == 2
    assert manifest.class_names == ("cat", "dog")
    assert manifest.preprocess.input_shape == (3, 32, 32)
    assert manifest.preprocess.mean == (0.5, 0.4, 0.3)
    assert manifest.unseen == "last 5000 rows of train.parquet"
    assert manifest.accuracy == {"validation": 0.9, "test": 0.8}


def test_to_json_reads_back_to_the_same_manifest() -> None:
    manifest = parse_manifest(GOOD, "t.json")
    assert parse_manifest(manifest.to_json(), "t.json") == manifest
    assert manifest.to_json() == GOOD


def test_what_may_be_left_out() -> None:
    bare = {key: GOOD[key] for key in ("arch", "input", "classes", "mean", "std")}
    manifest = parse_manifest(bare, "t.json")
    assert manifest.class_names == ("0", "1")
    assert manifest.unseen is None
    assert manifest.accuracy == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arch": ""}, "arch"),
        ({"input": [3, 32]}, "input"),
        ({"input": [3, 32, 32.5]}, "input"),
        ({"input": [2, 32, 32], "mean": [0, 0], "std": [1, 1]}, "channels"),
        ({"input": [3, 0, 32]}, "height"),
        ({"mean": [0.5]}, "mean"),
        ({"mean": [0.5, "0.4", 0.3]}, "mean"),
        ({"std": [0.2, 0.2, 0.0]}, "std"),
        ({"scale": "pixels / 127.5 - 1"}, "scale"),
        ({"classes": 3}, "class_names"),
        ({"classes": True}, "classes"),
        ({"classes": 1, "class_names": ["cat"]}, "classes"),
        ({"class_names": ["cat", "cat"]}, "'cat' more than once"),
        ({"class_names": ["cat", 1]}, "class_names"),
        ({"unseen": 5000}, "unseen"),
        ({"accuracy": {"test": 88.8}}, "accuracy of test"),
        ({"accuracy": 0.88}, "accuracy"),
    ],
)
def test_a_wrong_value_is_named_with_the_file(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_manifest(GOOD | change, "t.json")
    assert named in str(error.value)
    assert "t.json" in str(error.value)


@pytest.mark.parametrize("key", ["arch", "input", "classes", "mean", "std"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(BadInput, match=key):
        parse_manifest({k: v for k, v in GOOD.items() if k != key}, "t.json")


@pytest.mark.parametrize("text", ["{", "[]", "\xff", '{"arch": NaN}', ""])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"t\.json"):
        read_manifest(tmp_path / "t.safetensors")


def test_a_missing_file_is_told_where_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no manifest.*same name"):
        read_manifest(tmp_path / "t.safetensors")
    (tmp_path / "t.json").write_text(json.dumps(GOOD))
    assert read_manifest(tmp_path / "t.safetensors").classes == 2
