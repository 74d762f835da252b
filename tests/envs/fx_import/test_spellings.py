"""One call in all its spellings: modules, functions and methods, by position and by name.

Every row is put behind a convolution of four channels of 6×6 pixels; the rebuilt network must
give the same logits, and the operators between must be those of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.errors import BadInput
from envs.fx_import.trace import describe
from tests.envs.blocks import Call
from tests.envs.tracing import Head, operators

Function = Callable[[Tensor], Tensor]


class Weights(nn.Module):
    """A function of an image and of weights of its own."""

    def __init__(self, function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.given = nn.ParameterList(torch.rand(shape) + 0.5 for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.given)


def nhwc(spelling: nn.Module | Function) -> nn.Module:
    """The same on maps whose channels are the last axis."""
    return nn.Sequential(
        Call(lambda x: x.permute(0, 2, 3, 1)),
        spelling if isinstance(spelling, nn.Module) else Call(spelling),
        Call(lambda x: x.permute(0, 3, 1, 2)),
    )


def tokens(*modules: nn.Module) -> nn.Module:
    """Modules on N×(H·W)×C, and back to maps."""
    return nn.Sequential(
        Call(lambda x: x.flatten(2).transpose(1, 2)),
        *modules,
        Call(lambda x: x.transpose(1, 2)),
        nn.Unflatten(2, (6, 6)),
    )


ACTIVATIONS: list[tuple[str, nn.Module | Function]] = [
    ("relu", nn.ReLU()),
    ("relu", torch.relu),
    ("relu", lambda x: F.relu(input=x)),
    ("relu", lambda x: x.relu()),
    ("relu", lambda x: x.clamp(min=0)),
    ("relu6", nn.ReLU6()),
    ("relu6", F.relu6),
    ("relu6", nn.Hardtanh(0.0, 6.0)),
    ("leaky_relu", nn.LeakyReLU(0.3)),
    ("leaky_relu", lambda x: F.leaky_relu(x, negative_slope=0.3)),
    ("leaky_relu", nn.RReLU(0.1, 0.3)),
    ("elu", nn.ELU(0.7)),
    ("elu", lambda x: F.elu(x, 0.7)),
    ("silu", nn.SiLU()),
    ("silu", F.silu),
    ("silu", lambda x: x * torch.sigmoid(x)),
    ("silu", lambda x: x.sigmoid().mul(x)),
    ("hardswish", nn.Hardswish()),
    ("hardswish", F.hardswish),
    ("hardswish", lambda x: x * F.relu6(x + 3) / 6),
    ("hardswish", lambda x: x * (F.relu6(3 + x) / 6.0)),
    ("hardswish", lambda x: F.hardtanh(x + 3, 0, 6) * x * (1 / 6)),
    ("hardswish", lambda x: F.hardsigmoid(x) * x),
    ("hardsigmoid", nn.Hardsigmoid()),
    ("hardsigmoid", lambda x: (x + 3).clamp(0, 6) / 6),
    ("mish", nn.Mish()),
    ("mish", lambda x: x * torch.tanh(F.softplus(x))),
    ("gelu", nn.GELU()),
    ("gelu", lambda x: F.gelu(x, approximate="tanh")),
    ("sigmoid", nn.Sigmoid()),
    ("sigmoid", lambda x: x.sigmoid()),
    ("tanh", nn.Tanh()),
    ("tanh", torch.tanh),
    ("softplus", nn.Softplus()),
    ("clip", nn.Hardtanh()),
    ("clip", lambda x: torch.clamp(x, -1, 2)),
    ("clip", lambda x: x.clamp_max(1)),
    ("softmax", nn.Softmax(1)),
    ("softmax", nn.Softmax2d()),
    ("softmax", nhwc(lambda x: x.softmax(-1))),
    ("scalar", lambda x: x + 1),
    ("scalar", lambda x: 2.5 * x),
    ("scalar", lambda x: x / 4),
    ("scalar", lambda x: x - torch.tensor(3)),
    ("scalar", torch.neg),
    ("scalar scalar", lambda x: 1 - x),
    ("scalar scalar", lambda x: torch.rsub(x, 1)),
    ("scalar softplus scalar", nn.Softplus(2)),
    ("scalar elu scalar", nn.CELU(0.5)),
    ("elu scalar", nn.SELU()),
    ("mul", torch.square),
    ("mul", lambda x: x**2),
    ("slice slice sigmoid mul cat", lambda x: torch.cat([F.glu(x, 1)] * 2, 1)),
    ("", nn.Dropout2d()),
    ("", lambda x: F.dropout(x, 0.5, False)),
    ("", nn.Identity()),
    ("", lambda x: x.clone().detach().contiguous().float()),
    ("", lambda x: x.to(x.device).to("cpu").cpu().type_as(x)),
    # modules that are made on the way
    ("relu max_pool2d", lambda x: nn.MaxPool2d(2)(nn.ReLU()(x))),
]  # fmt: skip

LAYERS: list[tuple[str, nn.Module | Function]] = [
    ("conv2d", nn.Conv2d(4, 6, (1, 3), (2, 1), (0, 2), (1, 2), groups=2)),
    ("conv2d", nn.Conv2d(4, 4, 3, padding="same")),
    ("conv2d", nn.Conv2d(4, 4, 3, padding="valid", bias=False)),
    ("conv2d", Weights(F.conv2d, (5, 4, 3, 3))),
    ("conv2d", Weights(lambda x, w, b: F.conv2d(x, w - w.mean(), b), (4, 4, 3, 3), (4,))),
    ("pad conv2d", nn.Conv2d(4, 4, 2, padding="same")),
    ("pad conv2d", nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    ("pad conv2d", nn.Conv2d(4, 4, 3, padding=(2, 0), padding_mode="circular")),
    ("flatten_space conv1d", nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 4, 3, stride=2))),
    ("linear", nhwc(nn.Linear(4, 6))),
    ("linear layer_norm", tokens(nn.Linear(4, 6), nn.LayerNorm(6))),
    ("softmax affine", tokens(nn.Softmax(-1), Weights(lambda x, g: x * g, (4,)))),
    ("linear", nhwc(Weights(lambda x, w: x @ w, (4, 6)))),
    ("flatten linear", nn.Sequential(nn.Flatten(), nn.Linear(144, 3))),
    ("flatten linear", Weights(lambda x, b, w: torch.addmm(b, x.flatten(1), w), (3,), (144, 3))),
    ("batch_norm", nn.BatchNorm2d(4, affine=False)),
    ("batch_norm", nn.BatchNorm2d(4, momentum=None)),
    ("batch_norm", Weights(lambda x, m, v, w: F.batch_norm(x, m, v, w), (4,), (4,), (4,))),
    ("flatten batch_norm", nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144))),
    ("batch_norm flatten_space", nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4))),
    ("group_norm", nn.GroupNorm(2, 4)),
    ("group_norm", nn.GroupNorm(2, 4, affine=False)),
    ("group_norm", nn.InstanceNorm2d(4, affine=True)),
    ("group_norm", lambda x: F.instance_norm(x)),
    ("group_norm", nn.LayerNorm((4, 6, 6), elementwise_affine=False)),
    ("layer_norm", nhwc(nn.LayerNorm(4))),
    ("layer_norm", nhwc(nn.LayerNorm(4, bias=False))),
    ("layer_norm", nhwc(lambda x: F.layer_norm(x, (4,)))),
    ("local_response_norm", nn.LocalResponseNorm(3, k=2)),
    ("prelu", nn.PReLU()),
    ("prelu", nn.PReLU(4)),
    ("prelu", Weights(F.prelu, (4,))),
    ("affine", Weights(lambda x, g: x * g, (4, 1, 1))),
    ("affine", Weights(lambda x, g: x / g.view(1, -1, 1, 1), (4,))),
    ("affine affine", Weights(lambda x, m, s: (x - m) / s, (4, 1, 1), (4, 1, 1))),
    ("scalar affine", Weights(lambda x, m: m - x, (4, 1, 1))),
    ("affine", nhwc(Weights(lambda x, g: g * x, (4,)))),
    ("scalar", Weights(lambda x, g: x * g, (1,))),
]  # fmt: skip

#: numpy's names, which torch's stubs do not know
NUMPY: dict[str, Any] = {"axis": 2, "keepdims": True}

POOLS: list[tuple[str, nn.Module | Function]] = [
    ("max_pool2d", nn.MaxPool2d(2, ceil_mode=True)),
    ("max_pool2d", nn.MaxPool2d((3, 1), (2, 1), (1, 0), dilation=(1, 2))),
    ("max_pool2d", lambda x: F.max_pool2d(x, (2, 3), stride=1, padding=(1, 0))),
    ("max_pool2d", lambda x: torch.max_pool2d(x, 2)),
    ("avg_pool2d", nn.AvgPool2d(3, padding=1, count_include_pad=False)),
    ("avg_pool2d scalar", nn.AvgPool2d(2, divisor_override=3)),
    ("avg_pool2d scalar", nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=1)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 2, 1, 0, True, False)),
    ("lp_pool2d", nn.LPPool2d(2, 3, stride=1)),
    ("adaptive_avg_pool2d", nn.AdaptiveAvgPool2d((None, 2))),
    ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 4)),
    ("adaptive_max_pool2d", nn.AdaptiveMaxPool2d(2)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    ("flatten_space max_pool1d", lambda x: F.max_pool1d(x.flatten(2), 3, 2)),
    ("flatten_space avg_pool1d", nn.Sequential(nn.Flatten(2), nn.AvgPool1d(3, 2, 1))),
    ("flatten_space lp_pool1d", nn.Sequential(nn.Flatten(2), nn.LPPool1d(2, 3))),
    ("flatten_space adaptive_max_pool1d", nn.Sequential(nn.Flatten(2), nn.AdaptiveMaxPool1d(5))),
    ("adaptive_avg_pool2d mul", lambda x: x * x.mean((-1, -2), keepdim=True)),
    ("adaptive_avg_pool2d add", lambda x: x + x.mean(2, True)),
    ("adaptive_avg_pool2d add", lambda x: x + torch.mean(x, **NUMPY)),
    ("adaptive_avg_pool2d mul", nhwc(lambda x: x * x.mean((1, 2))[:, None, None])),
    ("adaptive_max_pool2d flatten", lambda x: x.amax(dim=(2, 3))),
    ("adaptive_max_pool2d flatten", lambda x: x.flatten(2).max(-1)[0]),
    ("adaptive_max_pool2d flatten", lambda x: torch.max(x.view(-1, 4, 36), dim=2).values),
    ("adaptive_avg_pool2d scalar flatten", lambda x: x.sum((2, 3))),
    ("reduce adaptive_avg_pool1d flatten", lambda x: x.mean(3).mean(2)),
    ("reduce max_pool1d", lambda x: F.max_pool1d(x.amax(2), 2)),
    ("adaptive_avg_pool2d flatten", lambda x: x.flatten(2).transpose(1, 2).mean(1)),
    # spatial attention: over the channels
    ("reduce_channels mul", lambda x: x * x.mean(1, keepdim=True)),
    ("reduce_channels mul", lambda x: x * torch.max(x, 1, keepdim=True)[0]),
    ("reduce_channels mul", lambda x: x * torch.max(x, 1)[0].unsqueeze(1)),
    ("reduce_channels mul", nhwc(lambda x: x * x.amax(-1, keepdim=True))),
    ("reduce_channels scalar add", lambda x: x + x.sum(1, keepdim=True)),
    ("reduce_channels adaptive_avg_pool2d add", lambda x: x + x.mean((1, 2, 3), keepdim=True)),
    # maxout: max(a, b) = relu(a - b) + b
    ("slice slice scalar add relu add",
     lambda x: x.view(-1, 2, 2, 6, 6).max(1)[0]),
    ("slice slice scalar add relu add", lambda x: torch.max(*x.chunk(2, 1))),
    ("relu scalar add relu add", lambda x: torch.maximum(x, x.relu())),
    ("select select add scalar", lambda x: x.view(-1, 2, 2, 6, 6).mean(2)),
]  # fmt: skip

REARRANGING: list[tuple[str, nn.Module | Function]] = [
    ("shuffle", nn.ChannelShuffle(2)),
    ("shuffle", lambda x: x.view(-1, 2, 2, 6, 6).swapaxes(1, 2).flatten(1, 2)),
    ("shuffle", lambda x: x.reshape(-1, 2, 2, 6, 6).permute(0, 2, 1, 3, 4).reshape(x.shape)),
    ("slice", lambda x: x[:, 1:3]),
    ("slice", lambda x: x.narrow(1, 1, 2)),
    ("slice", lambda x: torch.split(x, [1, 3], dim=1)[1]),
    ("slice", lambda x: x.unbind(1)[2].unsqueeze(1)),
    ("slice", lambda x: x.view(-1, 2, 2, 6, 6)[:, 1]),
    ("slice", nhwc(lambda x: x[..., :2])),
    ("select", lambda x: x.view(-1, 2, 2, 6, 6)[:, :, 1]),
    ("select", lambda x: x[:, ::2]),
    ("select", lambda x: x[:, [2, 0, -1]]),
    ("select", lambda x: x.index_select(1, torch.tensor([3, 1]))),
    ("slice_space", lambda x: x[:, :, 1:-1, ::2]),
    ("slice_space", lambda x: x[..., -1:]),
    ("slice_space", nhwc(lambda x: x[:, 1:3])),
    ("slice_space pad_channels", lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))),
    ("slice_space pad", lambda x: F.pad(x, (-1, 1, 2, -2))),
    ("pad_channels", lambda x: torch.cat([x, torch.zeros(len_of(x), 2, 6, 6)], 1)),
    ("pad_channels", lambda x: torch.cat([torch.zeros_like(x[:, :3]), x], 1)),
    ("select", lambda x: x[:, torch.arange(3, -1, -1, device=x.device)]),
    ("pad", nn.ZeroPad2d((1, 2, 0, 1))),
    ("pad", nn.ConstantPad2d(1, 0.5)),
    ("pad", nn.ReflectionPad2d(2)),
    ("pad", lambda x: F.pad(x, (1, 1, 0, 1), mode="replicate")),
    ("pad", nhwc(lambda x: F.pad(x, (0, 0, 1, 0, 0, 2)))),
    ("interpolate", nn.Upsample(scale_factor=2)),
    ("interpolate", nn.Upsample((3, 4), mode="bilinear", align_corners=True)),
    ("interpolate", lambda x: F.interpolate(x, size=x.shape[2] * 2, mode="bicubic")),
    ("interpolate", lambda x: F.interpolate(x, scale_factor=(0.5, 2))),
    ("slice slice cat", lambda x: torch.cat(x.chunk(2, 1)[::-1], dim=-3)),
    ("slice slice cat", nhwc(lambda x: torch.cat((x[..., 2:], x[..., :2]), -1))),
    ("cat", lambda x: x.repeat(1, 2, 1, 1)),
    ("cat", lambda x: x.tile((1, 3, 1, 1))),
    ("slice select", lambda x: x[:, :1].repeat(1, 3, 1, 1)),
    ("slice select", lambda x: x[:, 2:3].expand(-1, 3, -1, -1)),
    # a stack is a concatenation of which its axis is a part
    ("relu cat", lambda x: torch.stack([x, x.relu()], 1).flatten(1, 2)),
    ("relu cat shuffle", lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2)),
    ("relu add scalar", lambda x: torch.stack([x, x.relu()]).mean(0)),
    ("relu add scalar scalar", lambda x: torch.stack([x, x.relu()], -1).sum(-1)),
    ("relu", lambda x: torch.cat([x, x.relu()], 1)[:, 4:]),
    ("relu add", nhwc(lambda x: x + x.relu())),
    ("relu add", lambda x: torch.add(input=x, other=x.relu())),
    ("relu scalar add", lambda x: torch.sub(x, x.relu(), alpha=2)),
    ("relu mul", lambda x: x.mul(F.relu(x))),
    ("flatten", nn.Flatten()),
    ("flatten", lambda x: x.reshape(x.size(0), -1)),
    ("flatten", lambda x: x.permute(0, 2, 3, 1).flatten(1)),
    ("flatten select", lambda x: x.transpose(1, 2).flatten(1)),
    ("flatten slice", lambda x: x.view(-1, 144)[:, :7]),
    ("", lambda x: x.movedim(1, -1).moveaxis(-1, 1)),
    ("", nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 6, 6)))),
    ("", lambda x: x[:, :, None].squeeze(2)),
]  # fmt: skip


def len_of(x: Tensor) -> int:
    return x.size(0)


@pytest.mark.parametrize(("ops", "spelling"), ACTIVATIONS + LAYERS + POOLS + REARRANGING)
def test_a_spelling(ops: str, spelling: nn.Module | Function) -> None:
    module = spelling if isinstance(spelling, nn.Module) else Call(spelling)
    assert operators(module) == ops.split()


REFUSED: list[tuple[nn.Module | Function, str]] = [
    (lambda x: x.mean(0, keepdim=True) * x, r"over axes \[0\] of \(batch, channels, height, width"),
    (lambda x: x.flatten(1).mean(1).view(-1, 1, 1, 1) * x, r"over axes \[1\] of \(batch, chan"),
    (lambda x: torch.maximum(x, torch.ones(4, 1, 1)), "a maximum with a constant"),
    (lambda x: torch.cat([x, x], 2), "a concatenation along axis 2 of"),
    (lambda x: torch.stack([x, torch.ones(211, 4, 6, 6)]).sum(0), "a stack with constants"),
    (lambda x: x.to(torch.int64).float(), "to with a result of torch.int64"),
    (lambda x: x.transpose(2, 3).relu(), r"of \(batch, channels, width, height\)"),
    (lambda x: x + x.transpose(2, 3), "add of tensors of axes"),
    (lambda x: x / x, "a division by a tensor"),
    (lambda x: 1 / x, "a division by a tensor"),
    (lambda x: x**3, "a power of 3"),
    (lambda x: x * torch.ones(4, 6, 6), r"a constant of shape \(4, 6, 6\)"),
    (lambda x: x[:1] + x, r"positions \[0\] of axis 0"),
    (lambda x: x[:, :, [0, 5, 1]], r"pixels \[0, 5, 1\]"),
    (lambda x: torch.cat([x, torch.ones(211, 1, 6, 6)], 1), "or with constants"),
    (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), value=2.0), "channels that are no zeros"),
    (lambda x: F.interpolate(x, size=3, mode="bilinear", antialias=True), "with antialiasing"),
    (nn.Sequential(nn.MaxPool2d(2, return_indices=True), Call(lambda x: x[0])),
     "pooling with indices"),
    (nn.AvgPool2d(2, ceil_mode=True, divisor_override=3), "a divisor where windows may be cut"),
    (lambda x: F.softplus(x, threshold=3), "a threshold of 3"),
    (lambda x: F.linear(torch.ones(2, 36), x.flatten(2).mean(0)), "over axes|of a constant"),
    (lambda x: torch.ones(6, 6) @ x, "a product of other tensors|weights that depend"),
    (lambda x: F.conv2d(torch.ones(1, 4, 9, 9), x), "of a constant"),
    (lambda x: x.softmax(3), r"a tensor of axes \(batch, width, channels, height\)"),
    (lambda x: F.linear(x, torch.ones(3, 6)), r"a tensor of axes \(batch, width"),
    (lambda x: F.conv2d(x, x.mean((0, 2, 3)).view(1, 4, 1, 1)), "over axes"),
    (lambda x: x.reshape(-1, 4, 9, 4), "cut into|a tensor of axes"),
    (nn.BatchNorm2d(4, track_running_stats=False), "without running statistics"),
    (nn.InstanceNorm2d(4, track_running_stats=True), "with running statistics"),
    (nn.LayerNorm((4, 6, 6)), r"a layer norm over axes of \(4, 6, 6\)"),
    (nn.GroupNorm(2, 4, eps=2.0), "group_norm with eps = 2.0; expected a number from 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "problem"), REFUSED)
def test_a_form_that_is_refused(spelling: nn.Module | Function, problem: str) -> None:
    module = spelling if isinstance(spelling, nn.Module) else Call(spelling)
    with pytest.raises(BadInput, match=f"got .*({problem}).*Rebuild the teacher"):
        describe(nn.Sequential(nn.Conv2d(4, 4, 1), module, Head()).eval(), (4, 6, 6))
