"""The table of operators: what an entry says is what torch does, for every member."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.compression.surgery import build
from envs.graph.check import check_spec, parse_netspec
from envs.graph.netspec import INPUT, NetSpec, Node, Shape
from envs.graph.ops import LARGEST, OPS
from envs.graph.ops.base import FLAG, NUMBER, SHARE, SIZE, Ids, one_of, optional
from envs.graph.ops.channels import shuffled

Example = tuple[dict[str, Any], list[Shape]]


def conv(dims: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "in": 4,
        "out": 6,
        "kernel": [3] * dims,
        "stride": [1] * dims,
        "padding": [0] * dims,
        "dilation": [1] * dims,
        "groups": 1,
        "bias": True,
    }
    return plain | changes


def window(dims: int, **changes: Any) -> dict[str, Any]:
    return {"kernel": [3] * dims, "stride": [2] * dims, "ceil": True} | changes


LINE, MAP, VECTOR = (4, 9), (4, 7, 5), (4,)
MAX = {"padding": [1], "dilation": [2]}
MAX_2 = {"padding": [1, 0], "dilation": [1, 2]}
AVG = {"padding": [1], "count_include_pad": False}
AVG_2 = {"padding": [1, 0], "count_include_pad": True}
NORM = {"features": 4, "eps": 1e-5}

#: operator → attributes and shapes of what it may be given
EXAMPLES: dict[str, list[Example]] = {
    "conv1d": [
        (conv(1), [LINE]),
        (conv(1, stride=[2], padding=[3], dilation=[2], groups=2), [LINE]),
    ],
    "conv2d": [
        (conv(2, bias=False), [MAP]),
        (conv(2, kernel=[3, 1], stride=[2, 1], padding=[0, 2], out=8, groups=4), [MAP]),
    ],
    "linear": [
        ({"in": 4, "out": 3, "bias": bias, "dims": len(shape) - 1}, [shape])
        for bias, shape in ((True, VECTOR), (False, LINE), (True, MAP))
    ],
    "batch_norm": [
        (NORM | {"momentum": 0.1, "affine": affine, "dims": len(shape) - 1}, [shape])
        for affine, shape in ((True, VECTOR), (False, LINE), (True, MAP))
    ],
    "group_norm": [
        (NORM | {"groups": 2, "affine": affine, "dims": len(shape) - 1}, [shape])
        for affine, shape in ((True, VECTOR), (False, LINE), (True, MAP))
    ],
    "layer_norm": [
        (NORM | {"weight": weight, "bias": bias, "dims": len(shape) - 1}, [shape])
        for weight, bias, shape in ((True, True, VECTOR), (False, False, LINE), (True, False, MAP))
    ],
    "local_response_norm": [({"size": 3, "alpha": 1e-4, "beta": 0.75, "k": 1.0}, [MAP])],
    "affine": [
        ({"features": 4, "weight": weight, "bias": bias, "dims": len(shape) - 1}, [shape])
        for weight, bias, shape in ((True, True, VECTOR), (False, True, LINE), (True, False, MAP))
    ],
    "prelu": [({"features": 4, "dims": 2}, [MAP]), ({"features": 1, "dims": 0}, [VECTOR])],
    "scalar": [({"scale": 2, "shift": -0.5}, [MAP])],
    "relu": [({}, [MAP])],
    "relu6": [({}, [VECTOR])],
    "leaky_relu": [({"slope": 0.1}, [LINE])],
    "elu": [({"alpha": 1.5}, [MAP])],
    "silu": [({}, [MAP])],
    "gelu": [({"tanh": True}, [MAP]), ({"tanh": False}, [MAP])],
    "hardswish": [({}, [MAP])],
    "sigmoid": [({}, [MAP])],
    "hardsigmoid": [({}, [MAP])],
    "tanh": [({}, [MAP])],
    "mish": [({}, [MAP])],
    "softplus": [({}, [MAP])],
    "clip": [({"low": -1, "high": None}, [MAP]), ({"low": None, "high": 0.5}, [VECTOR])],
    "softmax": [({}, [VECTOR]), ({}, [MAP])],
    "max_pool1d": [(window(1) | MAX, [LINE])],
    "avg_pool1d": [(window(1) | AVG, [LINE])],
    "lp_pool1d": [(window(1, norm=1), [LINE])],
    "max_pool2d": [(window(2) | MAX_2, [MAP])],
    "avg_pool2d": [(window(2) | AVG_2, [MAP])],
    "lp_pool2d": [(window(2, norm=2.0), [MAP])],
    "adaptive_avg_pool1d": [({"size": [2]}, [LINE]), ({"size": [1]}, [LINE])],
    "adaptive_max_pool1d": [({"size": [2]}, [LINE])],
    "adaptive_avg_pool2d": [({"size": [3, None]}, [MAP]), ({"size": [1, 1]}, [MAP])],
    "adaptive_max_pool2d": [({"size": [1, 1]}, [MAP]), ({"size": [2, 3]}, [MAP])],
    "reduce": [({"axis": 1, "kind": "mean"}, [MAP]), ({"axis": 0, "kind": "max"}, [LINE])],
    "reduce_channels": [({"kind": "mean"}, [MAP]), ({"kind": "max"}, [LINE])],
    "add": [({}, [MAP, MAP]), ({}, [MAP, (1, 7, 1)])],
    "mul": [({}, [(4, 1, 1), MAP]), ({}, [VECTOR, VECTOR])],
    "cat": [({}, [MAP, (3, 7, 5), MAP]), ({}, [VECTOR])],
    "shuffle": [({"groups": 2}, [MAP])],
    "select": [({"index": [3, 0, 0]}, [MAP])],
    "slice": [({"start": 1, "stop": 3}, [LINE])],
    "pad_channels": [({"before": 1, "after": 0}, [MAP])],
    "flatten": [({"last": False}, [MAP]), ({"last": True}, [LINE])],
    "flatten_space": [({}, [MAP])],
    "unsqueeze": [({"dims": 1}, [VECTOR]), ({"dims": 2}, [VECTOR])],
    "slice_space": [({"start": [1, 0], "stop": [None, 4], "step": [2, 1]}, [MAP])],
    "pad": [
        ({"padding": [[1, 0], [2, 2]], "mode": "reflect", "value": 0}, [MAP]),
        ({"padding": [[1, 2]], "mode": "constant", "value": 1.5}, [LINE]),
    ],
    "interpolate": [
        ({"size": [3, 9], "scale": None, "mode": "bilinear", "align": True}, [MAP]),
        ({"size": None, "scale": [1.5], "mode": "nearest", "align": False}, [LINE]),
    ],
    "resize": [
        ({"source": [7, 5], "size": [3, 5]}, [MAP]),
        ({"source": [9], "size": [3]}, [LINE]),
    ],
}

CASES = [(op, *example) for op, examples in EXAMPLES.items() for example in examples]


def test_every_operator_has_an_example() -> None:
    assert EXAMPLES.keys() == OPS.keys()


@pytest.mark.parametrize(("op", "attrs", "shapes"), CASES)
class TestContract:
    """What the rest of the package asks of an entry."""

    def run(self, op: str, attrs: dict[str, Any], shapes: Sequence[Shape]) -> Tensor:
        inputs = [torch.rand(2, *shape) for shape in shapes]
        module = OPS[op].module(attrs)
        if module is not None:
            found: Tensor = module.eval()(*inputs)
            return found
        function, options = OPS[op].function(attrs)
        return function(*inputs, **options)

    def test_the_shape_is_that_of_the_result(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        assert OPS[op].shape(attrs, shapes) == tuple(self.run(op, attrs, shapes).shape[1:])

    def test_its_tensors_are_those_of_the_module(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        entry, module = OPS[op], OPS[op].module(attrs)
        assert (module is None) == (not entry.tensors(attrs))
        state: dict[str, Tensor] = {} if module is None else module.state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == entry.tensors(attrs)
        trained = [name for name, _ in (module or nn.Identity()).named_parameters()]
        assert trained == list(entry.parameters(attrs))
        for name, (_, width) in entry.buffers(attrs).items():
            assert state[name].element_size() == width

    def test_attributes_are_plain_and_checked(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        fields = OPS[op].fields
        assert attrs.keys() == fields.keys()
        again = json.loads(json.dumps(attrs))
        for name, field in fields.items():
            assert field.holds(again[name])
            assert not field.holds({})
            assert not field.holds(math.nan)
            assert field.bound

    def test_it_writes_as_many_channels_as_its_shape_says(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        ids = [np.arange(10 * place, 10 * place + shape[0]) for place, shape in enumerate(shapes)]
        tied: list[tuple[Ids, Ids]] = []
        routed = OPS[op].route(
            attrs,
            ids,
            shapes,
            lambda count: np.arange(100, 100 + count),
            lambda first, second: tied.append((first, second)),
        )
        assert len(routed) == OPS[op].shape(attrs, shapes)[0]
        assert all(len(first) == len(second) for first, second in tied)

    def test_many_candidates_are_answered_as_one(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        batch = [tuple(np.full(3, size) for size in shape) for shape in shapes]
        found = OPS[op].infer(attrs, batch)
        expected = OPS[op].shape(attrs, shapes)
        assert all(np.all(size == one) for size, one in zip(found, expected, strict=True))

    def test_another_rank_is_refused(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        if {"dims", "kernel", "size", "padding"} & OPS[op].fields.keys() and op != (
            "local_response_norm"
        ):
            with pytest.raises(ValueError, match="."):
                OPS[op].shape(attrs, [(*shapes[0], 3, 3)])

    def test_a_description_of_it_is_believed_and_built(
        self, op: str, attrs: dict[str, Any], shapes: list[Shape]
    ) -> None:
        """Alone between the image and the logits, where it reads one map."""
        if len(shapes) > 1 or len(shapes[0]) == 1:
            return
        shape = OPS[op].shape(attrs, shapes)
        nodes = [Node("op", op, (INPUT,), attrs, shape)]
        if len(shape) > 1:
            flat = (math.prod(shape),)
            nodes.append(Node("flat", "flatten", ("op",), {"last": False}, flat))
        spec = NetSpec(shapes[0], tuple(nodes))
        check_spec(spec)
        again = parse_netspec(spec.to_json())
        assert build(again)(torch.rand(2, *shapes[0])).shape == (2, spec.classes)


@pytest.mark.parametrize(
    ("op", "attrs", "shapes", "message"),
    [
        ("conv2d", conv(2), [(3, 7, 5)], "convolution of 4 channels is given 3"),
        ("conv2d", conv(2, groups=3), [MAP], "3 groups do not divide 4 and 6 channels"),
        ("conv1d", conv(1), [(4, 2)], "the result would have the shape"),
        ("linear", {"in": 5, "out": 1, "bias": True, "dims": 0}, [VECTOR], "is given 4"),
        ("affine", EXAMPLES["affine"][0][0], [(5,)], "of 4 channels is given 5"),
        ("affine", NORM | {"weight": False, "bias": False, "dims": 0}, [VECTOR], "neither"),
        ("group_norm", EXAMPLES["group_norm"][0][0] | {"groups": 3}, [VECTOR], "do not divide"),
        ("clip", {"low": None, "high": None}, [MAP], "neither a lower nor an upper bound"),
        ("add", {}, [MAP, (4, 7, 6)], "two paths meet"),
        ("add", {}, [MAP, LINE], "two paths meet"),
        ("cat", {}, [MAP, (4, 7, 6)], "maps of different sizes are concatenated"),
        ("shuffle", {"groups": 3}, [MAP], "3 groups do not divide 4"),
        ("select", {"index": [4]}, [MAP], "channel 4 is asked of 4"),
        ("slice", {"start": 2, "stop": 2}, [MAP], "channels 2 to 2"),
        ("slice", {"start": 2, "stop": 5}, [MAP], "channels 2 to 5 are asked of 4"),
        ("flatten", {"last": False}, [VECTOR], "a vector is flattened"),
        ("unsqueeze", {"dims": 2}, [MAP], "only a vector becomes a pixel"),
        ("reduce", {"axis": 1, "kind": "max"}, [LINE], "there is no axis 1"),
        ("max_pool2d", window(2) | MAX_2 | {"padding": [2, 2]}, [MAP], "is padded by"),
        (
            "pad",
            {"padding": [[9, 0]], "mode": "reflect", "value": 0},
            [LINE],
            "reflect padding of .* around 9 pixels",
        ),
        (
            "slice_space",
            {"start": [7, 0], "stop": [None, None], "step": [1, 1]},
            [MAP],
            "the result would have the shape",
        ),
        (
            "interpolate",
            {"size": [3], "scale": [2], "mode": "linear", "align": False},
            [LINE],
            "exactly one of size and scale",
        ),
        (
            "interpolate",
            {"size": [3], "scale": None, "mode": "bilinear", "align": False},
            [LINE],
            "bilinear interpolation is given",
        ),
        ("resize", {"source": [7, 4], "size": [3, 3]}, [MAP], "is given"),
    ],
)
def test_what_does_not_fit_is_refused(
    op: str, attrs: dict[str, Any], shapes: list[Shape], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OPS[op].shape(attrs, shapes)


def test_fields_take_their_own_type_alone() -> None:
    assert SIZE.holds(1)
    assert not any(SIZE.holds(value) for value in (0, -1, True, 1.0, "1", None, LARGEST + 1))
    assert FLAG.holds(False)
    assert not FLAG.holds(0)
    assert SHARE.holds(1)
    assert not SHARE.holds(1.1)
    assert not NUMBER.holds(math.inf)
    assert optional(SIZE).holds(None)
    assert not one_of(0, 1).holds(True)


def test_the_order_after_a_shuffle() -> None:
    # 6 channels in 2 groups: (0 1 2 / 3 4 5), read by columns
    assert shuffled(6, 2).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("kept", [[0, 3], [1, 2, 4], [5], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("shuffle", {"groups": 2}),
        ("select", {"index": [5, 0, 3, 1, 2, 4]}),
        ("slice", {"start": 0, "stop": 6}),
    ],
)
def test_what_is_left_of_an_order_is_that_order_of_what_is_left(
    op: str, attrs: dict[str, Any], kept: list[int]
) -> None:
    entry, x = OPS[op], torch.arange(6.0)[None]
    order = entry.route(attrs, [np.arange(6)], [(6,)], np.arange, lambda first, second: None)
    read = np.isin(np.arange(6), kept)
    written = read[order]
    smaller, attributes = entry.restrict(attrs, read, written)
    function, options = OPS[smaller].function(attributes)
    expected = x[:, order][:, written]
    assert torch.equal(function(x[:, read], **options), expected)
