"""Writes the files in ``tests/teachers/files`` that no exporter wrote, spelled as theirs are.

``python -m tests.teachers.exporter_files`` writes them anew. What computes the reference outputs is
ONNX Runtime, and for opset 6, which it does not run, torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FILES = Path(__file__).parent / "files"
Stored = dict[str, NDArray[Any]]
Sides = Sequence[int | str]


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def positive(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(size).uniform(0.5, 2, size).astype(np.float32)


def made(
    nodes: Sequence[NodeProto],
    stored: Stored,
    image: tuple[str, Sides],
    result: tuple[str, Sides],
    *,
    opset: int,
    ir: int,
    producer: str,
    as_inputs: bool = False,
) -> ModelProto:
    given = [helper.make_tensor_value_info(image[0], TensorProto.FLOAT, image[1])]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    if as_inputs:
        given += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])
    graph = helper.make_graph(list(nodes), "graph", given, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version, model.producer_name = ir, producer
    return model


def tf2onnx() -> ModelProto:
    """NHWC outside and NCHW inside, weights called as TensorFlow's variables, SAME paddings."""
    scope = "StatefulPartitionedCall/model"
    stem, head = f"{scope}/stem/Conv2D/ReadVariableOp:0", f"{scope}/head/MatMul/ReadVariableOp:0"
    wise = f"{scope}/dw/depthwise/ReadVariableOp:0"
    stored: Stored = {
        stem: drawn(6, 3, 3, 3),
        f"{scope}/stem/BiasAdd/ReadVariableOp:0": drawn(6),
        wise: drawn(6, 1, 3, 3, seed=1),
        "const_fold_opt__17": drawn(6, seed=2),
        head: drawn(6, 5).copy(),
        f"{scope}/head/BiasAdd/ReadVariableOp:0": drawn(5),
        "const__6": np.array(0.0, np.float32),
        "const__7": np.array(6.0, np.float32),
        "const_axes__8": np.array([2, 3], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["input_1"], ["t0"], "Transpose__10", perm=[0, 3, 1, 2]),
        node(
            "Conv",
            ["t0", stem, f"{scope}/stem/BiasAdd/ReadVariableOp:0"],
            ["c0"],
            f"{scope}/stem/Conv2D",
            strides=[2, 2],
            kernel_shape=[3, 3],
            auto_pad="SAME_UPPER",
        ),
        node("Clip", ["c0", "const__6", "const__7"], ["r0"], f"{scope}/relu6/Relu6"),
        node(
            "Conv",
            ["r0", wise, "const_fold_opt__17"],
            ["c1"],
            f"{scope}/dw/depthwise",
            group=6,
            kernel_shape=[3, 3],
            auto_pad="SAME_UPPER",
        ),
        node("Sigmoid", ["c1"], ["s1"], f"{scope}/swish/Sigmoid"),
        node("Mul", ["c1", "s1"], ["m1"], f"{scope}/swish/mul"),
        node(
            "AveragePool",
            ["m1"],
            ["p1"],
            f"{scope}/pool/AvgPool",
            kernel_shape=[2, 2],
            auto_pad="SAME_UPPER",
        ),
        node("GlobalAveragePool", ["p1"], ["g"], f"{scope}/mean/Mean"),
        node("Squeeze", ["g", "const_axes__8"], ["q"], f"{scope}/mean/Mean_Squeeze__22"),
        node("MatMul", ["q", head], ["d"], f"{scope}/head/MatMul"),
        node(
            "Add", ["d", f"{scope}/head/BiasAdd/ReadVariableOp:0"], ["b"], f"{scope}/head/BiasAdd"
        ),
        node("Softmax", ["b"], ["head"], f"{scope}/head/Softmax", axis=-1),
    ]
    size: Sides = ["unk__27", 13, 13, 3]
    result: tuple[str, Sides] = ("head", ["unk__28", 5])
    return made(nodes, stored, ("input_1", size), result, opset=13, ir=7, producer="tf2onnx")


