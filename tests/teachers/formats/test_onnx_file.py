"""The ``.onnx`` member of the formats: manifest, sizes, fingerprint, and what needs no torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edge.errors import BadInput
from teachers.formats.formats import check_teacher, load_teacher
from tests.teachers.onnx_graphs import residual_block, tensorflow_like, write


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write(residual_block()[0], tmp_path, (3, 8, 8))


def _edit(path: Path, **changes: object) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_an_onnx_teacher_is_loaded_with_its_manifest(saved: Path) -> None:
    teacher = load_teacher(saved)
    assert teacher.manifest == check_teacher(saved)
    assert teacher.manifest.arch == "onnx"
    assert teacher.name == "teacher"
    assert teacher.fingerprint == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert not teacher.module.training
    assert teacher.module(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_the_manifest_may_name_an_architecture(saved: Path) -> None:
    _edit(saved, arch="resnet18")
    assert load_teacher(saved).manifest.arch == "resnet18"


def test_the_module_takes_channels_first_whatever_the_graph_takes(tmp_path: Path) -> None:
    made, shape = tensorflow_like()
    assert shape == (3, 8, 6)
    teacher = load_teacher(write(made, tmp_path, shape))
    assert teacher.module(torch.zeros(2, 3, 8, 6)).shape == (2, 4)


def test_checking_an_onnx_file_does_not_import_torch(saved: Path) -> None:
    script = (
        "import sys; from teachers.formats.formats import check_teacher; "
        f"check_teacher({str(saved)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_teacher(saved)
    assert torch.equal(torch.rand(1), expected)


def test_a_model_without_a_manifest_is_told_where_to_write_it(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    with pytest.raises(BadInput, match="no manifest"):
        check_teacher(saved)


def test_the_manifests_size_must_be_the_graphs(saved: Path) -> None:
    _edit(saved, input=[3, 8, 9])
    with pytest.raises(BadInput, match=r"\[3, 8, 8\].*\[3, 8, 9\].*Correct input"):
        check_teacher(saved)


def test_the_manifests_classes_must_be_the_graphs(saved: Path) -> None:
    _edit(saved, classes=5)
    with pytest.raises(BadInput, match=r"4 outputs.*5, the classes"):
        check_teacher(saved)
