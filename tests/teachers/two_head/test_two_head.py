"""The student with two heads: what it computes, what it costs, and how it is kept."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, load
from envs.fx_import.trace import trace
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from teachers.data.datasets import Dataset
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.training import predict
from teachers.networks.small_cnn import SmallCNN
from teachers.two_head.two_head import (
    HEAD,
    TwoHead,
    answer,
    from_bytes,
    score_of,
    split,
    time_both,
    to_bytes,
    two_head_to_onnx,
)

SHAPE = (1, 8, 8)


class ConvolutionAtTheEnd(nn.Module):
    """A classifier as SqueezeNet's: at every pixel of the map, its ReLU and the mean after it."""

    def __init__(self, kernel: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3, padding=1)
        self.classifier = nn.Conv2d(5, 3, kernel)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.classifier(torch.relu(self.stem(x))))
        return x.mean((2, 3))


def _built(module: nn.Module) -> tuple[NetSpec, fx.GraphModule]:
    spec = trace(module, SHAPE)
    return spec, load(spec, module.state_dict()).eval()


def _small(widths: tuple[int, int, int, int] = (4, 6, 6, 12)) -> tuple[NetSpec, fx.GraphModule]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _built(SmallCNN(channels=1, classes=10, widths=widths))


def _two(student: fx.GraphModule, tap: str = "fc") -> TwoHead:
    """With a head that says something."""
    network = TwoHead(student, tap)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        network.head.weight.normal_(generator=generator)
        network.head.bias.fill_(0.5)
    return network


def _images(rows: int) -> Tensor:
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(rows))


def test_a_new_head_leaves_the_logits_to_the_bit_and_knows_nothing() -> None:
    _, student = _small()
    logits, trust = split(TwoHead(student, "fc")(_images(7)))
    assert torch.equal(logits, student(_images(7)))
    assert score_of(trust.detach().numpy()).tolist() == [0.5] * 7


