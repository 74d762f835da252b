"""Batch norm as fast as it can be on a processor, for the time of a training.

torch's kernels for channels-last maps go along the channels of one pixel at a time, and fall back
to single numbers where these do not fill the processor's registers: at 3, 10 or 22 channels a batch
norm takes as long as the convolution before it. But the pixels of a map lie one behind the other.
Taking a few of them for one with as many times the channels ("folding") fills the registers, and
the statistics of the folded channels are merged afterwards.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

#: numbers per register that suit every kernel: 64 bytes of bfloat16
REGISTER = 32
#: Speed of folded over torch's own, forward and backward with a ReLU, one thread: 3 to 5 times at 3
#: to 6 channels, 2 at 10 to 13, 1.3 at 22; less than 1 from 32 on, at 16, and in small maps.
MOST_CHANNELS = 31
EVEN = 16
LEAST_NUMBERS = 250_000
#: an eps that some versions of torch accept where they refuse 0, and that adds nothing to 1
NOTHING = 1e-30


#: functions that make a new tensor, which their own gradient does not read
SUMS = (operator.add, torch.add)


@contextmanager
def faster(module: nn.Module) -> Iterator[None]:
    """Within the ``with``, batch norms of ``module`` run folded, with the ReLU behind them."""
    norms = [part for part in module.modules() if type(part) is nn.BatchNorm2d]
    for norm in norms:
        norm.__class__ = FoldedBatchNorm
        cast(FoldedBatchNorm, norm).relu = False
    fused = _fuse(module) if isinstance(module, fx.GraphModule) else None
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
            del norm.relu
        if fused is not None:
            assert isinstance(module, fx.GraphModule)
            module.graph = fused


def _fuse(module: fx.GraphModule) -> fx.Graph:
    """Let batch norms do the ReLU behind them, and a ReLU behind a sum overwrite it.

    Only where nobody else reads what they write. Gives the graph as it was.
    """
    before, graph = module.graph, fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(before, copies)
    graph.output(output)
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not F.relu or len(node.args) != 1:
            continue
        source = node.args[0]
        if len(source.users) != 1:
            continue
        if source.op == "call_module":
            part = module.get_submodule(source.target)
            if type(part) is FoldedBatchNorm:
                part.relu = True
                node.replace_all_uses_with(source)
                graph.erase_node(node)
        elif source.op == "call_function" and source.target in SUMS:
            node.kwargs = {"inplace": True}
    module.graph = graph
    return before


class FoldedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the same parameters, buffers and results, and perhaps a ReLU behind it."""

    relu: bool

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C×H×W."""
        times = self._times(x)
        if times == 0:
            y = super().forward(x)
            return F.relu(y, inplace=True) if self.relu else y
        if not self.training:
            return self._evaluated(x, times)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return cast(Tensor, _Folded.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.running_mean, self.running_var,
            self.momentum, self.eps, times, self.relu,
        ))  # fmt: skip

    def _times(self, x: Tensor) -> int:
        """How many pixels make one; 0 where folding cannot be done, or does not pay."""
        channels, numbers = x.shape[1], x.numel()
        if (
            x.device.type != "cpu"
            or not self.affine
            or self.momentum is None
            or self.running_mean is None
            or numbers < LEAST_NUMBERS
            or channels > MOST_CHANNELS
            or channels % EVEN == 0
            or not x.is_contiguous(memory_format=torch.channels_last)
        ):
            return 0
        times = REGISTER // math.gcd(REGISTER, channels)
        return times if (numbers // channels) % times == 0 else 0

    def _evaluated(self, x: Tensor, times: int) -> Tensor:
        y = F.batch_norm(
            _fold(x, times),
            _some(self.running_mean).repeat(times),
            _some(self.running_var).repeat(times),
            self.weight.repeat(times),
            self.bias.repeat(times),
            False,
            0.0,
            self.eps,
        )
        y = _unfold(y, x)
        return F.relu(y, inplace=not torch.is_grad_enabled()) if self.relu else y


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor,
        running_var: Tensor, momentum: float, eps: float, times: int, relu: bool,
    ) -> Tensor:  # fmt: skip
        folded = _fold(x, times)
        count = x.numel() // x.shape[1]
        wide = folded.shape[1]
        # running statistics are given so that those of the batch come in float32
        means, variances = (
            part.view(times, -1)
            for part in torch.ops.aten.batch_norm_update_stats(
                folded, torch.zeros(wide), torch.ones(wide), 0.0
            )
        )
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
        means, variances = mean.repeat(times), variance.repeat(times)
        y, _, _ = torch.native_batch_norm(
            folded, weight.repeat(times), bias.repeat(times), means, variances, False, 0.0, eps
        )
        if relu:
            y.relu_()
        result = _unfold(y, x)
        ctx.save_for_backward(x, weight, means, variances, result if relu else None)
        ctx.eps, ctx.times = eps, times
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, variances, result = ctx.saved_tensors
        times, channels = ctx.times, x.shape[1]
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        if result is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, result, 0)
        folded, above = _fold(x, times), _fold(gradient, times)
        _, slope, offset = torch.ops.aten.native_batch_norm_backward(
            above, folded, weight.repeat(times), means, variances, None, None, False, ctx.eps,
            [False, True, True],
        )  # fmt: skip
        slope, offset = (part.view(times, channels).sum(0) for part in (slope, offset))
        # Ioffe & Szegedy's gradient, written as a·gradient + b·x + c with numbers per channel
        count = x.numel() // channels
        inverse = (variances[:channels] + ctx.eps).rsqrt()
        a = weight * inverse
        b = -a * inverse * slope / count
        c = -a * offset / count - b * means[:channels]
        a, b, c = (part.repeat(times) for part in (a, b, c))
        zeros, ones = torch.zeros_like(means), torch.ones_like(means)
        # the quickest b·x + c there is, and in float32 whatever the format of x
        below = F.batch_norm(folded, zeros, ones, b, c, False, 0.0, NOTHING)
        below.addcmul_(above, a.to(x.dtype))
        return _unfold(below, x), slope, offset, None, None, None, None, None, None


def _fold(x: Tensor, times: int) -> Tensor:
    """N×C×H×W in channels-last memory → (N·H·W / times)×(times·C), the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, times * x.shape[1])


def _unfold(y: Tensor, like: Tensor) -> Tensor:
    rows, channels, height, width = like.shape
    return y.view(rows, height, width, channels).permute(0, 3, 1, 2)


def _some(value: Tensor | None) -> Tensor:
    assert value is not None
    return value
