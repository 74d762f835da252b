"""ONNX graphs in the manner of many exporters, written with onnx.helper, and how to compare them.

Each function gives a model and the shape (C, H, W) of its images. Weights are drawn from a seed,
so that a failure can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import fx

from teachers.onnx_import.convert import convert
from teachers.onnx_import.reading import parse_model
from teachers.onnx_import.structure import read_graph

Shape = tuple[int, int, int]
Weights = dict[str, NDArray[Any]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def weights(**shapes: tuple[int, ...]) -> Weights:
    """Normal float32 weights of the given shapes."""
    draw = rng()
    return {
        name: (draw.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in shapes.items()
    }


def ints(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node; names of tensors are separated by spaces, "_" is an omitted input."""
    given = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, given, outputs.split(), name=f"{op}_{outputs}", **attributes)


def model(
    nodes: Sequence[NodeProto],
    stored: Weights,
    *,
    image: Sequence[int | str | None] = ("N", 3, 8, 8),
    logits: Sequence[int | str | None] = ("N", 4),
    opset: int = 13,
    as_inputs: bool = False,
) -> ModelProto:
    """A model from ``x`` to ``y``; ``as_inputs`` lists initialisers among the inputs, too."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    if as_inputs:
        inputs += [
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in tensors
        ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, logits)]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def tail(source: str, channels: int = 4) -> list[NodeProto]:
    """Global pool and flatten: enough to make logits ``y`` of a map with ``channels``."""
    return [node("GlobalAveragePool", source, "pooled"), node("Flatten", "pooled", "y")]


def imported(made: ModelProto, shape: Shape, classes: int | None = None) -> fx.GraphModule:
    """The model through bytes and back, as a module."""
    parsed, opset = parse_model(made.SerializeToString(), "test.onnx")
    graph = read_graph(parsed, opset, Path(), classes)
    return convert(graph, shape, classes)


def assert_equal_logits(
    made: ModelProto,
    shape: Shape,
    *,
    nhwc: bool = False,
    batches: Sequence[int] = (1, 5),
    spread: float = 1.0,
) -> fx.GraphModule:
    """Import the model and compare it with ONNX Runtime; it must be traceable, too."""
    module = imported(made, shape)
    fx.symbolic_trace(module)
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    for batch in batches:
        images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1)) * spread
        with torch.no_grad():
            found = module(images).numpy()
        fed = images.permute(0, 2, 3, 1) if nhwc else images
        (expected,) = session.run(None, {name: fed.contiguous().numpy()})
        expected = expected.reshape(batch, -1)
        assert found.shape == expected.shape
        bound = 1e-4 * max(1.0, float(np.abs(expected).max()))
        assert np.abs(found - expected).max() <= bound
    return module


def write(made: ModelProto, folder: Path, shape: Shape, classes: int = 4) -> Path:
    """The model and a manifest as files."""
    path = folder / "teacher.onnx"
    path.write_bytes(made.SerializeToString())
    manifest = {
        "input": list(shape),
        "classes": classes,
        "mean": [0.5] * shape[0],
        "std": [0.5] * shape[0],
    }
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path


# In the manner of other exporters


def residual_block() -> tuple[ModelProto, Shape]:
    """TorchScript-like: Conv, Relu, Add, with batch norm kept."""
    stored = weights(
        **{
            "conv1.weight": (4, 3, 3, 3),
            "layer1.0.conv2.weight": (4, 4, 3, 3),
            "bn.weight": (4,),
            "bn.bias": (4,),
            "bn.running_mean": (4,),
        }
    )
    stored["bn.running_var"] = rng(1).uniform(0.5, 2, 4).astype(np.float32)
    nodes = [
        node("Conv", "x conv1.weight", "a", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", "a bn.weight bn.bias bn.running_mean bn.running_var", "b"),
        node("Relu", "b", "c"),
        node("Conv", "c layer1.0.conv2.weight", "d", pads=[1, 1, 1, 1]),
        node("Add", "d c", "e"),
        *tail("e"),
    ]
    return model(nodes, stored), (3, 8, 8)


def tensorflow_like() -> tuple[ModelProto, Shape]:
    """tf2onnx: NHWC images, transposes at the ends, SAME padding, a mean over axes 1 and 2."""
    stored = weights(k=(4, 3, 3, 3), b=(4,), dense=(4, 4), bias=(4,))
    stored |= {"zero": floats(0), "six": floats(6), "axes": ints(1, 2)}
    nodes = [
        node("Transpose", "x", "nchw", perm=[0, 3, 1, 2]),
        node("Conv", "nchw k b", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Clip", "c low high", "r"),
        node("Transpose", "r", "nhwc", perm=[0, 2, 3, 1]),
        node("ReduceMean", "nhwc", "m", axes=[1, 2], keepdims=0),
        node("MatMul", "m dense", "d"),
        node("Add", "d bias", "logits"),
        node("Softmax", "logits", "y", axis=-1),
    ]
    stored |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    return model(nodes, stored, image=("N", 8, 6, 3)), (3, 8, 6)


def keras_like() -> tuple[ModelProto, Shape]:
    """Keras: bias and batch norm as Mul and Add of N×1×1×C constants inside an NHWC region."""
    stored = weights(k=(4, 3, 3, 3), scale=(4,), shift=(1, 1, 1, 4), dense=(4 * 4 * 3, 4), b=(4,))
    nodes = [
        node("Transpose", "x", "nchw", perm=[0, 3, 1, 2]),
        node("Conv", "nchw k", "c", auto_pad="SAME_LOWER", strides=[2, 2]),
        node("Transpose", "c", "nhwc", perm=[0, 2, 3, 1]),
        node("Mul", "nhwc scale", "s"),
        node("Add", "s shift", "t"),
        node("LeakyRelu", "t", "r", alpha=0.3),
        node("Reshape", "r target", "f"),
        node("MatMul", "f dense", "d"),
        node("Add", "b d", "y"),
    ]
    stored["target"] = ints(-1, 48)
    return model(nodes, stored, image=(None, 8, 6, 3), opset=11), (3, 8, 6)


def paddle_like() -> tuple[ModelProto, Shape]:
    """PaddlePaddle: Constant nodes as weights, a reshape from Shape → Gather → Concat."""
    held = weights(k=(4, 3, 3, 3), w=(4 * 64, 4), b=(4,))
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in held.items()
    ]
    nodes += [
        node("Conv", "x k", "c", pads=[1, 1, 1, 1]),
        node("HardSigmoid", "c", "h", alpha=0.2, beta=0.5),
        node("Shape", "h", "shape"),
        node("Constant", "", "zero", value=numpy_helper.from_array(ints(0))),
        node("Constant", "", "rest", value=numpy_helper.from_array(ints(-1))),
        node("Gather", "shape zero", "batch", axis=0),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "h target", "f"),
        node("Gemm", "f w b", "y", alpha=0.5, beta=2.0),
    ]
    return model(nodes, {}, opset=11), (3, 8, 8)


def mxnet_like() -> tuple[ModelProto, Shape]:
    """MXNet: initialisers as inputs, Dropout left in, batch norm of opset 7, a Sum of three."""
    stored = weights(k=(4, 3, 1, 1), g=(4,), b=(4,), m=(4,), fc=(4, 4))
    stored["v"] = rng(2).uniform(0.5, 2, 4).astype(np.float32)
    nodes = [
        node("Conv", "x k", "c", kernel_shape=[1, 1]),
        node("BatchNormalization", "c g b m v", "n", epsilon=1e-3),
        node("PRelu", "n slope", "p"),
        node("Sum", "n p c", "s"),
        node("Dropout", "s", "d", ratio=0.5),
        node("GlobalMaxPool", "d", "pooled"),
        node("Flatten", "pooled", "f"),
        node("Gemm", "f fc b", "y", transB=1),
    ]
    stored["slope"] = np.full((4, 1, 1), 0.1, np.float32)
    return model(nodes, stored, opset=7, as_inputs=True), (3, 8, 8)


def caffe2_like() -> tuple[ModelProto, Shape]:
    """Caffe2: batch norm as Mul and Add with unsqueezed weights, opset-9 Upsample, LRN."""
    stored = weights(k=(4, 3, 3, 3), scale=(4,), shift=(4,), fc=(4, 4), bias=(4,))
    stored["scales"] = floats(1, 1, 2, 2)
    nodes = [
        node("Identity", "k", "kernel"),
        node("Conv", "x kernel", "c", pads=[0, 1, 1, 2], strides=[1, 2]),
        node("Unsqueeze", "scale", "scale1", axes=[1, 2]),
        node("Unsqueeze", "shift", "shift1", axes=[1, 2]),
        node("Mul", "c scale1", "m"),
        node("Add", "m shift1", "a"),
        node("Relu", "a", "r"),
        node("LRN", "r", "l", size=3, alpha=0.1, beta=0.75, bias=2.0),
        node("Upsample", "l scales", "u", mode="nearest"),
        node("MaxPool", "u", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("AveragePool", "p", "q", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "q", "g"),
        node("Squeeze", "g", "f", axes=[2, 3]),
        node("Gemm", "f fc bias", "y"),
    ]
    return model(nodes, stored, opset=9), (3, 8, 8)


def one_dimensional() -> tuple[ModelProto, Shape]:
    """A spectrogram as a sequence: C×1×L images, 1-D convolutions and pools inside."""
    stored = weights(k=(6, 3, 5), b=(6,), fc=(4, 6), k2=(6, 3, 3))
    nodes = [
        node("Squeeze", "x axes", "s"),
        node("Conv", "s k b", "c", pads=[2, 2], strides=[2]),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2], strides=[2]),
        node("Conv", "p k2", "d", group=2, pads=[2, 2], dilations=[2]),
        node("Tanh", "d", "t"),
        node("ReduceMean", "t", "m", axes=[2], keepdims=0),
        node("Gemm", "m fc", "y", transB=1),
    ]
    stored["axes"] = ints(2)
    return model(nodes, stored, image=("N", 3, 1, 32)), (3, 1, 32)


def shuffled() -> tuple[ModelProto, Shape]:
    """ShuffleNet: split, channel shuffle by reshape and transpose, concat; a fixed batch of 1."""
    stored = weights(k=(4, 1, 3, 3), p=(8, 3, 1, 1), q=(4, 8, 1, 1))
    stored |= {"five": ints(1, 2, 4, 8, 8), "four": ints(1, 8, 8, 8), "parts": ints(4, 4)}
    nodes = [
        node("Conv", "x p", "a"),
        node("Split", "a parts", "left right", axis=1),
        node("Conv", "right k", "d", group=4, pads=[1, 1, 1, 1]),
        node("Concat", "left d", "joined", axis=1),
        node("Reshape", "joined five", "v"),
        node("Transpose", "v", "w", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "w four", "s"),
        node("Slice", "s begin end axis", "half"),
        node("Conv", "s q", "e"),
        node("Add", "e half", "z"),
        *tail("z"),
    ]
    stored |= {"begin": ints(0), "end": ints(4), "axis": ints(1)}
    return model(nodes, stored, image=(1, 3, 8, 8), logits=(1, 4)), (3, 8, 8)


#: name → graph, and whether its own images have their channels last
EXPORTERS: dict[str, tuple[Callable[[], tuple[ModelProto, Shape]], bool]] = {
    "residual": (residual_block, False),
    "tensorflow": (tensorflow_like, True),
    "keras": (keras_like, True),
    "paddle": (paddle_like, False),
    "mxnet": (mxnet_like, False),
    "caffe2": (caffe2_like, False),
    "one-dimensional": (one_dimensional, False),
    "shuffled": (shuffled, False),
}
