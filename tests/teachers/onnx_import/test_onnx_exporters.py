"""Graphs in the manner of many exporters come back with ONNX Runtime's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, numpy_helper
from torch import nn

from edge.errors import BadInput
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from teachers.onnx_import import folding
from tests.teachers.onnx_graphs import (
    EXPORTERS,
    assert_equal_logits,
    floats,
    imported,
    ints,
    model,
    node,
    weights,
    write,
)
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


ENDINGS = {
    "sigmoid": [node("Sigmoid", "z", "y")],
    "softmax, clamp": [node("Softmax", "z", "p"), node("Clip", "p low high", "y")],
    "per cent": [node("Softmax", "z", "p"), node("Mul", "p hundred", "y")],
    "softmax twice": [node("Softmax", "z", "p"), node("Softmax", "p", "y")],
    "log of a clamp": [
        node("Softmax", "z", "p"),
        node("Clip", "p low _", "q"),
        node("Log", "q", "y"),
    ],
    "log of a sum": [node("Softmax", "z", "p"), node("Add", "p low", "q"), node("Log", "q", "y")],
    "exp of logs": [node("LogSoftmax", "z", "l"), node("Exp", "l", "y")],
    "cast": [node("Sigmoid", "z", "p"), node("Cast", "p", "y", to=TensorProto.FLOAT)],
}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings_are_taken_off_for_the_logits(name: str, tmp_path: Path) -> None:
    """The teacher speaks logits, so that students and the bundle's cloud have what it means."""
    stored = weights(fc_weight=(3 * 8 * 8, 4)) | {
        "low": floats(1e-7).reshape(()),
        "high": floats(1 - 1e-7).reshape(()),
        "hundred": floats(100.0),
    }
    start = [node("Flatten", "x", "f"), node("MatMul", "f fc_weight", "z")]
    made = model([*start, *ENDINGS[name]], stored)
    teacher = understand(load_teacher(write(made, tmp_path, (3, 8, 8)))).teacher
    images = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        found = teacher.module(images)
    logits = images.flatten(1) @ torch.from_numpy(stored["fc_weight"])
    assert torch.allclose(found, logits, atol=1e-4)


@pytest.mark.parametrize("ending", [[], [node("Sigmoid", "z", "y")]])
@pytest.mark.parametrize("axes", [("N", 1), ("N",), None])
def test_one_output_for_two_classes(
    ending: list[NodeProto], axes: tuple[str | int, ...] | None, tmp_path: Path
) -> None:
    """As [0, z], with or without a sigmoid, and with the axis of one squeezed away."""
    stored = weights(fc_weight=(3 * 8 * 8, 1)) | {"one": ints(1)}
    nodes = [node("Flatten", "x", "f"), node("MatMul", "f fc_weight", "z" if ending else "y")]
    if axes == ("N",):
        nodes[-1].output[0] = "s"
        nodes.append(node("Squeeze", "s one", "z" if ending else "y"))
    made = model([*nodes, *ending], stored, logits=axes or ("N", 1))
    if axes is None:
        made.graph.output[0].type.tensor_type.ClearField("shape")
    path = write(made, tmp_path, (3, 8, 8), classes=2)
    described = understand(load_teacher(path))
    images = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        found = described.teacher.module(images)
    logit = images.flatten(1) @ torch.from_numpy(stored["fc_weight"])
    assert torch.allclose(found, torch.cat([0 * logit, logit], 1), atol=1e-4)


@pytest.mark.parametrize("in_node", [False, True])
def test_stored_weights_may_be_rearranged_however_large(
    in_node: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VGG-19's first linear layer has 103 M numbers; here 768 are beyond the budget of 100."""
    monkeypatch.setattr(folding, "constant_budget", lambda: 100)
    stored = weights(w=(4, 3 * 8 * 8))
    nodes = [
        node("Transpose", "w", "t"),
        node("Flatten", "x", "f"),
        node("MatMul", "f t", "y"),
    ]
    if in_node:
        kept = numpy_helper.from_array(stored.pop("w"), "w")
        nodes.insert(0, node("Constant", "", "w", value=kept))
    made = model(nodes, stored)
    assert_equal_logits(made, (3, 8, 8))
    # what is not stored has to keep the budget
    shape = {"s": ints(101), "z": ints(0), "w": stored.get("w", weights(w=(4, 192))["w"])}
    grown = [node("ConstantOfShape", "s", "c"), node("ReduceSum", "c", "d")]
    grown += [
        node("Flatten", "x", "f"),
        node("Gemm", "f w", "g", transB=1),
        node("Add", "g d", "y"),
    ]
    monkeypatch.setattr(folding, "constant_budget", lambda: -4 * 800)
    with pytest.raises(BadInput, match="would write a constant that is too large"):
        imported(model(grown, shape), (3, 8, 8))
