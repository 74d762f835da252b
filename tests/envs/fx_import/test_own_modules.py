"""Modules of one's own: looked into, or known by what they are built on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.fx_import.trace import describe
from tests.envs.blocks import Call
from tests.envs.tracing import Head, chain, faithful, operators


class OwnConv(nn.Conv2d):
    """Only a name."""


class Standardised(nn.Conv2d):
    """Weights that are standardised in every forward pass."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        x = input.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class WrittenOut(nn.Module):
    """Layer norm over channels in one's own words."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Frozen(nn.Module):
    """Batch norm of buffers alone."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "mean", "var"):
            self.register_buffer(name, torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + 1e-5).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class Normalised(nn.Module):
    """An image, less the mean of its data over their deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # buffers that are called as methods of tensors are
        self.register_buffer("mean", torch.rand(1, 4, 1, 1))
        self.register_buffer("std", torch.rand(1, 4, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class SamePadding(nn.Conv2d):
    """Pads as much as the size of its input asks for, a branch that depends on no number."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = (max((size - 1) // 2 * 2 + 3 - size, 0) for size in input.shape[2:])
        x = input
        if height or width:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride)


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.rand(x.shape[0], 1, 1, 1)


@pytest.mark.parametrize(
    ("ops", "module"),
    [
        ("conv2d", OwnConv(4, 4, 3)),
        ("conv2d", Standardised(4, 4, 3, padding=1)),
        ("conv2d", nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))),
        ("layer_norm", LayerNorm2d(4)),
        ("layer_norm affine affine", WrittenOut()),
        ("layer_norm", Call(lambda x: (x - x.mean(1, True)) * (x.var(1, keepdim=True,
         correction=0) + 1e-5).rsqrt())),
        ("affine affine", Frozen()),
        ("affine affine", Normalised()),
        ("pad conv2d", SamePadding(4, 4, 3, 2)),
        ("", DropPath()),
    ],
)  # fmt: skip
def test_a_module_of_ones_own(ops: str, module: nn.Module) -> None:
    assert operators(module) == ops.split()


def test_a_layer_keeps_its_name_where_it_calls_a_function_of_its_weights() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), LayerNorm2d(4), Head())
    assert [node.name for node in describe(net, (4, 6, 6)).spec.nodes][1] == "1"


def test_weights_that_are_used_twice_stand_there_once_per_use() -> None:
    shared = nn.Conv2d(4, 4, 1)
    traced = faithful(chain(shared, nn.ReLU(), shared), (1, 8, 8))
    first, second = traced.weights["1.weight"], traced.weights["1_1.weight"]
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()  # a student trains them apart
    assert traced.notes == (
        "the weights of '1' are used more than once; students have them once per use",
    )
    # what owns no weights may be used as often as one likes
    relu = nn.ReLU()
    assert faithful(chain(relu, relu), (1, 8, 8)).notes == ()


def test_dropout_that_is_never_off_is_left_out_with_a_note() -> None:
    traced = describe(chain(Call(F.dropout)), (1, 8, 8))
    assert [node.op for node in traced.spec.nodes].count("conv2d") == 1
    assert "is on at inference too" in traced.notes[0]
    assert describe(chain(nn.Dropout()), (1, 8, 8)).notes == ()


def test_a_wrapper_for_several_devices_is_looked_into() -> None:
    spec = faithful(nn.DataParallel(chain()), (1, 8, 8)).spec
    assert [node.name for node in spec.nodes if node.op == "conv2d"] == ["module.0"]