def test_the_head_reads_what_the_classifier_reads(digits: Dataset, grey8: Preprocess) -> None:
    _, student = _small()
    network = _two(student)
    said = answer(network, digits.images[:100], grey8)
    seen = predict(student, digits.images[:100], grey8, tap="fc")
    assert seen.features is not None
    np.testing.assert_array_equal(said.features, seen.features)
    np.testing.assert_array_equal(said.logits, seen.logits)
    expected = seen.features @ network.head.weight.detach().numpy()[0] + 0.5
    np.testing.assert_allclose(said.trust, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(said.score, 1 / (1 + np.exp(-expected)), rtol=0, atol=1e-6)


def test_of_maps_the_head_reads_the_mean_over_all_pixels() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, student = _built(ConvolutionAtTheEnd())
    network = _two(student, "classifier")
    logits, trust = split(network(_images(3)))
    assert torch.equal(logits, student(_images(3)))
    mean = torch.relu(student.get_submodule("stem")(_images(3))).mean((2, 3))
    torch.testing.assert_close(trust, network.head(mean)[:, 0])


def test_the_cost_by_hand() -> None:
    # 12 features: 12 weights and a bias of 4 bytes each, one multiplication per weight
    _, student = _small()
    added = TwoHead(student, "fc").added()
    assert (added.parameters, added.bytes, added.macs) == (13, 52, 12)
    count = sum(p.numel() for p in TwoHead(student, "fc").parameters())
    assert count == sum(p.numel() for p in student.parameters()) + 13


def test_the_student_is_copied() -> None:
    _, student = _small()
    before = copy.deepcopy(student.state_dict())
    network = TwoHead(student, "fc").train()
    network(_images(8)).square().mean().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(parameter.grad if parameter.grad is not None else 0)
    assert not torch.equal(network.state_dict()["fc.weight"], before["fc.weight"])
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not student.training
    assert HEAD not in dict(student.named_modules())


def test_a_copy_is_a_two_head_student_too() -> None:
    # averaged weights and trials are made of copies
    _, student = _small()
    network = _two(student)
    other = copy.deepcopy(network)
    assert isinstance(other, TwoHead)
    assert other.tap == "fc"
    assert torch.equal(other(_images(2)), network(_images(2)))


def test_the_student_alone_comes_back_out() -> None:
    spec, student = _small()
    alone = load(spec, _two(student).student_weights()).eval()
    assert torch.equal(alone(_images(4)), student(_images(4)))


def test_other_last_layers_are_refused() -> None:
    _, student = _built(ConvolutionAtTheEnd(kernel=3))
    with pytest.raises(BadInput, match=r"Conv2d\(5, 3, kernel_size=\(3, 3\).*1×1 convolution"):
        TwoHead(student, "classifier")
    with pytest.raises(ValueError, match="no layer 'fc'"):
        TwoHead(student, "fc")


def test_a_layer_of_the_same_name_is_refused() -> None:
    net = nn.Sequential()
    net.add_module("flatten", nn.Flatten())
    net.add_module(HEAD, nn.Linear(64, 8))
    net.add_module("last", nn.Linear(8, 3))
    with pytest.raises(BadInput, match=f"{HEAD}.*Rename"):
        TwoHead(_built(net)[1], "last")


class TestKept:
    """One safetensors file and the student's description rebuild it."""

    def test_there_and_back(self) -> None:
        spec, student = _small()
        network = _two(student)
        network.train()(_images(16))  # batch norms have seen something
        again = from_bytes(parse_netspec(spec.to_json()), to_bytes(network))
        assert not again.training
        assert torch.equal(again(_images(5)), network.eval()(_images(5)))

    def test_damage_is_refused(self) -> None:
        spec, student = _small()
        content = to_bytes(_two(student))
        with pytest.raises(BadInput, match="two-head student cannot be used"):
            from_bytes(spec, content[:-40])
        with pytest.raises(BadInput, match="do not fit the network description"):
            from_bytes(_small((4, 6, 6, 8))[0], content)

    @pytest.mark.parametrize("tap", ["conv1", "training", "__class__", "", 7, None])
    def test_a_wrong_tap_in_the_file_is_refused(self, tap: object) -> None:
        spec, student = _small()
        stored = Checkpoint.from_bytes(to_bytes(_two(student)))
        with pytest.raises(BadInput):
            from_bytes(spec, Checkpoint(stored.arrays, {"tap": tap}).to_bytes())
        # (of the true one the same file is good)
        from_bytes(spec, Checkpoint(stored.arrays, {"tap": "fc"}).to_bytes())

    @pytest.mark.parametrize("weight", [None, np.zeros((1, 11), np.float32)])
    def test_a_head_that_does_not_fit_is_refused(self, weight: np.ndarray | None) -> None:
        spec, student = _small()
        stored = Checkpoint.from_bytes(to_bytes(_two(student)))
        arrays = {name: a for name, a in stored.arrays.items() if name != f"{HEAD}.weight"}
        if weight is not None:
            arrays[f"{HEAD}.weight"] = weight
        with pytest.raises(BadInput, match=r"predictor_head.weight of shape"):
            from_bytes(spec, Checkpoint(arrays, stored.meta).to_bytes())


def _compare(content: bytes, network: TwoHead, student: nn.Module) -> None:
    """ONNX Runtime against torch, at two sizes of a batch."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["image"]
    assert [given.name for given in session.get_outputs()] == ["logits", "score"]
    assert [len(given.shape) for given in session.get_outputs()] == [2, 1]
    for rows in (1, 5):
        logits, score = session.run(None, {"image": _images(rows).numpy()})
        with torch.no_grad():
            expected, trust = split(network.eval()(_images(rows)))
            plain = student(_images(rows))
        np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(logits, plain.numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(score, torch.sigmoid(trust).numpy(), rtol=0, atol=1e-5)
        assert score.dtype == np.float32
        assert score.shape == (rows,)


class TestExported:
    """Exporting takes seconds, so that each of these asks for all that it can."""

    def test_a_convolution_as_classifier_and_no_detour(self) -> None:
        _, student = _built(ConvolutionAtTheEnd())
        network = _two(student, "classifier").train()
        content = two_head_to_onnx(network, SHAPE)
        assert network.training
        # what training sees as one tensor was never put together: nothing is joined or cut
        operators = [node.op_type for node in onnx.load_from_string(content).graph.node]
        assert not {"Concat", "Slice", "Gather", "Split"} & set(operators)
        assert operators.count("Conv") == 2
        assert operators.count("Sigmoid") == 1
        _compare(content, network, student)

    def test_a_student_with_a_layer_removed(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            teacher = SmallCNN(channels=1, classes=10, widths=(8, 8, 8, 12)).eval()
        spec = trace(teacher, SHAPE)
        moves = Moves((0.0, 0.5, 1.0), "o")
        actions = [1, 0, 1, 1, 2]  # conv2 is gone, the other convolutions have half their channels
        student = compress(spec, moves, actions)
        module = Inheritance.of(spec, teacher.state_dict()).student(student, 0).eval()
        network = _two(module, anatomy(spec).layers[-1].node)
        assert network.head.in_features == 6
        _compare(two_head_to_onnx(network, SHAPE), network, module)


def _products(width: int) -> bytes:
    """A graph that multiplies its input, 1×width, with a square matrix."""
    matrix = numpy_helper.from_array(np.ones((width, width), np.float32), "matrix")
    shape: list[str | int | None] = ["batch", width]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "matrix"], ["logits"])],
        "products",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [matrix],
    )
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def test_the_two_are_timed_against_each_other() -> None:
    # the second has 16,384 times the work: it is slower whatever else the machine does
    timing = time_both(_products(8), _products(1024), rounds=3)
    assert timing.ratio == timing.two_head_ms / timing.student_ms > 1.5
