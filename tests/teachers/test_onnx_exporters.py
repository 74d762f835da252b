"""Graphs in the manner of many exporters come back with ONNX Runtime's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from teachers.description import understand
from teachers.formats import load_teacher
from tests.teachers.onnx_graphs import EXPORTERS, assert_equal_logits, imported, write
from tests.teachers.onnx_rarer_graphs import RARER, label_and_probabilities

ALL = {**EXPORTERS, **RARER}
#: exported for a batch of 1, and ONNX Runtime keeps to that
OF_ONE = ("shuffled", "cntk")


@pytest.mark.parametrize("name", ALL)
def test_a_graph_of_another_exporter_gives_the_same_logits(name: str) -> None:
    build, nhwc = ALL[name]
    made, shape = build()
    batches = (1,) if name in OF_ONE else (1, 5)
    assert_equal_logits(made, shape, nhwc=nhwc, batches=batches)


@pytest.mark.parametrize("name", ALL)
def test_it_is_a_teacher_that_can_be_compressed(name: str, tmp_path: Path) -> None:
    made, shape = ALL[name][0]()
    described = understand(load_teacher(write(made, tmp_path, shape)))
    assert described.network.classes == 4


def test_labels_and_probabilities_beside_the_logits_are_left_out(tmp_path: Path) -> None:
    made, shape = label_and_probabilities()
    teacher = load_teacher(write(made, tmp_path, shape))
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(3, *shape)
    fed = {"x": images.numpy(), "label": np.zeros(3, np.float32)}
    (logits,) = session.run(["y"], fed)
    with torch.no_grad():
        assert np.abs(teacher.module(images).numpy() - logits).max() <= 1e-4


def test_layers_are_called_as_their_weights() -> None:
    made, shape = EXPORTERS["residual"][0]()
    module = imported(made, shape)
    layers = {
        name: type(layer)
        for name, layer in module.named_modules()
        if list(layer.parameters(recurse=False))
    }
    assert layers == {
        "conv1": nn.Conv2d,
        "bn": nn.BatchNorm2d,
        "layer1.0.conv2": nn.Conv2d,
    }


def test_batch_norm_written_as_mul_and_add_is_folded_into_its_convolution() -> None:
    made, shape = EXPORTERS["caffe2"][0]()
    module = imported(made, shape)
    assert [call.target for call in module.graph.nodes if call.op == "call_module"] == [
        "Conv_c",
        "Gemm_y",
    ]
    assert all(call.op != "get_attr" for call in module.graph.nodes)


def test_a_batch_fixed_by_the_exporter_is_open_in_the_module() -> None:
    made, shape = EXPORTERS["shuffled"][0]()
    module = imported(made, shape)
    images = torch.randn(3, *shape)
    alone = torch.cat([module(image[None]) for image in images])
    assert torch.allclose(module(images), alone, atol=1e-5)
