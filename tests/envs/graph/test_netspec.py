"""The description as JSON: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from envs.compression.surgery import build
from envs.graph.check import MOST_NUMBERS, check_spec, parse_netspec
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.gym.toy import toy_spec

Document = dict[str, Any]


def document() -> Document:
    """The toy's description, as a bundle would carry it, with a resize for good measure."""
    data: Document = json.loads(toy_spec().to_json())
    names = [node["name"] for node in data["nodes"]]
    head = names.index("flatten")
    attrs = {"source": [1, 1], "size": [1, 1]}
    resize = {"name": "r", "op": "resize", "inputs": ["pool"], "attrs": attrs, "shape": [10, 1, 1]}
    data["nodes"][head]["inputs"] = ["r"]
    data["nodes"].insert(head, resize)
    return data


def node(data: Document, name: str) -> Document:
    found: Document = next(node for node in data["nodes"] if node["name"] == name)
    return found


def test_what_is_written_comes_back() -> None:
    data = document()
    spec = parse_netspec(json.dumps(data))
    assert json.loads(spec.to_json()) == data
    assert spec.input_shape == (1, 8, 8)
    assert spec.classes == 2
    assert spec["add"] == Node("add", "add", ("relu", "outer"), {}, (10, 8, 8))
    assert spec.consumers["relu"] == ("inner", "add")
    assert spec.consumers[INPUT] == ("stem",)
    assert spec.consumers["head"] == ()
    assert spec.shape_of(INPUT) == (1, 8, 8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "netspec",
        "[]",
        "null",
        "3",
        "{}",
        '{"format": 2}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": {}}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": []}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": [3]}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": [null]}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": [{}]}',
        '{"format": 2, "format": 2, "input_shape": [1, 8, 8], "nodes": []}',
        '{"format": 2, "input_shape": [1, 8, 8], "nodes": [], "more": 1}',
        '{"format": NaN, "input_shape": [1, 8, 8], "nodes": []}',
        "[" * 100_000,
        "9" * 10_000,
        "\ud800",
    ],
)
def test_a_text_that_is_no_description(text: str) -> None:
    with pytest.raises(BadInput, match="network description"):
        parse_netspec(text)


def test_another_format() -> None:
    message = "another format: got 1; expected 2. Read it with the version .* that wrote it"
    with pytest.raises(BadInput, match=message):
        parse_netspec(json.dumps(document() | {"format": 1}))


def _set(name: str, key: str, value: object) -> Callable[[Document], None]:
    def change(data: Document) -> None:
        node(data, name)[key] = value

    return change


def _attr(name: str, key: str, value: object) -> Callable[[Document], None]:
    def change(data: Document) -> None:
        node(data, name)["attrs"][key] = value

    return change


def _drop(name: str, *path: str) -> Callable[[Document], None]:
    def change(data: Document) -> None:
        part = node(data, name)
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]

    return change


def _image(*shape: object) -> Callable[[Document], None]:
    return lambda data: data.update(input_shape=list(shape))


def _inside(data: Document) -> None:
    node(data, "head")["name"] = "stem.head"


