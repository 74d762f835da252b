"""The two forms that share a name: for ImageNet, and for small images."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from edge.errors import BadInput
from teachers.formats.zoo import build
from teachers.networks.resnet import ResNet
from teachers.networks.variants import Shapes


def _on_meta(arch: str, side: int, shapes: Shapes | None = None) -> nn.Module:
    with torch.device("meta"):
        return build(arch, input_shape=(3, side, side), classes=10, shapes=shapes).eval()


def _last_map(arch: str, side: int) -> int:
    """Side of the map that the network's last pool reads."""
    module = _on_meta(arch, side)
    name = "classifier.3" if arch.startswith("squeezenet") else "avgpool"
    seen: list[int] = []
    module.get_submodule(name).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[-1])
    )
    module(torch.empty(2, 3, side, side, device="meta"))
    return seen[0]


@pytest.mark.parametrize(
    ("side", "stored", "kernel"),
    [(32, None, 3), (63, None, 3), (64, None, 7), (96, (64, 3, 3, 3), 3), (32, (64, 3, 7, 7), 7)],
)
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_the_stem_of_a_resnet_follows_stored_weights_else_the_size_of_the_input(
    arch: str, side: int, stored: tuple[int, ...] | None, kernel: int
) -> None:
    module = _on_meta(arch, side, None if stored is None else {"conv1.weight": stored})
    assert isinstance(module, ResNet)
    assert module.conv1.kernel_size == (kernel, kernel)
    assert (module.maxpool is not None) == (kernel == 7)


@pytest.mark.parametrize(
    ("arch", "name"),
    [("densenet121", "features.conv0"), ("squeezenet1_0", "features.0")],
)
@pytest.mark.parametrize(
    ("side", "stored", "kernel"), [(32, None, 3), (64, None, 7), (96, 3, 3), (32, 7, 7)]
)
def test_other_stems_of_two_kernels_do_the_same(
    arch: str, name: str, side: int, stored: int | None, kernel: int
) -> None:
    shapes = None if stored is None else {f"{name}.weight": (64, 3, stored, stored)}
    stem = _on_meta(arch, side, shapes).get_submodule(name)
    assert isinstance(stem, nn.Conv2d)
    assert stem.kernel_size == (kernel, kernel)
    assert stem.stride == ((2, 2) if kernel == 7 else (1, 1))


@pytest.mark.parametrize(
    ("arch", "small", "large"),
    [
        # sides before the last pool at 32×32 and at 224×224: four halvings against five
        ("mobilenet_v2", 2, 7),
        ("mobilenet_v3_small", 2, 7),
        ("efficientnet_b0", 2, 7),
        # three against five
        ("resnet18", 4, 7),
        ("densenet121", 4, 7),
        # max-pools of 3×3 rounded up: 32 → 16 → 8; the stem and three: 224 → 111 → 55 → 27 → 13
        ("squeezenet1_1", 8, 13),
        ("squeezenet1_0", 8, 13),
        ("vgg16", 1, 7),
        ("densenet40_12", 8, 56),
        ("wide_resnet28_2", 8, 56),
    ],
)
def test_the_last_map_of_either_form(arch: str, small: int, large: int) -> None:
    assert (_last_map(arch, 32), _last_map(arch, 224)) == (small, large)


@pytest.mark.parametrize(("side", "stride", "pooled"), [(32, 1, False), (64, 2, True)])
def test_a_stem_whose_weights_fit_both_forms_follows_the_size_of_the_input(
    side: int, stride: int, pooled: bool
) -> None:
    for arch, name, pool in [
        ("shufflenet_v2_x1_0", "conv1.0", "maxpool"),
        ("squeezenet1_1", "features.0", "features.2"),
    ]:
        module = _on_meta(arch, side, {f"{name}.weight": (64, 3, 3, 3)})
        stem = module.get_submodule(name)
        assert isinstance(stem, nn.Conv2d)
        assert stem.stride == (stride, stride)
        called = {node.target for node in fx.symbolic_trace(module).graph.nodes}
        there = pool in called and isinstance(module.get_submodule(pool), nn.MaxPool2d)
        assert there == pooled


@pytest.mark.parametrize(
    ("side", "stored", "pooled", "width"),
    [
        (32, None, 1, 512),
        (64, None, 7, 4096),
        (224, (512, 512), 1, 512),
        (32, (4096, 25088), 7, 4096),
        (48, (256, 512 * 4), 2, 256),
    ],
)
def test_the_classifier_of_a_vgg_follows_stored_weights_else_the_size_of_the_input(
    side: int, stored: tuple[int, ...] | None, pooled: int, width: int
) -> None:
    module = _on_meta("vgg11", side, None if stored is None else {"classifier.0.weight": stored})
    state = module.state_dict()
    assert state["classifier.0.weight"].shape == (width, 512 * pooled * pooled)
    assert state["classifier.6.weight"].shape == (10, width)


@pytest.mark.parametrize(("side", "last"), [(28, 1), (32, 1), (48, 1), (64, 2), (96, 3)])
def test_a_vgg_rounds_down_wherever_that_leaves_a_pixel(side: int, last: int) -> None:
    # 28 → 14 → 7 → 4 → 2 → 1 rounded up; 48 → 24 → 12 → 6 → 3 → 1 rounded down
    assert _last_map("vgg11", side) == last


def test_images_too_large_for_cloudcnn_are_refused_with_the_bound() -> None:
    # 2^28 / (1,024·128) = 2,048 pixels after the max-pool: 45·45 = 2,025 fit, 46·46 = 2,116 do not
    _on_meta("cloudcnn", 46)
    with pytest.raises(BadInput, match="got 47×47 pixels for 15 convolutions.*≤ 2,048"):
        _on_meta("cloudcnn", 47)
    with pytest.raises(BadInput, match="at least 2×2"):
        _on_meta("edgecnn3", 1)
