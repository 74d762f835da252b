"""Rarer things that other exporters write; see ``onnx_graphs``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper

from tests.teachers.onnx_graphs import Shape, floats, ints, model, node, tail, weights


def convnext_of_tensorflow() -> tuple[ModelProto, Shape]:
    """Layer norm as x·r + (bias − mean·r), dense layers over one row per pixel, an uneven pool."""
    stored = weights(k=(6, 3, 3, 3), gamma=(6,), beta=(6,), up=(6, 8), rise=(8,), down=(8, 4))
    stored |= {"eps": floats(1e-6), "rows": ints(-1, 6), "map": ints(-1, 4, 4, 8)}
    nodes = [
        node("Transpose", "x", "nchw", perm=[0, 3, 1, 2]),
        node("Conv", "nchw k", "c", auto_pad="SAME_UPPER"),
        # 3×3 windows at every second of 8 pixels: the last row of windows stands half outside
        node("AveragePool", "c", "p", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Transpose", "p", "t", perm=[0, 2, 3, 1]),
        node("ReduceMean", "t", "mean", axes=[3]),
        node("Sub", "t mean", "d"),
        node("Mul", "d d", "square"),
        node("ReduceMean", "square", "variance", axes=[3]),
        node("Add", "variance eps", "v"),
        node("Sqrt", "v", "root"),
        node("Reciprocal", "root", "rate"),
        node("Mul", "rate gamma", "r"),
        node("Mul", "t r", "product"),
        node("Mul", "mean r", "moved"),
        node("Sub", "beta moved", "shift"),
        node("Add", "product shift", "n"),
        node("Reshape", "n rows", "flat"),
        node("MatMul", "flat up", "dense"),
        node("Reshape", "dense map", "wide"),
        node("Add", "wide rise", "biased"),
        node("Relu", "biased", "a"),
        node("ReduceMean", "a", "g", axes=[1, 2], keepdims=0),
        node("MatMul", "g down", "y"),
    ]
    return model(nodes, stored, image=("N", 8, 8, 3)), (3, 8, 8)


def resized_to_a_skip() -> tuple[ModelProto, Shape]:
    """PyTorch's interpolate(size=…): batch and channels of the target come from Shape."""
    stored = weights(k=(4, 3, 3, 3), q=(4, 4, 3, 3))
    stored |= {"zero": ints(0), "two": ints(2), "four": ints(4)}
    nodes = [
        node("Conv", "x k", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a q", "b", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", "a", "sides"),
        node("Slice", "sides two four", "space"),
        node("Shape", "b", "own"),
        node("Slice", "own zero two", "head"),
        node("Concat", "head space", "target", axis=0),
        node(
            "Resize",
            "b _ _ target",
            "r",
            mode="linear",
            coordinate_transformation_mode="pytorch_half_pixel",
        ),
        node("Add", "r a", "m"),
        *tail("m"),
    ]
    return model(nodes, stored), (3, 8, 8)


def cntk_like() -> tuple[ModelProto, Shape]:
    """CNTK: an open batch that is 1 inside, a 4-D weight reshaped to the dense layer's matrix."""
    stored = weights(k=(4, 3, 3, 3), plus=(4, 1, 1), w=(4, 2, 2, 4), b=(1, 4))
    stored |= {"matrix": ints(16, 4), "row": ints(1, 16)}
    nodes = [
        node("Reshape", "w matrix", "dense"),
        node("Conv", "x k", "c", auto_pad="SAME_UPPER", strides=[4, 4]),
        node("Add", "c plus", "p"),
        node("Reshape", "p row", "f"),
        node("MatMul", "f dense", "d"),
        node("Add", "d b", "y"),
    ]
    return model(nodes, stored, opset=8, logits=(1, 4)), (3, 8, 8)


def reparametrised() -> tuple[ModelProto, Shape]:
    """Weight norm, spectral norm and a product of two matrices, left to be worked out."""
    stored = weights(v=(4, 3, 3, 3), g=(4, 1, 1, 1), u=(1, 4), w=(4, 4), r=(4, 1), low=(4, 2))
    stored["high"] = stored["low"].T.copy()
    nodes = [
        node("ReduceL2", "v", "length", axes=[1, 2, 3]),
        node("Div", "v length", "direction"),
        node("Mul", "direction g", "k"),
        node("MatMul", "u w", "uw"),
        node("MatMul", "uw r", "sigma"),
        node("Div", "w sigma", "normal"),
        node("MatMul", "low high", "product"),
        node("Conv", "x k", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f normal", "d"),
        node("MatMul", "d product", "e"),
        node("Softmax", "e", "s", axis=1),
        node("Log", "s", "y"),
    ]
    return model(nodes, stored), (3, 8, 8)


def strangely_named() -> tuple[ModelProto, Shape]:
    """Names that are no Python: other scripts, slashes, colons, spaces, torch's own attributes."""
    stored = weights(**{"重み/ü::w": (4, 3, 3, 3), "train.weight": (4, 4, 1, 1), "b:0": (4,)})
    long = "m." * 300 + "weight"
    stored[long] = weights(w=(4, 4))["w"]
    nodes = [
        helper.make_node("Conv", ["x", "重み/ü::w"], ["π:0"], name="слой/Conv 1"),
        helper.make_node("Conv", ["π:0", "train.weight", "b:0"], ["a b"], name="eval"),
        helper.make_node("Relu", ["a b"], ["self.a/"]),
        helper.make_node("GlobalAveragePool", ["self.a/"], ["p"], name="/".join(["scope"] * 100)),
        helper.make_node("Flatten", ["p"], ["forward"], name="__class__"),
        helper.make_node("Gemm", ["forward", long], ["y"], name="training"),
    ]
    return model(nodes, stored), (3, 8, 8)


def label_and_probabilities() -> tuple[ModelProto, Shape]:
    """MXNet leaves the label among the inputs; logits stand beside probabilities."""
    nodes = [
        node("Conv", "x k", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "y"),
        node("Softmax", "y", "likely", axis=1),
    ]
    made = model(nodes, weights(k=(4, 3, 3, 3)))
    made.graph.input.append(helper.make_tensor_value_info("label", TensorProto.FLOAT, ["N"]))
    made.graph.output.append(helper.make_tensor_value_info("likely", TensorProto.FLOAT, ["N", 4]))
    return made, (3, 8, 8)


def in_double() -> tuple[ModelProto, Shape]:
    """A constant in float64 among the others, cast where it is used."""
    stored = weights(k=(4, 3, 3, 3))
    stored["scale"] = np.array([[[0.5]], [[2.0]], [[1.0]], [[-1.0]]], np.float64)
    nodes = [
        node("Cast", "scale", "s", to=TensorProto.FLOAT),
        node("Conv", "x k", "c"),
        node("Tanh", "c", "t"),
        node("Mul", "t s", "m"),
        *tail("m"),
    ]
    return model(nodes, stored), (3, 8, 8)


#: name → graph, and whether its own images have their channels last
RARER: dict[str, tuple[Callable[[], tuple[ModelProto, Shape]], bool]] = {
    "convnext of tensorflow": (convnext_of_tensorflow, True),
    "resized to a skip": (resized_to_a_skip, False),
    "cntk": (cntk_like, False),
    "reparametrised": (reparametrised, False),
    "strangely named": (strangely_named, False),
    "in double": (in_double, False),
}
