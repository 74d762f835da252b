"""Files that ship hold what runs, and nothing of the machine that made them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edge.session import Session
from envs.export.export import to_onnx
from envs.export.quantise import to_int8
from envs.export.tidy import described, domains_of, operators_of, tidy


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


def with_debris() -> onnx.ModelProto:
    """y = If(x is long, x, x): both branches, a local function and the ports carry notes."""

    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("Identity", ["x"], [name], doc_string="from /home/me/model.py")
        node.metadata_props.add(key="stack", value="/home/me/model.py:3")
        return helper.make_graph(
            [node], "b", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )

    graph = helper.make_graph(
        [
            helper.make_node(
                "Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))
            ),
            helper.make_node(
                "If", ["yes"], ["z"], then_branch=branch("t"), else_branch=branch("e")
            ),
            helper.make_node("Twice", ["z"], ["y"], domain="mine"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["s77", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.zeros(1000, np.float32), "unread")],
        doc_string="from /home/me/model.py",
    )
    double = [helper.make_node("Add", ["a", "a"], ["b"], doc_string="/home/me")]
    opset = helper.make_opsetid("", 18)
    functions = [
        helper.make_function("mine", name, ["a"], ["b"], double, [opset])
        for name in ("Twice", "Uncalled")
    ]
    model = helper.make_model(
        graph,
        functions=functions,
        ir_version=8,
        opset_imports=[
            opset,
            helper.make_opsetid("mine", 1),
            helper.make_opsetid("com.microsoft", 1),
        ],
    )
    model.metadata_props.add(key="builder", value="/home/me")
    model.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["s77", 2]))
    return model


def test_debris_goes_at_every_depth_and_what_runs_stays() -> None:
    model = tidy(with_debris(), "clean")
    content = model.SerializeToString()
    assert b"/home" not in content
    assert b"s77" not in content
    assert [function.name for function in model.functions] == ["Twice"]
    assert not model.graph.initializer
    assert {item.domain for item in model.opset_import} == {"", "mine"} == domains_of(model)
    onnx.checker.check_model(model, full_check=True)
    rows = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    np.testing.assert_array_equal(Session(content, "clean").run(rows, "y", (2,)), 2 * rows)


@pytest.mark.parametrize("int8", [False, True])
def test_students_name_no_file_of_this_machine_and_one_domain(int8: bool) -> None:
    content = to_onnx(network(), (1, 6, 6))
    if int8:
        content = to_int8(content, [np.random.default_rng(0).random((8, 1, 6, 6), np.float32)])
    for trace in (b"site-packages", b"stack_trace", b"pkg.torch", b"torch.nn"):
        assert trace not in content
    assert operators_of(content) == {"ai.onnx": 18}
    model = onnx.load_model_from_string(content)
    assert [item.domain for item in model.opset_import] == [""]
    for port in (*model.graph.input, *model.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_file_says_what_it_is_and_runs_as_before() -> None:
    before = to_onnx(network(), (1, 6, 6))
    after = described(before, "A student.", {"class_names": '["a", "b", "c"]'})
    model = onnx.load_model_from_string(after)
    assert model.doc_string == "A student."
    assert [(p.key, p.value) for p in model.metadata_props] == [("class_names", '["a", "b", "c"]')]
    images = np.ones((2, 1, 6, 6), np.float32)
    np.testing.assert_array_equal(
        Session(before, "a").run(images, "logits", (3,)),
        Session(after, "b").run(images, "logits", (3,)),
    )


def test_the_same_network_gives_the_same_bytes() -> None:
    assert to_onnx(network(), (1, 6, 6)) == to_onnx(network(), (1, 6, 6))
