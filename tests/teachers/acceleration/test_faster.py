from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from teachers.acceleration.faster import LEAST_NUMBERS, FoldedBatchNorm, faster


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.uniform_(-2, 2)
        norm.bias.uniform_(-1, 1)
    return norm


def _batch(channels: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    rows = -(-2 * LEAST_NUMBERS // (channels * side * side * 32)) * 32
    x = 3 * torch.randn(rows, channels, side, side) + torch.arange(channels).view(1, -1, 1, 1)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


@settings(max_examples=8, deadline=None)
@given(
    channels=st.integers(1, 31),
    side=st.integers(5, 12),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_folding_changes_neither_results_nor_gradients_nor_statistics(
    channels: int, side: int, relu: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = _norm(channels)
    folded = copy.deepcopy(plain)
    folded.__class__ = FoldedBatchNorm
    folded.relu = relu  # type: ignore[assignment]
    one = _batch(channels, side).requires_grad_()
    two = one.detach().clone().requires_grad_()
    above = torch.randn(one.shape).contiguous(memory_format=torch.channels_last)
    y = plain(one)
    y = F.relu(y) if relu else y
    z = folded(two)
    assert z.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(z, y, atol=1e-4, rtol=1e-4)
    # where y is all but 0, rounding decides whether the ReLU lets a gradient through
    above = above * (y.abs() > 1e-3)
    y.backward(above)
    z.backward(above)
    assert one.grad is not None
    torch.testing.assert_close(two.grad, one.grad, atol=1e-4, rtol=1e-3)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(folded.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    for mine, theirs in zip(folded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-2, rtol=1e-4)
    with torch.no_grad():
        expected = plain.eval()(one)
        expected = F.relu(expected) if relu else expected
        torch.testing.assert_close(folded.eval()(two), expected, atol=1e-4, rtol=1e-4)


def test_bf16_maps_keep_their_statistics_in_fp32() -> None:
    torch.manual_seed(0)
    plain = _norm(10)
    folded = copy.deepcopy(plain)
    folded.__class__ = FoldedBatchNorm
    folded.relu = False  # type: ignore[assignment]
    x = _batch(10, 28, torch.bfloat16)
    y, z = plain(x), folded(x)
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z, y, atol=0.05, rtol=0.01)
    torch.testing.assert_close(folded.running_var, plain.running_var, atol=1e-4, rtol=1e-4)


class Network(nn.Module):
    """Two batch norms with a ReLU behind each; the second one's input is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(10)
        self.conv2 = nn.Conv2d(10, 10, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(10)

    def forward(self, x: Tensor) -> Tensor:
        """N×1×H×W → N×10."""
        x = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(x))
        y = F.relu(torch.add(F.relu(y), y))
        return y.mean((2, 3))


@pytest.mark.parametrize("rows", [2, 64])  # below and above the size from which folding pays
def test_a_network_gives_the_same_and_is_left_as_it_was(rows: int) -> None:
    torch.manual_seed(0)
    module = fx.symbolic_trace(Network()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    code = module.code
    x = torch.randn(rows, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    other = copy.deepcopy(module)
    kinds = [type(part) for part in other.modules()]
    module(x).square().mean().backward()
    with faster(other):
        assert other.code.count("relu") < code.count("relu")
        # a ReLU is taken in only where nobody else reads what the norm wrote
        assert [part.relu for part in other.modules() if isinstance(part, FoldedBatchNorm)] == [
            True,
            False,
        ]
        other(x).square().mean().backward()
    assert other.code == code
    assert [type(part) for part in other.modules()] == kinds
    for (name, mine), theirs in zip(other.named_parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-3, msg=name)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_a_copy_made_meanwhile_is_a_network_of_its_own() -> None:
    module = fx.symbolic_trace(Network())
    x = torch.randn(64, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    with faster(module):
        twin = copy.deepcopy(module)
        twin(x)
    name = "norm1.running_mean"
    assert not torch.equal(twin.state_dict()[name], module.state_dict()[name])
