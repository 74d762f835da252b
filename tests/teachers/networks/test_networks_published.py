"""Networks against what is published of them: parameter counts, state-dict names and shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from teachers.formats.zoo import build

# torchvision's own counts: 3 channels, 1,000 classes, 224×224
IMAGENET = {
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
}

# 3 channels, 10 classes, 32×32
CIFAR = {
    "densenet40_12": 176_122,
    "wide_resnet28_2": 1_467_610,
    "wide_resnet28_4": 5_849_050,
    "wide_resnet28_10": 36_479_194,
}

# tensors in torchvision's files, batch norm's counters included
ENTRIES = {
    "densenet121": 727,
    "efficientnet_b0": 360,
    "mobilenet_v2": 314,
    "mobilenet_v3_small": 244,
    "resnet18": 122,
    "resnet50": 320,
    "shufflenet_v2_x1_0": 338,
    "squeezenet1_0": 52,
    "vgg16": 32,
}

KEYS: dict[str, dict[str, tuple[int, ...]]] = {
    "densenet121": {
        "features.conv0.weight": (64, 3, 7, 7),
        "features.norm0.running_mean": (64,),
        "features.denseblock1.denselayer1.norm1.weight": (64,),
        "features.denseblock3.denselayer24.conv2.weight": (32, 128, 3, 3),
        "features.transition3.conv.weight": (512, 1024, 1, 1),
        "features.norm5.running_var": (1024,),
        "classifier.weight": (1000, 1024),
    },
    "efficientnet_b0": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
        "features.2.0.block.2.fc1.bias": (4,),
        "features.6.3.block.3.0.weight": (192, 1152, 1, 1),
        "features.8.1.num_batches_tracked": (),
        "classifier.1.weight": (1000, 1280),
    },
    "mobilenet_v2": {
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_mean": (320,),
        "features.18.1.weight": (1280,),
        "classifier.1.bias": (1000,),
    },
    "mobilenet_v3_small": {
        "features.1.block.1.fc1.weight": (8, 16, 1, 1),
        "features.2.block.2.1.running_var": (24,),
        "features.4.block.2.fc2.bias": (96,),
        "features.12.0.weight": (576, 96, 1, 1),
        "classifier.0.weight": (1024, 576),
        "classifier.3.weight": (1000, 1024),
    },
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.bias": (64,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.running_var": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (1000, 512),
    },
    "resnet50": {
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.2.bn3.weight": (256,),
        "layer3.0.conv2.weight": (256, 256, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.weight": (1000, 2048),
    },
    "shufflenet_v2_x1_0": {
        "conv1.0.weight": (24, 3, 3, 3),
        "stage2.0.branch1.0.weight": (24, 1, 3, 3),
        "stage2.0.branch1.2.weight": (58, 24, 1, 1),
        "stage3.7.branch2.5.weight": (116, 116, 1, 1),
        "stage4.3.branch2.6.running_mean": (232,),
        "conv5.0.weight": (1024, 464, 1, 1),
    },
    "squeezenet1_0": {
        "features.0.weight": (96, 3, 7, 7),
        "features.3.squeeze.weight": (16, 96, 1, 1),
        "features.12.expand3x3.weight": (256, 64, 3, 3),
        "classifier.1.weight": (1000, 512, 1, 1),
    },
    "squeezenet1_1": {
        "features.0.weight": (64, 3, 3, 3),
        "features.7.squeeze.weight": (32, 256, 1, 1),
        "features.12.expand1x1.bias": (256,),
    },
    "vgg11": {
        "features.18.weight": (512, 512, 3, 3),
        "classifier.0.weight": (4096, 25088),
        "classifier.3.weight": (4096, 4096),
        "classifier.6.weight": (1000, 4096),
    },
    "vgg16_bn": {
        "features.0.bias": (64,),
        "features.40.weight": (512, 512, 3, 3),
        "features.41.running_var": (512,),
    },
    "wide_resnet28_10": {
        "conv1.weight": (16, 3, 3, 3),
        "block1.layer.0.bn1.weight": (16,),
        "block1.layer.0.convShortcut.weight": (160, 16, 1, 1),
        "block3.layer.3.conv2.weight": (640, 640, 3, 3),
        "bn1.weight": (640,),
        "fc.weight": (1000, 640),
    },
    "densenet40_12": {
        "features.conv0.weight": (24, 3, 3, 3),
        "features.denseblock1.denselayer1.norm1.weight": (24,),
        # 24 + 6·12 = 96 → 48; 48 + 72 = 120 → 60; 60 + 72 = 132
        "features.transition2.conv.weight": (60, 120, 1, 1),
        "features.norm5.weight": (132,),
    },
}


def _on_meta(arch: str, side: int, classes: int) -> nn.Module:
    with torch.device("meta"):
        return build(arch, input_shape=(3, side, side), classes=classes)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("arch", IMAGENET)
def test_parameters_as_published_for_imagenet(arch: str) -> None:
    assert _count(_on_meta(arch, 224, 1000)) == IMAGENET[arch]


@pytest.mark.parametrize("arch", CIFAR)
def test_parameters_as_published_for_cifar(arch: str) -> None:
    assert _count(_on_meta(arch, 32, 10)) == CIFAR[arch]


@pytest.mark.parametrize("arch", ENTRIES)
def test_as_many_tensors_as_in_the_published_files(arch: str) -> None:
    assert len(_on_meta(arch, 224, 1000).state_dict()) == ENTRIES[arch]


@pytest.mark.parametrize("arch", KEYS)
def test_well_known_names_have_their_shapes(arch: str) -> None:
    state = _on_meta(arch, 224, 1000).state_dict()
    assert {name: tuple(state[name].shape) for name in KEYS[arch]} == KEYS[arch]


@pytest.mark.parametrize(
    ("arch", "absent"),
    [
        ("resnet18", "layer1.0.downsample.0.weight"),  # 64 channels, stride 1: an identity
        ("densenet121", "features.transition4.conv.weight"),
        ("densenet40_12", "features.norm0.weight"),
        ("mobilenet_v3_small", "features.2.block.2.fc1.weight"),  # the second block does not excite
        ("wide_resnet28_10", "block1.layer.1.convShortcut.weight"),
        ("vgg16", "features.1.weight"),
    ],
)
def test_names_that_must_not_exist(arch: str, absent: str) -> None:
    assert absent not in _on_meta(arch, 224, 1000).state_dict()


def test_batch_norm_of_mobilenet_v3_is_the_authors() -> None:
    # eps and momentum are in no state dict: wrong ones load without a word and shift the logits
    norms = [
        m
        for m in _on_meta("mobilenet_v3_small", 224, 10).modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 1e-2)}
