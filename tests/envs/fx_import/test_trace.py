"""From code to operators: hand-worked networks, names, weights, and tensors written over.

How one call may be spelled stands in ``test_spellings.py``; what is refused, and how, in
``test_refusals.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from edge.errors import BadInput
from envs.compression.surgery import load
from envs.fx_import.trace import Traced, agrees, describe, trace
from envs.graph.check import check_spec
from envs.graph.netspec import INPUT
from tests.envs.blocks import Call
from tests.envs.networks import Classifier, classifiers
from tests.envs.tracing import chain, faithful

Function = Callable[[Tensor], Tensor]


def told(traced: Traced) -> list[str]:
    """One line per node: what it is called, what it does, and to what."""
    return [
        f"{node.name}: {node.op} of {', '.join(node.inputs)} -> {'×'.join(map(str, node.shape))}"
        for node in traced.spec.nodes
    ]


@given(classifiers())
@settings(max_examples=30)
def test_what_is_traced_would_pass_as_a_bundle(teacher: Classifier) -> None:
    traced = describe(teacher.module, teacher.input_shape)
    check_spec(traced.spec)
    rebuilt = load(traced.spec, traced.weights).eval()
    assert agrees(teacher.module, rebuilt, teacher.images())


# -- hand-worked instances ---------------------------------------------------------------------


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gate = nn.Sequential(nn.Linear(4, 2), nn.ReLU(True), nn.Linear(2, 4), nn.Sigmoid())
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        n, c, _, _ = x.size()
        gate = self.gate(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)
        x = x * gate.expand_as(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_squeeze_and_excite() -> None:
    """A view of one pixel is a flatten, and a vector as a pixel an unsqueeze; expand is nothing."""
    assert told(faithful(SqueezeExcite(), (3, 6, 6))) == [
        f"conv: conv2d of {INPUT} -> 4×4×4",
        "adaptive_avg_pool2d: adaptive_avg_pool2d of conv -> 4×1×1",
        "view: flatten of adaptive_avg_pool2d -> 4",
        "gate.0: linear of view -> 2",
        "gate_1: relu of gate.0 -> 2",
        "gate.2: linear of gate_1 -> 4",
        "gate_3: sigmoid of gate.2 -> 4",
        "expand_as: unsqueeze of gate_3 -> 4×1×1",
        "mul: mul of conv, expand_as -> 4×4×4",
        "mean: adaptive_avg_pool2d of mul -> 4×1×1",
        "mean_1: flatten of mean -> 4",
        "fc: linear of mean_1 -> 2",
    ]


class ShuffleUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.conv(right)), dim=1)
        n, c, h, w = x.shape
        assert c % 2 == 0
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
        return x.view(n, -1, h, w)


def test_channel_split_and_shuffle() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 3), ShuffleUnit(), nn.Flatten(), nn.Linear(24, 2))
    traced = faithful(net, (1, 4, 4))
    assert told(traced) == [
        f"0: conv2d of {INPUT} -> 6×2×2",
        "chunk: slice of 0 -> 3×2×2",
        "chunk_1: slice of 0 -> 3×2×2",
        "1.conv: conv2d of chunk_1 -> 3×2×2",
        "cat: cat of chunk, 1.conv -> 6×2×2",
        "_2_shuffle: shuffle of cat -> 6×2×2",
        "_2: flatten of _2_shuffle -> 24",
        "3: linear of _2 -> 2",
    ]
    assert traced.spec["_2_shuffle"].attrs == {"groups": 2}
    assert traced.spec["chunk_1"].attrs == {"start": 3, "stop": 6}


class ConvNeXtBlock(nn.Module):
    """Channels last between two permutes, and a scale of its own (LayerScale)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.LayerNorm(4)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)
        self.gamma = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def test_channels_last_costs_no_operator() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 2), ConvNeXtBlock(), nn.Flatten(), nn.Linear(36, 2))
    traced = faithful(net, (1, 4, 4))
    assert told(traced)[1:-2] == [
        "1.conv: conv2d of 0 -> 4×3×3",
        "1.norm: layer_norm of 1.conv -> 4×3×3",
        "1.up: linear of 1.norm -> 8×3×3",
        "gelu: gelu of 1.up -> 8×3×3",
        "1.down: linear of gelu -> 4×3×3",
        "mul: affine of 1.down -> 4×3×3",
        "add: add of 0, mul -> 4×3×3",
    ]
    assert traced.spec["1.up"].attrs["dims"] == 2
    # a constant of the arithmetic belongs to no layer of the module, so its node owns it
    assert set(net.state_dict()) - set(traced.weights) == {"1.gamma"}
    assert torch.equal(traced.weights["mul.weight"], net.state_dict()["1.gamma"])


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 4, 2, padding="same"), nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.relu(self.norm(self.conv(x))), 2)
        return torch.log_softmax(self.fc(x.mean(-1)), dim=-1)


