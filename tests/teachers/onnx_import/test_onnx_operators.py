"""Every operator of the table against ONNX Runtime, in the forms of old and new opsets."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from teachers.onnx_import.folding import FOLDED
from teachers.onnx_import.table import OPERATORS
from tests.teachers.onnx_graphs import (
    Weights,
    assert_equal_logits,
    floats,
    ints,
    model,
    node,
    tail,
    weights,
)

SHAPE = (3, 8, 8)


def scalar(number: float) -> np.ndarray[Any, Any]:
    return np.array(number, np.float32)


Case = tuple[list[NodeProto], Weights, int]

#: name → nodes from the map x to the map m, constants, opset
MAPS: dict[str, Case] = {
    "relu": ([node("Relu", "x", "m")], {}, 13),
    "leaky relu": ([node("LeakyRelu", "x", "m", alpha=0.2)], {}, 7),
    "prelu": ([node("PRelu", "x s", "m")], {"s": weights(s=(3, 1, 1))["s"]}, 13),
    "prelu of one slope": ([node("PRelu", "x s", "m")], {"s": floats(0.2)}, 13),
    "clip by attributes": ([node("Clip", "x", "m", min=-0.5, max=0.7)], {}, 7),
    "clip from below": ([node("Clip", "x l", "m")], {"l": scalar(0)}, 11),
    "clip from above": ([node("Clip", "x _ h", "m")], {"h": scalar(0.3)}, 13),
    "max and min": (
        [node("Max", "x l", "a"), node("Min", "h a", "m")],
        {"l": scalar(-0.5), "h": scalar(0.5)},
        13,
    ),
    "sigmoid": ([node("Sigmoid", "x", "m")], {}, 13),
    "hard sigmoid": ([node("HardSigmoid", "x", "m", alpha=1 / 6, beta=0.5)], {}, 13),
    "hard sigmoid of Keras": ([node("HardSigmoid", "x", "m")], {}, 7),
    "hard swish": ([node("HardSwish", "x", "m")], {}, 14),
    "tanh": ([node("Tanh", "x", "m")], {}, 7),
    "elu": ([node("Elu", "x", "m", alpha=0.5)], {}, 7),
    "celu": ([node("Celu", "x", "m", alpha=2.0)], {}, 12),
    "selu": ([node("Selu", "x", "m")], {}, 7),
    "softplus": ([node("Softplus", "x", "m")], {}, 7),
    "mish": ([node("Mish", "x", "m")], {}, 18),
    "gelu": ([node("Gelu", "x", "m")], {}, 20),
    "gelu by tanh": ([node("Gelu", "x", "m", approximate="tanh")], {}, 20),
    "softmax over channels": ([node("Softmax", "x", "m", axis=1)], {}, 13),
    "negation": ([node("Neg", "x", "m")], {}, 13),
    "difference": ([node("Relu", "x", "r"), node("Sub", "x r", "m")], {}, 13),
    "a constant less x": ([node("Sub", "c x", "m")], {"c": weights(c=(3, 1, 1))["c"]}, 13),
    "normalised input": (
        [node("Sub", "x mean", "a"), node("Div", "a std", "m")],
        {"mean": np.full((1, 3, 8, 8), 0.5, np.float32), "std": weights(s=(1, 3, 1, 1))["s"] + 2},
        13,
    ),
    "mean of tensors": ([node("Relu", "x", "r"), node("Mean", "x r x", "m")], {}, 13),
    "sum with a constant": ([node("Sum", "x c x", "m")], {"c": scalar(2)}, 13),
    "product": (
        [node("Sigmoid", "x", "s"), node("Relu", "x", "r"), node("Mul", "s r", "m")],
        {},
        7,
    ),
    "instance norm": (
        [node("InstanceNormalization", "x g b", "m")],
        weights(g=(3,), b=(3,)),
        13,
    ),
    "group norm by group": (
        [
            node("Concat", "x x", "c", axis=1),
            node("GroupNormalization", "c g b", "m", num_groups=2),
        ],
        weights(g=(2,), b=(2,)),
        18,
    ),
    "group norm by channel": (
        [node("GroupNormalization", "x g b", "m", num_groups=3)],
        weights(g=(3,), b=(3,)),
        21,
    ),
    "layer norm over channels last": (
        [
            node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
            node("LayerNormalization", "t g b", "l"),
            node("Transpose", "l", "m", perm=[0, 3, 1, 2]),
        ],
        weights(g=(3,), b=(3,)),
        17,
    ),
    "layer norm taken apart": (
        [
            node("ReduceMean", "x", "mu", axes=[1]),
            node("Sub", "x mu", "d"),
            node("Pow", "d two", "sq"),
            node("ReduceMean", "sq", "v", axes=[1]),
            node("Add", "v eps", "ve"),
            node("Sqrt", "ve", "sd"),
            node("Div", "d sd", "n"),
            node("Mul", "n g", "ng"),
            node("Add", "ng b", "m"),
        ],
        weights(g=(3, 1, 1), b=(3, 1, 1)) | {"two": scalar(2), "eps": scalar(1e-6)},
        13,
    ),
    "local response norm": ([node("LRN", "x", "m", size=3, alpha=0.5, bias=2.0)], {}, 13),
    "max pool with ceil": (
        [node("MaxPool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
        {},
        13,
    ),
    "max pool with gaps": (
        [node("MaxPool", "x", "m", kernel_shape=[2, 3], dilations=[2, 1], pads=[0, 1, 0, 1])],
        {},
        13,
    ),
    "max pool padded on one side": (
        [node("MaxPool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],
        {},
        13,
    ),
    "max pool whose last window stands half outside": (
        [node("MaxPool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])],
        {},
        11,
    ),
    "average pool whose last window stands half outside": (
        [node("AveragePool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])],
        {},
        11,
    ),
    "average pool whose first window stands half outside": (
        [node("AveragePool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])],
        {},
        11,
    ),
    "average pool": (
        [node("AveragePool", "x", "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        {},
        7,
    ),
    "average pool that keeps the size, more padding behind": (
        [node("AveragePool", "x", "m", kernel_shape=[2, 2], auto_pad="SAME_UPPER")],
        {},
        11,
    ),
    "average pool that keeps the size, more padding in front": (
        [node("AveragePool", "x", "m", kernel_shape=[2, 2], auto_pad="SAME_LOWER")],
        {},
        11,
    ),
    "average pool, uneven in another way on either axis": (
        [node("AveragePool", "x", "m", kernel_shape=[4, 3], strides=[1, 2], pads=[1, 1, 2, 0])],
        {},
        11,
    ),
    "average pool over the map and more, as GoogLeNet's last": (
        [node("AveragePool", "x", "m", kernel_shape=[9, 9], pads=[0, 0, 1, 1])],
        {},
        11,
    ),
    "average pool over the map, with more padding than half a window": (
        [node("AveragePool", "x", "m", kernel_shape=[11, 10], pads=[3, 2, 0, 0])],
        {},
        11,
    ),
    "average pool that counts its padding": (
        [
            node(
                "AveragePool",
                "x",
                "m",
                kernel_shape=[3, 2],
                pads=[0, 1, 2, 0],
                count_include_pad=1,
            )
        ],
        {},
        13,
    ),
    "lp pool": ([node("LpPool", "x", "m", kernel_shape=[2, 2], strides=[2, 2])], {}, 13),
    "lp pool of an odd power": (
        [node("Relu", "x", "r"), node("LpPool", "r", "m", kernel_shape=[2, 2], p=3)],
        {},
        13,
    ),
    "mean over one axis": ([node("ReduceMean", "x", "m", axes=[3])], {}, 13),
    "sum over space": ([node("ReduceSum", "x a", "m")], {"a": ints(-1, -2)}, 13),
    "mean by an input": ([node("ReduceMean", "x a", "m")], {"a": ints(2, 3)}, 18),
    "maximum by an input": ([node("ReduceMax", "x a", "m", keepdims=1)], {"a": ints(2)}, 18),
    "reflected padding": (
        [node("Pad", "x p", "m", mode="reflect")],
        {"p": ints(0, 0, 1, 2, 0, 0, 2, 0)},
        13,
    ),
    "repeated padding of opset 7": (
        [node("Pad", "x", "m", mode="edge", pads=[0, 0, 1, 1, 0, 0, 1, 1])],
        {},
        7,
    ),
    "padded channels": (
        [node("Pad", "x p v a", "m")],
        {"p": ints(1, 2), "v": scalar(0), "a": ints(1)},
        18,
    ),
    "slice over space": (
        [node("Slice", "x s e a t", "m")],
        {"s": ints(0, 1), "e": ints(2**62, -1), "a": ints(2, 3), "t": ints(2, 3)},
        13,
    ),
    "slice of opset 9": ([node("Slice", "x", "m", starts=[1], ends=[3], axes=[1])], {}, 9),
    "channels backwards": (
        [node("Slice", "x s e a t", "m")],
        {"s": ints(-1), "e": ints(-(2**62)), "a": ints(1), "t": ints(-1)},
        13,
    ),
    "picked channels": ([node("Gather", "x i", "m", axis=1)], {"i": ints(2, 0, -2)}, 13),
    "split of opset 9": (
        [node("Split", "x", "a b", axis=1, split=[1, 2]), node("Concat", "b a", "m", axis=1)],
        {},
        9,
    ),
    "split in equal parts": (
        [node("Split", "x", "a b", axis=3, num_outputs=2), node("Add", "a b", "m")],
        {},
        18,
    ),
    "nearest of half pixels": (
        [node("Resize", "x _ s", "m", mode="nearest")],
        {"s": floats(1, 1, 2, 3)},
        13,
    ),
    "linear to sizes": (
        [node("Resize", "x _ _ s", "m", mode="linear")],
        {"s": ints(5, 3, 12, 5)},
        13,
    ),
    "aligned corners": (
        [
            node(
                "Resize",
                "x _ s",
                "m",
                mode="linear",
                coordinate_transformation_mode="align_corners",
            )
        ],
        {"s": floats(1, 1, 2, 2)},
        13,
    ),
    "cubic": ([node("Resize", "x _ s", "m", mode="cubic")], {"s": floats(1, 1, 2, 2)}, 13),
    "a gate expanded to its map": (
        [
            node("GlobalAveragePool", "x", "g"),
            node("Sigmoid", "g", "s"),
            node("Shape", "x", "shape"),
            node("Expand", "s shape", "e"),
            node("Mul", "x e", "m"),
        ],
        {},
        13,
    ),
    "casts between floats": (
        [node("Cast", "x", "h", to=11), node("Cast", "h", "f", to=1), node("Relu", "f", "m")],
        {},
        13,
    ),
    "1×1 convolution over a transposed weight": (
        [node("Transpose", "k", "w", perm=[3, 2, 0, 1]), node("Conv", "x w", "m")],
        weights(k=(1, 1, 3, 5)),
        13,
    ),
    "weights of a constant shape": (
        [node("ConstantOfShape", "s", "w"), node("Add", "w c", "v"), node("Conv", "x v", "m")],
        {"s": ints(2, 3, 3, 3), "c": scalar(0.1)},
        13,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_an_operator_gives_the_same_logits(name: str) -> None:
    nodes, stored, opset = MAPS[name]
    # the batch of "linear to sizes" is written into its sizes
    batches = (5,) if name == "linear to sizes" else (1, 5)
    image = (5, 3, 8, 8) if name == "linear to sizes" else ("N", 3, 8, 8)
    made = model([*nodes, *tail("m")], stored, opset=opset, image=image, logits=("N", None))
    assert_equal_logits(made, SHAPE, batches=batches, spread=3)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_line_of_the_table_names_a_function(name: str) -> None:
    module, _, function = OPERATORS[name].partition(":")
    assert callable(getattr(import_module(f"teachers.onnx_import.operators.{module}"), function))


def test_what_is_folded_stands_in_the_table() -> None:
    assert set(FOLDED) <= set(OPERATORS)
