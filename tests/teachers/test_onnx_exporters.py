"""Graphs in the manner of many exporters come back with ONNX Runtime's logits."""

from __future__ import annotations

import pytest
from torch import nn

from tests.teachers.onnx_graphs import EXPORTERS, assert_equal_logits, imported


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_graph_of_another_exporter_gives_the_same_logits(name: str) -> None:
    build, nhwc = EXPORTERS[name]
    made, shape = build()
    # the shuffled one was exported for a batch of 1, and ONNX Runtime keeps to that
    batches = (1,) if name == "shuffled" else (1, 5)
    assert_equal_logits(made, shape, nhwc=nhwc, batches=batches)


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
    import torch

    made, shape = EXPORTERS["shuffled"][0]()
    module = imported(made, shape)
    images = torch.randn(3, *shape)
    alone = torch.cat([module(image[None]) for image in images])
    assert torch.allclose(module(images), alone, atol=1e-5)
