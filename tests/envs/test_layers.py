"""Which layers there are, what each owns, and whose channels it shares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge.errors import BadInput
from envs.layers import Anatomy, anatomy
from envs.netspec import INPUT
from envs.toy import toy_spec
from envs.trace import trace


def of(module: nn.Module, *shape: int) -> Anatomy:
    return anatomy(trace(module, shape))


def test_the_toy() -> None:
    found = anatomy(toy_spec())
    # name: what goes with it, whether it sets the width, whether it writes the logits
    assert {
        layer.node: (layer.tail, layer.sets_width, layer.classifier) for layer in found.layers
    } == {
        # the activation behind the stem is read by two: it is the stem's nevertheless
        "stem": (("norm", "relu"), True, False),
        "inner": (("relu_1",), True, False),
        # the add behind it has two inputs, and the activation behind the add belongs to the block
        "outer": ((), False, False),
        "down": (("relu_3",), True, False),
        "head": ((), False, True),
    }
    groups = [layer.group for layer in found.layers]
    assert groups[0] == groups[2]  # stem and outer meet in the add
    assert len(set(groups)) == 4
    assert [found.width[group] for group in groups] == [10, 20, 10, 10, 2]
    # the mean and the flatten carry the channels of `down` on
    assert found.group["flatten"] == found.group["pool"] == found.group["down"]
    assert found.fixed == {found.group[INPUT], found.group["head"]}


def test_a_batch_norm_with_a_second_reader_before_it_belongs_to_nobody() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
            self.flat, self.head = nn.Flatten(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.head(self.flat(x + self.norm(x)))  # type: ignore[no-any-return]

    assert of(Net(), 1, 3, 3).layers[0].tail == ()


def test_an_add_with_the_image_keeps_the_width_of_the_image() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.flat, self.head = nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.flat(x + self.conv(x)))  # type: ignore[no-any-return]

    found = of(Net(), 3, 2, 2)
    assert found.group["conv"] == found.group[INPUT]
    assert found.group["conv"] in found.fixed
    assert not found.layers[0].sets_width


def test_every_writer_of_the_logits_is_a_classifier() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.left, self.right = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(torch.flatten(x, 1))
            return self.left(x) + self.right(x)  # type: ignore[no-any-return]

    assert [layer.classifier for layer in of(TwoHeads(), 1, 2, 2).layers] == [False, True, True]


def test_a_classifier_may_be_a_convolution() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.Conv2d(5, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert [layer.classifier for layer in of(net, 1, 8, 8).layers] == [False, True]


def test_flattened_maps_share_their_channels_with_a_linear_layer_that_meets_them() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix, self.head = nn.Conv2d(1, 5, 3), nn.Linear(20, 20), nn.Linear(20, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.flatten(self.conv(x), 1)
            return self.head(x + self.mix(x))  # type: ignore[no-any-return]

    found = of(Net(), 1, 4, 4)
    # 5 channels of 2×2 pixels each, so `mix` writes 4 features for every channel
    assert found.group["mix"] == found.group["conv"]
    assert found.width[found.group["conv"]] == 5
    assert found.pixels("mix", (20,)) == 4
    assert found.pixels("conv", (5, 2, 2)) == found.pixels("head", (2,)) == 1


def test_flattened_maps_of_other_channels_cannot_meet() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 16, 4)
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            # 4 channels of 2×2 and 16 of 1×1: as many numbers, but other channels
            y = torch.flatten(self.fine(x), 1) + torch.flatten(self.coarse(x), 1)
            return self.head(y)  # type: ignore[no-any-return]

    with pytest.raises(
        BadInput, match="channels cannot be matched at 'coarse': got maps of 16 and"
    ):
        of(Net(), 1, 4, 4)