def paddle() -> ModelProto:
    """Weights as Constant nodes, batch norm kept, hard swish in parts, a flatten by Shape."""
    node = helper.make_node
    stored: Stored = {
        "conv2d_0.w_0": drawn(6, 3, 3, 3),
        "batch_norm2d_0.w_0": positive(6),
        "batch_norm2d_0.b_0": drawn(6),
        "batch_norm2d_0.w_1": drawn(6, seed=1),
        "batch_norm2d_0.w_2": positive(6),
        "linear_0.w_0": drawn(6, 5).copy(),
        "linear_0.b_0": drawn(5),
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
    }
    nodes = [
        node("Constant", [], [name], f"p2o.Constant.{i}", value=numpy_helper.from_array(array))
        for i, (name, array) in enumerate(stored.items())
    ]
    norm = ["w_0", "b_0", "w_1", "w_2"]
    nodes += [
        node(
            "Conv",
            ["x", "conv2d_0.w_0"],
            ["conv2d_0.tmp_0"],
            "p2o.Conv.0",
            kernel_shape=[3, 3],
            strides=[1, 1],
            pads=[1, 1, 1, 1],
            dilations=[1, 1],
            group=1,
        ),
        node(
            "BatchNormalization",
            ["conv2d_0.tmp_0", *(f"batch_norm2d_0.{name}" for name in norm)],
            ["batch_norm2d_0.tmp_2"],
            "p2o.BatchNormalization.0",
            epsilon=1e-5,
            momentum=0.9,
        ),
        node("HardSigmoid", ["batch_norm2d_0.tmp_2"], ["hs"], "p2o.HardSigmoid.0", alpha=1 / 6),
        node("Mul", ["batch_norm2d_0.tmp_2", "hs"], ["hardswish_0"], "p2o.Mul.0"),
        node("GlobalAveragePool", ["hardswish_0"], ["pool2d_0.tmp_0"], "p2o.GlobalAveragePool.0"),
        node("Shape", ["pool2d_0.tmp_0"], ["s"], "p2o.Shape.0"),
        node("Slice", ["s", "zero", "one"], ["n"], "p2o.Slice.0"),
        node("Concat", ["n", "rest"], ["t"], "p2o.Concat.0", axis=0),
        node("Reshape", ["pool2d_0.tmp_0", "t"], ["flatten_0.tmp_0"], "p2o.Reshape.0"),
        node("MatMul", ["flatten_0.tmp_0", "linear_0.w_0"], ["linear_0.tmp_0"], "p2o.MatMul.0"),
        node("Add", ["linear_0.tmp_0", "linear_0.b_0"], ["linear_0.tmp_1"], "p2o.Add.0"),
        node("Softmax", ["linear_0.tmp_1"], ["softmax_0.tmp_0"], "p2o.Softmax.0", axis=1),
    ]
    size: Sides = ["p2o.DynamicDimension.0", 3, 12, 12]
    result: tuple[str, Sides] = ("softmax_0.tmp_0", ["p2o.DynamicDimension.0", 5])
    return made(nodes, {}, ("x", size), result, opset=11, ir=7, producer="PaddlePaddle")


def pytorch04() -> ModelProto:
    """Opset 6: numbers for names, `is_test`, operands that begin at an axis, a batch of 1."""
    node = helper.make_node
    stored: Stored = {
        "1": drawn(6, 3, 3, 3),
        "2": positive(6),
        "3": drawn(6),
        "4": drawn(6, seed=1),
        "5": positive(6),
        "6": drawn(8, 6, 1, 1),
        "7": drawn(8, seed=2),
        "8": drawn(5, 8),
        "9": drawn(5),
    }
    shape = numpy_helper.from_array(np.array([1, 8], np.int64))
    nodes = [
        node(
            "Conv",
            ["0", "1"],
            ["11"],
            dilations=[1, 1],
            group=1,
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[1, 1],
        ),
        node(
            "BatchNormalization",
            ["11", "2", "3", "4", "5"],
            ["12"],
            epsilon=1e-5,
            is_test=1,
            momentum=0.9,
        ),
        node("Relu", ["12"], ["13"]),
        node("MaxPool", ["13"], ["14"], kernel_shape=[2, 2], pads=[0, 0, 0, 0], strides=[2, 2]),
        node("Conv", ["14", "6"], ["15"], kernel_shape=[1, 1]),
        node("Add", ["15", "7"], ["16"], axis=1, broadcast=1),
        node("Dropout", ["16"], ["17", "18"], is_test=1, ratio=0.5),
        node("GlobalAveragePool", ["17"], ["19"]),
        node("Constant", [], ["20"], value=shape),
        node("Reshape", ["19", "20"], ["21"]),
        node("Gemm", ["21", "8", "9"], ["22"], alpha=1.0, beta=1.0, broadcast=1, transB=1),
        node("LogSoftmax", ["22"], ["23"], axis=1),
    ]
    return made(
        nodes,
        stored,
        ("0", [1, 3, 12, 12]),
        ("23", [1, 5]),
        opset=6,
        ir=3,
        producer="pytorch",
        as_inputs=True,
    )