def _around(data: Document) -> None:
    node(data, "stem")["name"] = "head.stem"
    node(data, "norm")["inputs"] = ["head.stem"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # missing and unknown keys
        (_drop("stem", "op"), "node 0 .*missing key: got no op"),
        (_drop("stem", "attrs"), "node 0 .*attrs: got None; expected an object"),
        (_drop("stem", "attrs", "kernel"), "'stem' has other attributes than conv2d"),
        (_attr("stem", "colour", 3), "'stem' has other attributes than conv2d: got .*colour"),
        (_attr("relu", "inplace", True), "'relu' has other attributes than relu"),
        (_attr("flatten", "start_dim", 0), "'flatten' has other attributes"),
        # types
        (_set("stem", "name", 3), "node 0 .*name: got 3; expected text"),
        (_set("stem", "inputs", INPUT), "node 0 .*inputs: got <image>; expected a list"),
        (_set("stem", "inputs", [3]), r"node 0 .*inputs\[0\]: got 3; expected text"),
        (_set("stem", "shape", [10, 8.0, 8]), r"shape\[1\]: got 8.0; expected a whole number"),
        (_set("stem", "shape", [10, True, 8]), r"shape\[1\]: got true; expected a whole number"),
        (_set("stem", "attrs", []), "attrs: got .*; expected an object"),
        (_attr("stem", "out", True), "'out' of node 'stem': got True; expected a whole number"),
        (_attr("stem", "out", 10.0), "'out' of node 'stem': got 10.0; expected a whole number"),
        (_attr("stem", "out", "10"), "'out' of node 'stem': got 10; expected a whole number"),
        (_attr("stem", "bias", 0), "'bias' of node 'stem': got 0; expected true or false"),
        (
            _attr("stem", "kernel", 3),
            "'kernel' of node 'stem': got 3; expected a list of 2, each a",
        ),
        (_attr("stem", "kernel", [3]), r"'kernel' of node 'stem': got \[3\]; expected a list of 2"),
        (_attr("stem", "kernel", [3, [3]]), "'kernel' of node 'stem'"),
        (_attr("stem", "kernel", {"3": 3}), "'kernel' of node 'stem'"),
        (_attr("norm", "eps", "1"), "'eps' of node 'norm': got 1; expected a number from 0 to 1"),
        (_attr("norm", "momentum", None), "'momentum' of node 'norm'"),
        (_attr("norm", "dims", 3), "'dims' of node 'norm': got 3; expected one of 0, 1, 2"),
        (_attr("norm", "dims", True), "'dims' of node 'norm': got True"),
        # sizes
        (_attr("stem", "out", 0), "'out' of node 'stem': got 0; expected a whole number from 1"),
        (_attr("stem", "out", -4), "'out' of node 'stem': got -4"),
        (_attr("stem", "out", 10**9), "'out' of node 'stem': got 1000000000; .* to 1000000"),
        (_attr("stem", "stride", [0, 1]), "'stride' of node 'stem'"),
        (_attr("stem", "padding", [-1, 0]), "'padding' of node 'stem'"),
        (_attr("stem", "dilation", [10**9, 1]), "'dilation' of node 'stem'"),
        (_attr("stem", "groups", 0), "'groups' of node 'stem': got 0; expected a whole number"),
        (_attr("pool", "size", [10**9, 1]), "'size' of node 'pool'"),
        (_attr("pool", "size", [10**6, 10**6]), "'pool' claims a wrong shape"),
        (_image(1), r"input has an impossible shape: got \(1,\)"),
        (_image(1, 8, 8, 8), "input has an impossible shape"),
        (_image(0, 8, 8), "input has an impossible shape"),
        (_image(1, -8, 8), "input has an impossible shape"),
        (_image(1, 8, 10**9), "input has an impossible shape"),
        (_image(1, 8, 8.0), r"input_shape\[2\]: got 8.0"),
        # shapes that do not follow
        (_image(1, 8), "'stem' does not fit: got convolution wants a map with two axes"),
        (_attr("stem", "groups", 2), "'stem' does not fit: got 2 groups do not divide 1 and 10"),
        (_attr("norm", "dims", 1), "'norm' does not fit: got batch norm wants a map with one axis"),
        (_image(3, 8, 8), "'stem' does not fit: got convolution of 1 channels is given 3"),
        (
            _set("stem", "shape", [10, 8, 9]),
            r"'stem' claims a wrong shape: .*expected \(10, 8, 8\)",
        ),
        (_set("stem", "shape", []), "'stem' claims a wrong shape"),
        (
            _attr("stem", "kernel", [99, 3]),
            "'stem' does not fit: got the result would have the shape",
        ),
        (_attr("inner", "in", 9), "'inner' does not fit"),
        (_attr("norm", "features", 9), "'norm' does not fit"),
        (_attr("head", "in", 11), "'head' does not fit"),
        (_attr("r", "source", [2, 1]), "'r' does not fit: got resize of maps of"),
        # order, names, operators
        (_set("stem", "op", "exec"), "'stem' has an unknown operator: got exec"),
        (_set("stem", "inputs", ["head"]), "'stem' is out of place"),
        (_set("stem", "inputs", ["stem"]), "'stem' is out of place"),
        (_set("stem", "inputs", []), "'stem' is out of place"),
        (_set("stem", "inputs", [INPUT, INPUT]), r"'stem' is out of place.*expected 1 that"),
        (_set("add", "inputs", ["relu"]), "'add' is out of place: .*expected 2 that earlier"),
        (_set("norm", "name", "stem"), "a name stands twice: got stem"),
        (_set("stem", "name", INPUT), "name of a layer cannot be used"),
        (_set("stem", "name", ""), "name of a layer cannot be used: got ''"),
        (_set("stem", "name", "a..b"), "name of a layer cannot be used"),
        (_set("stem", "name", "a" * 10**6), "name of a layer cannot be used"),
        (_set("stem", "name", "forward"), "path of a layer: got forward"),
        (_set("stem", "name", "a.class"), "path of a layer: got a.class"),
        (_inside, "path of a layer: got stem.head; expected a path of its own"),
        (_around, "path of a layer: got head; expected a path of its own"),
        # no logits
        (lambda data: data["nodes"].pop(), None),
        (lambda data: data["nodes"].__delitem__(slice(9, None)), "the network ends in a map"),
    ],
)
def test_a_description_that_was_tampered_with(
    change: Callable[[Document], None], message: str | None
) -> None:
    data = document()
    change(data)
    if message is None:  # a network that ends in the flattened mean is one
        assert parse_netspec(json.dumps(data)).classes == 10
        return
    with pytest.raises(BadInput, match=message):
        parse_netspec(json.dumps(data))


@pytest.mark.parametrize(
    "name",
    ['x"), __import__("os").system("true") or getattr(self, "x', "x\nraise SystemExit", "x y", "é"],
)
def test_a_name_cannot_slip_code_into_the_module(name: str) -> None:
    """torch.fx writes the names of layers into Python source and runs it."""
    with pytest.raises(BadInput, match="name of a layer cannot be used"):
        Node(name, "linear", (INPUT,), {"in": 1, "out": 1, "bias": False, "dims": 0}, (1,))


def test_a_tensor_that_would_fill_the_memory_is_refused() -> None:
    """Every number is in reason, and their product is not."""
    pool = Node("p", "adaptive_avg_pool2d", (INPUT,), {"size": [10**6, 10**6]}, (1, 10**6, 10**6))
    flat = Node("f", "flatten", ("p",), {"last": False}, (10**12,))
    with pytest.raises(BadInput, match=f"node 'p' is too large: .*expected {MOST_NUMBERS} numbers"):
        check_spec(NetSpec((1, 1, 1), (pool, flat)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=200)
def test_whatever_one_value_is_replaced_by(data: st.DataObject) -> None:
    """Either the text is refused as bad input, or what it describes can be built."""
    changed: Any = document()
    place = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or data.draw(st.integers(0, 9)) == 0
        ):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    try:
        spec = parse_netspec(json.dumps(changed))
    except BadInput:
        return
    build(spec)
