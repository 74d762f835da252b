from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx, nn

from edge.errors import BadInput
from teachers.resnet import ResNet
from teachers.zoo import ARCHITECTURES, build

SHAPES = {"resnet18": (3, 32, 32), "resnet34": (1, 16, 16), "small_cnn": (1, 8, 8)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
class TestEveryArchitecture:
    """What envs, formats and distillation rely on, whichever member it is."""

    def test_maps_images_to_logits(self, arch: str) -> None:
        shape = SHAPES[arch]
        module = build(arch, input_shape=shape, classes=7).eval()
        assert module(torch.zeros(2, *shape)).shape == (2, 7)

    def test_can_be_traced(self, arch: str) -> None:
        module = build(arch, input_shape=SHAPES[arch], classes=3).eval()
        traced = fx.symbolic_trace(module)
        x = torch.randn(2, *SHAPES[arch])
        torch.testing.assert_close(traced(x), module(x))

    def test_first_and_last_weights_are_where_the_registry_says(self, arch: str) -> None:
        channels = SHAPES[arch][0]
        state = build(arch, input_shape=SHAPES[arch], classes=7).state_dict()
        assert state[ARCHITECTURES[arch].first_weight].shape[1] == channels
        assert state[ARCHITECTURES[arch].last_weight].shape[0] == 7

    def test_the_classifier_is_a_linear_layer_that_can_be_tapped(self, arch: str) -> None:
        module = build(arch, input_shape=SHAPES[arch], classes=7)
        name = ARCHITECTURES[arch].last_weight.removesuffix(".weight")
        assert isinstance(module.get_submodule(name), nn.Linear)


def _kb(module: nn.Module) -> float:
    floats = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    return sum(t.numel() for t in floats) * 4 / 1024


def test_resnet18_has_the_published_size() -> None:
    # He et al. count 11,689,512 parameters for 3 channels, 7×7 and 1,000 classes.
    module = build("resnet18", input_shape=(3, 224, 224), classes=1000)
    assert sum(p.numel() for p in module.parameters()) == 11_689_512


def test_small_cnn_leaves_room_for_a_fifth() -> None:
    # weights 32·9 + 64·32·9 + 64·64·9 + 96·64·9 = 110,880; batch norms 4·256 = 1,024; fc 970
    module = build("small_cnn", input_shape=(1, 8, 8), classes=10)
    assert _kb(module) == pytest.approx((110_880 + 1_024 + 970) * 4 / 1024)


@pytest.mark.parametrize(
    ("side", "stored", "kernel"),
    [(32, None, 3), (96, None, 7), (96, (64, 3, 3, 3), 3), (32, (64, 3, 7, 7), 7)],
)
def test_the_stem_follows_stored_weights_else_the_size_of_the_input(
    side: int, stored: tuple[int, ...] | None, kernel: int
) -> None:
    shapes = None if stored is None else {"conv1.weight": stored}
    module = build("resnet18", input_shape=(3, side, side), classes=2, shapes=shapes)
    assert isinstance(module, ResNet)
    assert module.conv1.kernel_size == (kernel, kernel)
    assert (module.maxpool is not None) == (kernel == 7)


def test_state_names_are_torchvisions() -> None:
    names = set(build("resnet18", input_shape=(3, 32, 32), classes=2).state_dict())
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var"} <= names
    assert {"layer4.1.conv2.weight", "bn1.bias", "fc.weight"} <= names
    assert not any(name.startswith("layer1.0.downsample") for name in names)


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="resnet18, resnet34, small_cnn"):
        build("vgg99", input_shape=(3, 32, 32), classes=2)


def test_early_checks_do_not_load_torch() -> None:
    # A refused input must be answered faster than torch can be imported.
    code = (
        "import sys, teachers.formats, teachers.datasets, teachers.splits, teachers.metrics;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
