"""Stored files of other exporters give the outputs stored with them; no JSON is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from teachers.formats.description import understand
from teachers.formats.formats import guess_teacher
from tests.teachers.exporter_files import FILES, WRITTEN

#: file → layers by their names in the file, and whether its images have their channels last
KNOWN: dict[str, tuple[list[str], bool]] = {
    # exported with Keras 3.15.1 on torch 2.13.0, whose exporter keeps no names of weights
    "keras3": (["conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4", "linear_1"], True),
    "tf2onnx-like": (["model.stem", "model.dw", "model.head"], True),
    "paddle2onnx-like": (["conv2d_0", "linear_0"], False),
    "pytorch0.4-like": (["conv2d_1", "conv2d_2", "linear_1"], False),
    "caffe2-like": (
        ["conv1.7x7_s2", "inception_3a.1x1", "inception_3a.3x3", "loss3.classifier"],
        False,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_file_of_another_exporter(name: str) -> None:
    layers, last = KNOWN[name]
    teacher, guess = guess_teacher(FILES / f"{name}.onnx")
    described = understand(teacher)
    with np.load(FILES / f"{name}.npz") as stored:
        images, outputs = stored["images"], stored["outputs"]
    x = torch.from_numpy(np.moveaxis(images, 3, 1).copy() if last else images)
    assert tuple(x.shape[1:]) == teacher.manifest.preprocess.input_shape
    assert guess.data["classes"] == outputs.shape[1]
    with torch.no_grad():
        logits = described.teacher.module(x)
    logs = "log-softmax" in described.notes[0]
    found = logits.log_softmax(1) if logs else logits.softmax(1)
    assert np.abs(found.numpy() - outputs).max() < 1e-4
    weighted = ("conv2d", "linear")
    assert [node.name for node in described.network.nodes if node.op in weighted] == layers


@pytest.mark.parametrize("name", WRITTEN)
def test_the_stored_files_are_those_that_are_written(name: str) -> None:
    """ONNX's own checker takes them, too."""
    stored = onnx.load(FILES / f"{name}.onnx")
    assert stored == WRITTEN[name]()
    onnx.checker.check_model(stored)


def test_stored_files_are_small() -> None:
    files: list[Path] = list(FILES.iterdir())
    assert len(files) >= 2 * len(KNOWN)
    assert all(file.stat().st_size < 50_000 for file in files)
