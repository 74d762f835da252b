"""A folded network has fewer modules to run and the same answers, or it is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from teachers.formats.folding import folded
from teachers.formats.zoo import build


def _norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def _at_work(module: nn.Module) -> nn.Module:
    """With statistics and weights as after a training."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module


def test_batch_norms_are_folded_and_the_original_stays() -> None:
    module = _at_work(build("small_cnn", input_shape=(1, 8, 8), classes=10)).train()
    before = _norms(module)
    quick = folded(module, torch.rand(4, 1, 8, 8), "fc")
    assert before > 0
    assert (_norms(module), module.training) == (before, True)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    x = torch.rand(16, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(quick(x), module.eval()(x), atol=1e-5, rtol=1e-5)
    assert quick.get_submodule("fc") is not None


class Sharing(nn.Module):
    """One convolution, and a batch norm for each of its two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.one, self.two = nn.BatchNorm2d(1), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.two(self.conv(self.one(self.conv(x)))), 1)


class Asking(nn.Module):
    """Takes a path that depends on the numbers, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.flatten(self.norm(self.conv(x)), 1)
        return y if y.sum() > 0 else -y


@pytest.mark.parametrize("kind", [Sharing, Asking])
def test_what_cannot_be_folded_is_left_as_it_was(kind: type[nn.Module]) -> None:
    module = _at_work(kind())
    quick = folded(module, torch.rand(4, 1, 2, 2), "conv")
    assert type(quick) is kind
    assert _norms(quick) == _norms(module)
    assert quick is not module
