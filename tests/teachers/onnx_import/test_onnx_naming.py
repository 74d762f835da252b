"""Names of layers from the names that stand in a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from teachers.onnx_import.naming import Names, clean, from_node, from_weight


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("layer1.0.conv1.weight", "layer1.0.conv1"),
        ("model/conv2d/kernel", "model.conv2d"),
        ("conv2d/kernel:0", "conv2d"),
        ("StatefulPartitionedCall/model/stem/Conv2D/ReadVariableOp:0", "model.stem"),
        ("_functional._torch_params.sequential/head/kernel", "sequential.head"),
        ("conv2d_0.w_0", "conv2d_0"),  # PaddlePaddle
        ("conv1_w_0", "conv1"),  # Caffe2
        ("resnetv10_conv0_weight", "resnetv10_conv0"),  # MXNet
        ("1", None),  # PyTorch 0.4
        ("const_fold_opt__41", None),
        ("forward.weight", "forward_"),  # a module has a method of that name
        ("onnx::Conv_193", None),
        ("weight", None),
        ("val_17", None),
    ],
)
def test_a_layer_is_called_as_its_weight(stored: str, name: str | None) -> None:
    assert from_weight(stored) == name


@pytest.mark.parametrize(
    ("node", "op", "name"),
    [
        ("/layer1/layer1.0/conv1/Conv", "Conv", "layer1.0.conv1"),
        ("/layer1/layer1.0/downsample/downsample.0/Conv", "Conv", "layer1.0.downsample.0"),
        ("/features/features.3/Gemm_1", "Gemm", "features.3"),
        ("node_linear", "Gemm", "linear"),
        ("node_Conv_105", "Conv", None),
        ("12", "Conv", None),
        ("", "Conv", None),
    ],
)
def test_or_as_its_node(node: str, op: str, name: str | None) -> None:
    assert from_node(node, op) == name


@given(st.lists(st.text("ab./- é0", max_size=6), max_size=30))
def test_every_layer_finds_a_name_of_its_own_that_torch_takes(wanted: list[str]) -> None:
    names, root = Names(), nn.Module()
    for text in wanted:
        name = names.take((clean(text), clean(text[::-1])), "Conv2d")
        holder = root
        for part in name.split(".")[:-1]:
            if not hasattr(holder, part):
                holder.add_module(part, nn.Module())
            holder = holder.get_submodule(part)
        holder.add_module(name.rpartition(".")[2], nn.ReLU())  # raises where it is taken
    assert sum(isinstance(layer, nn.ReLU) for layer in root.modules()) == len(wanted)


def test_a_name_inside_another_layer_is_laid_flat() -> None:
    # "a.b" with a number would stay inside of "a" for ever
    names = Names()
    assert [names.take((name,), "x") for name in ("a", "a.b", "a.b")] == ["a", "a_b_2", "a_b_3"]
