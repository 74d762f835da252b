"""Activations and layers in the spellings of many exporters are recognised, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from edge.errors import BadInput
from tests.teachers.onnx_graphs import (
    Weights,
    assert_equal_logits,
    floats,
    imported,
    ints,
    model,
    node,
    tail,
    weights,
)

SHAPE = (3, 8, 8)


def scalar(number: float) -> np.ndarray[Any, Any]:
    return np.array(number, np.float32)


SPELLINGS: dict[str, tuple[str, list[NodeProto], Weights]] = {
    "silu": ("silu", [node("Sigmoid", "x", "s"), node("Mul", "s x", "m")], {}),
    "hardswish by hard sigmoid": (
        "hardswish",
        [node("HardSigmoid", "x", "h", alpha=1 / 6, beta=0.5), node("Mul", "x h", "m")],
        {},
    ),
    "hardswish by clip": (
        "hardswish",
        [
            node("Add", "x three", "a"),
            node("Clip", "a zero six", "c"),
            node("Mul", "x c", "p"),
            node("Div", "p six", "m"),
        ],
        {"three": scalar(3), "zero": scalar(0), "six": scalar(6)},
    ),
    "hardswish by relu6 times a sixth": (
        "hardswish",
        [
            node("Add", "three x", "a"),
            node("Relu", "a", "r"),
            node("Min", "r six", "c"),
            node("Mul", "c sixth", "h"),
            node("Mul", "h x", "m"),
        ],
        {"three": scalar(3), "sixth": scalar(1 / 6), "six": scalar(6)},
    ),
    "gelu": (
        "gelu",
        [
            node("Div", "x root", "a"),
            node("Erf", "a", "e"),
            node("Add", "e one", "o"),
            node("Mul", "x o", "p"),
            node("Mul", "p half", "m"),
        ],
        {"root": scalar(2**0.5), "one": scalar(1), "half": scalar(0.5)},
    ),
    "gelu, halved first": (
        "gelu",
        [
            node("Mul", "x root", "a"),
            node("Erf", "a", "e"),
            node("Add", "one e", "o"),
            node("Mul", "half x", "p"),
            node("Mul", "p o", "m"),
        ],
        {"root": scalar(0.5**0.5), "one": scalar(1), "half": scalar(0.5)},
    ),
    "gelu by tanh": (
        "gelu",
        [
            node("Pow", "x three", "c"),
            node("Mul", "c small", "s"),
            node("Add", "x s", "a"),
            node("Mul", "a root", "r"),
            node("Tanh", "r", "t"),
            node("Add", "t one", "o"),
            node("Mul", "x o", "p"),
            node("Mul", "p half", "m"),
        ],
        {
            "three": scalar(3),
            "small": scalar(0.044715),
            "root": scalar((2 / np.pi) ** 0.5),
            "one": scalar(1),
            "half": scalar(0.5),
        },
    ),
    "mish": (
        "mish",
        [node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "m")],
        {},
    ),
    "softplus by exp": (
        "softplus",
        [node("Exp", "x", "e"), node("Add", "e one", "o"), node("Log", "o", "m")],
        {"one": scalar(1)},
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_activation_is_recognised_by_what_it_computes(name: str) -> None:
    known, nodes, stored = SPELLINGS[name]
    made = model([*nodes, *tail("m")], stored, logits=("N", 3))
    module = assert_equal_logits(made, SHAPE, spread=3)
    calls = [call for call in module.graph.nodes if call.op == "call_function"]
    # the activation, the global pool and the flatten
    assert calls[0].target.__name__ == known
    assert len(calls) == 3


def test_a_compound_that_others_read_keeps_its_parts() -> None:
    # s = σ(x); m = x·s + s: the product is SiLU, and σ stays for the sum
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s x", "p"), node("Add", "p s", "m")]
    module = assert_equal_logits(model([*nodes, *tail("m")], {}, logits=("N", 3)), SHAPE)
    calls = [call.target.__name__ for call in module.graph.nodes if call.op == "call_function"]
    assert calls[:3] == ["sigmoid", "silu", "add"]


def test_a_layer_that_others_read_is_not_folded_into() -> None:
    # y = conv(x)·2 + conv(x): folding the 2 into the weights would double both
    nodes = [node("Conv", "x k", "c"), node("Mul", "c two", "t"), node("Add", "t c", "m")]
    stored = weights(k=(4, 3, 3, 3)) | {"two": scalar(2)}
    assert_equal_logits(model([*nodes, *tail("m")], stored), SHAPE)


REFUSED: dict[str, tuple[list[NodeProto], Weights, str]] = {
    "unknown operator": ([node("Det", "x", "m")], {}, r"node 0 'Det_m' \(Det of x\).*unsupported"),
    "Erf alone": ([node("Erf", "x", "m")], {}, r"'Erf_m'.*on its own.*GELU"),
    "argmax": ([node("ArgMax", "x", "m")], {}, r"ArgMax.*ends in logits"),
    "quantised": ([node("QuantizeLinear", "x s", "m")], {"s": floats(1)}, "float32"),
    "constant per pixel": (
        [node("Add", "x c", "m")],
        weights(c=(1, 3, 8, 8)),
        r"Add_m.*from pixel to pixel.*per channel",
    ),
    "convolution of another width": (
        [node("Conv", "x k", "m")],
        weights(k=(4, 5, 3, 3)),
        r"Conv_m.*3 channels.*input",
    ),
    "pool over padding that is not counted": (
        [node("AveragePool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[2, 2, 0, 0])],
        {},
        r"AveragePool_m.*count_include_pad",
    ),
    "batch that is mixed": (
        [node("Reshape", "x t", "m")],
        {"t": ints(1, -1, 8, 8)},
        r"Reshape_m.*batch",
    ),
    "quotient": ([node("Relu", "x", "r"), node("Div", "x r", "m")], {}, r"Div_m.*on its own"),
    "batch statistics": (
        [node("BatchNormalization", "x a a a a", "m", training_mode=1)],
        {"a": floats(1, 1, 1)},
        r"training_mode=1.*eval\(\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_imported_is_named_with_a_remedy(name: str) -> None:
    nodes, stored, message = REFUSED[name]
    made = model([*nodes, *tail("m")], stored, opset=14, logits=("N", None))
    with pytest.raises(BadInput, match=message):
        imported(made, SHAPE)
