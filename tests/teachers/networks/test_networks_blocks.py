"""The parts of the networks, on instances worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from teachers.formats.zoo import build
from teachers.networks.blocks import InvertedBottleneck, SqueezeExcitation, StochasticDepth, conv_bn
from teachers.networks.cloudcnn import WIDTHS
from teachers.networks.densenet import DenseLayer
from teachers.networks.shufflenet_v2 import ShuffleUnit
from teachers.networks.squeezenet import Fire
from teachers.networks.wide_resnet import PreActivationBlock


def test_stochastic_depth_drops_whole_rows_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3, 3)
    y = StochasticDepth(0.25).train()(x)
    rows = y.flatten(1)
    assert (rows == rows[:, :1]).all()
    assert rows.unique().tolist() == [0, pytest.approx(4 / 3)]
    # the mean of 4,000 rows strays by sqrt(.25/.75/4000) = .009
    assert y.mean().item() == pytest.approx(1, abs=0.04)


def test_stochastic_depth_is_the_identity_in_eval_mode() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0).train()(x) is x


def test_efficientnet_drops_more_paths_the_deeper_it_gets() -> None:
    with torch.device("meta"):
        module = build("efficientnet_b0", input_shape=(3, 224, 224), classes=10)
    drops = [part.p for part in module.modules() if isinstance(part, StochasticDepth)]
    # sixteen blocks: .2·0/16, .2·1/16, … .2·15/16
    assert drops == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_squeeze_and_excitation_scales_channels_by_their_means() -> None:
    block = SqueezeExcitation(2, 1, nn.ReLU, nn.Hardsigmoid)
    with torch.no_grad():
        block.fc1.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
        block.fc2.weight.copy_(torch.tensor([3.0, -3.0]).view(2, 1, 1, 1))
        block.fc1.bias.zero_()  # type: ignore[union-attr]
        block.fc2.bias.zero_()  # type: ignore[union-attr]
        x = torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]]])
        # means 2 and 1; relu(2 − 1) = 1; hardsigmoid(±3) = 1 and 0
        torch.testing.assert_close(block(x), torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]]))


def test_a_bottleneck_adds_its_input_only_where_shapes_agree() -> None:
    x = torch.randn(1, 4, 6, 6)
    for outputs, stride in [(4, 1), (4, 2), (8, 1)]:
        block = InvertedBottleneck(4, 8, outputs, 3, stride, nn.ReLU, excitation=None).eval()
        with torch.no_grad():
            for parameter in block.block[-1].parameters():
                parameter.zero_()  # the block's own path gives zero
            y = block(x)
        assert y.shape == (1, outputs, 6 // stride, 6 // stride)
        torch.testing.assert_close(y, x if (outputs, stride) == (4, 1) else torch.zeros_like(y))


def test_the_shuffle_interleaves_what_stays_with_what_is_convolved() -> None:
    unit = ShuffleUnit(4, 4, 1).eval()
    with torch.no_grad():
        for parameter in unit.branch2.parameters():
            parameter.zero_()
        x = torch.arange(1.0, 5).view(1, 4, 1, 1)
        # channels 1 and 2 stay, 3 and 4 become 0: 1 2 | 0 0 → 1 0 2 0
        assert unit(x).flatten().tolist() == [1, 0, 2, 0]


def test_a_dense_layer_keeps_its_input_in_front() -> None:
    x = torch.randn(2, 5, 4, 4)
    y = DenseLayer(5, growth=3).eval()(x)
    assert y.shape == (2, 8, 4, 4)
    assert torch.equal(y[:, :5], x)


def test_a_fire_puts_the_1x1_half_first() -> None:
    fire = Fire(2, 1, 1)
    with torch.no_grad():
        for name, value in [("squeeze", 1), ("expand1x1", 1), ("expand3x3", 1)]:
            convolution = fire.get_submodule(name)
            assert isinstance(convolution, nn.Conv2d)
            convolution.weight.fill_(value)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        y = fire(torch.ones(1, 2, 3, 3))
    # the squeeze gives 2 everywhere; 1×1 keeps it, 3×3 sums 4 pixels in a corner and 9 inside
    assert y[0, 0].unique().tolist() == [2]
    assert (y[0, 1, 0, 0].item(), y[0, 1, 1, 1].item()) == (8, 18)


def test_a_wide_block_adds_the_raw_input_unless_it_projects_the_activated_one() -> None:
    x = -torch.ones(1, 2, 4, 4)
    for outputs, expected in [(2, -1.0), (3, 0.0)]:
        block = PreActivationBlock(2, outputs, 1).eval()
        with torch.no_grad():
            block.conv2.weight.zero_()
            # relu(−1) = 0 reaches the projection, −1 the identity
            assert block(x).unique().tolist() == [expected]


def test_same_padding_of_any_kernel() -> None:
    for kernel in (1, 3, 5):
        assert conv_bn(2, 2, kernel, None)(torch.randn(1, 2, 6, 6)).shape == (1, 2, 6, 6)


def test_cloudcnn_follows_the_prose() -> None:
    # 3 of 32, 2 of 48, 5 of 80, 5 of 128; Fig. 3 would have 19 layers
    assert WIDTHS == (32, 32, 32, 48, 48, 80, 80, 80, 80, 80, 128, 128, 128, 128, 128)
    with torch.device("meta"):
        module = build("cloudcnn", input_shape=(3, 32, 32), classes=10)
    # 32 × 32 → 31 × 31 by the max-pool of stride 1
    assert module.state_dict()["fc.weight"].shape == (1024, 128 * 31 * 31)


@pytest.mark.parametrize(("arch", "depth"), [("edgecnn3", 3), ("edgecnn5", 5), ("edgecnn10", 10)])
def test_edgecnns_have_the_leading_convolutions_of_cloudcnn(arch: str, depth: int) -> None:
    with torch.device("meta"):
        cloud = build("cloudcnn", input_shape=(3, 32, 32), classes=10).state_dict()
        edge = build(arch, input_shape=(3, 32, 32), classes=10).state_dict()
    shared = [
        f"features.conv{i}.{part}" for i in range(1, depth + 1) for part in ("weight", "bias")
    ]
    assert [name for name in edge if name.startswith("features")] == shared
    assert {name: edge[name].shape for name in shared} == {
        name: cloud[name].shape for name in shared
    }
