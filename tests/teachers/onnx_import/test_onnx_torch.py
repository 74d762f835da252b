"""What torch's two exporters write of small networks comes back with equal logits."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn

from tests.teachers.onnx_graphs import assert_equal_logits

SHAPE = (3, 16, 16)

pytestmark = [
    # torch's own modules use what torch, Python and numpy have announced to drop
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*ONNX export mode is set to TrainingMode:UserWarning"),
    pytest.mark.filterwarnings("ignore:Constant folding.*:UserWarning"),
]


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.a, self.b = _conv(8, 16, stride=2), _conv(16, 16)
        self.down = _conv(8, 16, 1, stride=2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 1, 1)
        x = F.relu(self.b(F.relu(self.a(x))) + self.down(x))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_conv(3 + 4 * i, 4) for i in range(3)])
        self.norm = nn.BatchNorm2d(15)
        self.fc = nn.Linear(15 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, F.leaky_relu(layer(x), 0.1)], 1)
        x = F.avg_pool2d(torch.relu(self.norm(x)), 2)
        logits: Tensor = F.log_softmax(self.fc(F.dropout(x.view(x.size(0), -1), 0.5, False)), 1)
        return logits


class Depthwise(nn.Module):
    """MobileNetV2-like: an inverted bottleneck with ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.dw, self.down = _conv(3, 12, 1), _conv(12, 12, groups=12), _conv(12, 3, 1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.relu6(self.dw(F.relu6(self.up(x)))))
        logits: Tensor = self.head(x.mean([2, 3]))
        return logits


class SqueezeExcite(nn.Module):
    """MobileNetV3 and EfficientNet: gates by hard and by true sigmoid, Hardswish and SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid = _conv(3, 8), _conv(8, 8, 5, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        x = F.silu(self.mid(x * F.hardsigmoid(gate)))
        x = x * torch.sigmoid(gate)
        logits: Tensor = self.fc(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = _conv(3, 8, stride=2), _conv(4, 4, groups=4)
        self.fc = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([left, F.relu(self.branch(right))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        logits: Tensor = self.fc(F.adaptive_max_pool2d(x, 1)).flatten(1)
        return logits


class Sequence(nn.Module):
    """1-D convolutions over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(48, 8, 3, padding=2, dilation=2), nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.norm(self.conv(x.flatten(1, 2))))
        x = F.max_pool1d(x, 2)
        logits: Tensor = self.fc(x.mean(2))
        return logits


class Normed(nn.Module):
    """ConvNeXt-like: layer norm and a linear layer over channels last, a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.rand(8))
        self.group, self.inst = nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True)
        self.fc = nn.Linear(8, 5)
        for norm in (self.norm, self.group, self.inst):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(x.permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        x = self.inst(F.relu(self.group(x + y.permute(0, 3, 1, 2))))
        logits: Tensor = self.fc(x.amax((2, 3)))
        return logits


class Resized(nn.Module):
    """What is left: PReLU, LRN, interpolation, padding, crops, and per-image arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.prelu = nn.Conv2d(3, 6, 4, padding=2), nn.PReLU(6)
        self.fc = nn.Linear(6, 5)
        self.mean = nn.Buffer(torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 0.25
        x = F.local_response_norm(self.prelu(self.conv(x)), 3)
        x = F.interpolate(x, scale_factor=2.0) + F.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = F.pad(x, (1, 0, 2, 1))[:, :, 1::2, :-1]
        x = F.mish(x) - 0.5 * F.softplus(x)
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "dense": Dense,
    "depthwise": Depthwise,
    "squeeze-excite": SqueezeExcite,
    "shuffle": Shuffle,
    "sequence": Sequence,
    "normed": Normed,
    "resized": Resized,
}


#: the default exporter takes seconds for each
AT_ONCE = ("residual", "squeeze-excite", "normed")


@cache
def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network.eval()


def _by_dynamo(name: str) -> ModelProto:
    program = torch.onnx.export(
        _network(name),
        (torch.randn(2, *SHAPE),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _by_torchscript(name: str, opset: int, folded: bool) -> ModelProto:
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        _network(name),
        (torch.randn(2, *SHAPE),),
        buffer,  # type: ignore[arg-type]
        dynamo=False,
        opset_version=opset,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
        training=mode.EVAL if folded else mode.PRESERVE,
        do_constant_folding=folded,
    )
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in AT_ONCE else [pytest.mark.long]) for name in NETWORKS],
)
def test_the_default_exporter_comes_back(name: str) -> None:
    assert_equal_logits(_by_dynamo(name), SHAPE)


@pytest.mark.parametrize(("opset", "folded"), [(13, True), (17, False)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_torchscript_exporter_comes_back(name: str, opset: int, folded: bool) -> None:
    module = assert_equal_logits(_by_torchscript(name, opset, folded), SHAPE)
    norms = [layer for layer in _network(name).modules() if isinstance(layer, nn.BatchNorm2d)]
    kept = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    # folding removes the batch norms behind convolutions, which is all but Dense's last
    assert len(kept) == (len(norms) if not folded else int(name == "dense"))


@pytest.mark.long
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_opset_comes_back(name: str, opset: int, folded: bool) -> None:
    unsupported = opset < 11 and name == "resized"
    if unsupported:
        pytest.skip("torch writes bilinear interpolation of old opsets with other coordinates")
    assert_equal_logits(_by_torchscript(name, opset, folded), SHAPE)


def test_layers_keep_the_names_that_they_have_in_torch() -> None:
    made = _by_torchscript("depthwise", 17, folded=False)
    module = assert_equal_logits(made, SHAPE)
    expected = {name for name, _ in _network("depthwise").named_parameters()}
    assert {name for name, _ in module.named_parameters()} == expected