def test_a_network_of_signals() -> None:
    """An even kernel that keeps the length pads one more on the right; the end is left out."""
    traced = describe(Signal().eval(), (2, 6))
    assert told(traced) == [
        f"conv_pad: pad of {INPUT} -> 2×7",
        "conv: conv1d of conv_pad -> 4×6",
        "norm: batch_norm of conv -> 4×6",
        "relu: relu of norm -> 4×6",
        "max_pool1d: max_pool1d of relu -> 4×3",
        "mean: adaptive_avg_pool1d of max_pool1d -> 4×1",
        "mean_1: flatten of mean -> 4",
        "fc: linear of mean_1 -> 3",
    ]
    assert traced.spec["conv_pad"].attrs["padding"] == [[0, 1]]


def test_a_softmax_at_the_end_is_left_out_and_noted() -> None:
    convolution = nn.Conv2d(1, 3, 4)
    net = nn.Sequential(convolution, nn.Softmax(1), nn.Flatten()).eval()
    traced = describe(net, (1, 4, 4))
    assert [node.op for node in traced.spec.nodes] == ["conv2d", "flatten"]
    assert traced.notes == (
        "the softmax at the end (node '_1') is left out: students learn from logits",
    )
    images = torch.randn(3, 1, 4, 4)
    logits = load(traced.spec, traced.weights).eval()(images)
    assert torch.allclose(logits.softmax(1), net(images), atol=1e-6)


def test_a_batch_norm_that_averages_for_ever_is_noted() -> None:
    traced = faithful(chain(nn.BatchNorm2d(4, momentum=None)), (1, 8, 8))
    assert traced.spec["1"].attrs["momentum"] == 0.1
    assert "students average with momentum 0.1" in traced.notes[0]


def test_weights_are_the_modules_own() -> None:
    net = chain(nn.BatchNorm2d(4), nn.PReLU(4), nn.GroupNorm(2, 4))
    state, weights = net.state_dict(), faithful(net, (1, 8, 8)).weights
    assert set(weights) == set(state)
    assert all(torch.equal(weights[key], state[key]) for key in state)


def test_modes_stay_as_they_are() -> None:
    net = chain(nn.Dropout(), nn.BatchNorm2d(4)).train()
    net[1].eval()
    before = [part.training for part in net.modules()]
    traced = describe(net, (1, 8, 8))
    assert [part.training for part in net.modules()] == before
    assert "dropout" not in " ".join(told(traced))


def test_a_layer_may_be_called_input() -> None:
    net = nn.Sequential(
        OrderedDict(input=nn.Conv2d(1, 2, 8), flat=nn.Flatten(), image=nn.Linear(2, 2))
    )
    assert [node.name for node in trace(net, (1, 8, 8)).nodes] == ["input", "flat", "image"]


def test_names_of_layers_are_kept_free() -> None:
    """The call F.relu is named after its function, unless a layer has that name."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.relu_1 = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu_1(F.relu(self.relu(x.flatten(1))))  # type: ignore[no-any-return]

    names = [node.name for node in faithful(Net(), (1, 2, 2)).spec.nodes]
    assert names == ["flatten", "relu", "relu_1_1", "relu_1"]


def test_what_the_logits_do_not_need_may_be_anything() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 9)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.flatten(x, 1)
            torch.cumsum(self.unused(x), 1)
            return self.used(x)  # type: ignore[no-any-return]

    traced = faithful(Net(), (1, 2, 2))
    assert [node.name for node in traced.spec.nodes] == ["flatten", "used"]
    assert set(traced.weights) == {"used.weight", "used.bias"}


# -- writing over tensors ----------------------------------------------------------------------


class Overwriting(nn.Module):
    """Whoever reads a tensor after it was written over reads the new one, by any name."""

    def __init__(self, write: Function) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        alias, view, copy = F.dropout(x, training=False), x.permute(0, 2, 3, 1), x.clone()
        y = self.write(x)
        return y + alias + 2 * view.permute(0, 3, 1, 2) + 3 * copy


def add_in_place(x: Tensor) -> Tensor:
    x += x
    return x


def scale_in_place(x: Tensor) -> Tensor:
    x *= 2
    x -= 1
    x /= 4
    return x


@pytest.mark.parametrize(
    "write",
    [
        nn.ReLU(inplace=True),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(x, True),
        lambda x: x.relu_(),
        torch.relu_,
        lambda x: x.clamp_(0, 6),
        lambda x: x.add_(x),
        lambda x: x.mul_(x.mean((2, 3), keepdim=True)),
        add_in_place,
        scale_in_place,
        # and the same without writing over it
        nn.ReLU(),
        lambda x: F.relu(x),
        lambda x: x.add(x),
    ],
)
def test_operators_in_place(write: Function) -> None:
    faithful(chain(Overwriting(write)), (1, 8, 8))


def halves(x: Tensor, read: str) -> Tensor:
    x = x * 1
    left, right = x[:, :2], x[:, 2:]
    left.sub_(1).relu_()
    return x if read == "x" else torch.cat((left, right), 1)


def test_writing_over_a_part() -> None:
    """The other part is as it was; the whole cannot be read any more."""
    faithful(chain(Call(lambda x: halves(x, "parts"))), (1, 8, 8))
    with pytest.raises(BadInput, match="another view is written over; expected no further use"):
        trace(chain(Call(lambda x: halves(x, "x"))), (1, 8, 8))