def torch_of_pytorch04(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`pytorch04` computes."""
    named = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy())
             for t in pytorch04().graph.initializer}  # fmt: skip
    one, two, three, four, five, six, seven, eight, nine = (named[str(i)] for i in range(1, 10))
    x = F.conv2d(torch.from_numpy(images), one, padding=1)
    x = F.max_pool2d(F.relu(F.batch_norm(x, four, five, two, three)), 2)
    x = F.conv2d(x, six, seven).mean((2, 3))
    return np.asarray(F.log_softmax(F.linear(x, eight, nine), 1).numpy())


def caffe2() -> ModelProto:
    """GoogLeNet's manner: slashes in names, LRN, branches, and a last pool beyond the map."""
    node = helper.make_node
    stored: Stored = {
        "conv1/7x7_s2_w_0": drawn(6, 3, 5, 5),
        "conv1/7x7_s2_b_0": drawn(6),
        "inception_3a/1x1_w_0": drawn(4, 6, 1, 1),
        "inception_3a/1x1_b_0": drawn(4),
        "inception_3a/3x3_w_0": drawn(4, 6, 3, 3),
        "inception_3a/3x3_b_0": drawn(4, seed=1),
        "loss3/classifier_w_0": drawn(5, 8),
        "loss3/classifier_b_0": drawn(5),
        "OC2_DUMMY_1": np.array([1, 8], np.int64),
    }

    def conv(source: str, name: str, kernel: int, stride: int, pad: int) -> list[NodeProto]:
        return [
            node(
                "Conv",
                [source, f"{name}_w_0", f"{name}_b_0"],
                [f"{name}_1"],
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=[pad] * 4,
            ),
            node("Relu", [f"{name}_1"], [f"{name}_2"]),
        ]

    pool: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    nodes = [
        *conv("data_0", "conv1/7x7_s2", 5, 2, 2),
        node("MaxPool", ["conv1/7x7_s2_2"], ["pool1/3x3_s2_1"], **pool),
        node("LRN", ["pool1/3x3_s2_1"], ["pool1/norm1_1"], size=5, alpha=1e-4, beta=0.75, bias=1.0),
        *conv("pool1/norm1_1", "inception_3a/1x1", 1, 1, 0),
        *conv("pool1/norm1_1", "inception_3a/3x3", 3, 1, 1),
        node(
            "Concat",
            ["inception_3a/1x1_2", "inception_3a/3x3_2"],
            ["inception_3a/output_1"],
            axis=1,
        ),
        node(
            "AveragePool",
            ["inception_3a/output_1"],
            ["pool5/7x7_s1_1"],
            kernel_shape=[7, 7],
            strides=[1, 1],
            pads=[0, 0, 1, 1],
        ),
        node("Dropout", ["pool5/7x7_s1_1"], ["pool5/7x7_s1_2", "_pool5_mask"], ratio=0.4),
        node("Reshape", ["pool5/7x7_s1_2", "OC2_DUMMY_1"], ["OC2_DUMMY_0"]),
        node(
            "Gemm",
            ["OC2_DUMMY_0", "loss3/classifier_w_0", "loss3/classifier_b_0"],
            ["loss3/classifier_1"],
            transB=1,
        ),
        node("Softmax", ["loss3/classifier_1"], ["prob_1"]),
    ]
    return made(
        nodes,
        stored,
        ("data_0", [1, 3, 24, 24]),
        ("prob_1", [1, 5]),
        opset=9,
        ir=3,
        producer="onnx-caffe2",
        as_inputs=True,
    )


WRITTEN: dict[str, Callable[[], ModelProto]] = {
    "tf2onnx-like": tf2onnx,
    "paddle2onnx-like": paddle,
    "pytorch0.4-like": pytorch04,
    "caffe2-like": caffe2,
}


def write_all() -> None:
    for name, build in WRITTEN.items():
        model = build()
        value = model.graph.input[0]
        sides = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        drawn_images = np.random.default_rng(0).uniform(-1, 1, (sides[0] or 3, *sides[1:]))
        images: NDArray[np.float32] = drawn_images.astype(np.float32)
        if name == "pytorch0.4-like":
            outputs = torch_of_pytorch04(images)
        else:
            session = onnxruntime.InferenceSession(model.SerializeToString())
            (outputs,) = session.run(None, {value.name: images})
        (FILES / f"{name}.onnx").write_bytes(model.SerializeToString())
        np.savez_compressed(FILES / f"{name}.npz", images=images, outputs=outputs)


if __name__ == "__main__":
    write_all()
