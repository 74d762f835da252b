"""What the tests of tracing share: small networks around a module, and faithful descriptions."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from envs.compression.surgery import load
from envs.fx_import.trace import Traced, agrees, describe
from envs.graph.check import check_spec
from envs.graph.netspec import Shape


def chain(*modules: nn.Module) -> nn.Sequential:
    """A network of 1×8×8 images that ends in two logits."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), *modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()


def faithful(module: nn.Module, shape: Shape) -> Traced:
    """A description, after its network is rebuilt and gives the module's logits."""
    traced = describe(module.eval(), shape)
    check_spec(traced.spec)
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(7))
    assert agrees(module, load(traced.spec, traced.weights).eval(), images)
    return traced


#: negative numbers and large ones included
IMAGES = 3 * torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(1))


class Head(nn.Module):
    """Logits of anything; the concatenation wants the usual layout, and marks where it begins."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, x], 1)
        return x if x.dim() == 2 else x.flatten(2).mean(2)


def operators(module: nn.Module) -> list[str]:
    """Operators of a module between a convolution and the end, once they are known to agree."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), module, Head()).eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_()
    traced = describe(net, (4, 6, 6))
    check_spec(traced.spec)
    with warnings.catch_warnings():
        # even kernels that keep the size, and batch norms without statistics of their own
        warnings.simplefilter("ignore", UserWarning)
        assert agrees(net, load(traced.spec, traced.weights).eval(), IMAGES)
    found = [node.op for node in traced.spec.nodes]
    head = max(number for number, op in enumerate(found) if op == "cat")
    return found[1:head]
