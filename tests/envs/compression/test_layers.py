"""Which layers there are, what each owns, and whose channels it shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.compression.layers import Anatomy, anatomy
from envs.fx_import.trace import trace
from envs.graph.netspec import INPUT
from envs.gym.toy import toy_spec


def of(module: nn.Module, *shape: int) -> Anatomy:
    return anatomy(trace(module, shape))


def groups_of(found: Anatomy, name: str) -> set[int]:
    return {group for group, _ in found.channels.layout[name].groups}


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
    groups = [layer.groups for layer in found.layers]
    assert groups[0] == groups[2]  # stem and outer meet in the add
    assert len(set(groups)) == 4
    assert [[found.channels.units(group) for group in written] for written in groups] == [
        [10],
        [20],
        [10],
        [10],
        [2],
    ]
    # the mean and the flatten carry the channels of `down` on
    layout = found.channels.layout
    assert layout["flatten"] is layout["pool"] is layout["down"]
    assert found.fixed == groups_of(found, INPUT) | groups_of(found, "head")
    # weight layers from the image on, along the longer path of the block
    assert [found.depth[name] for name in (INPUT, "relu", "add", "head")] == [0, 1, 3, 5]


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
    assert groups_of(found, "conv") == groups_of(found, INPUT)
    assert groups_of(found, "conv") <= found.fixed
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


def test_the_writer_of_several_groups_sets_what_is_still_open() -> None:
    class Meeting(nn.Module):
        """a's 2 channels and b's 5, one after the other, meet the 7 of c."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(1, outputs, 1) for outputs in (2, 5, 7))
            self.flat, self.head = nn.Flatten(), nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([self.a(x), self.b(x)], 1) + self.c(x)
            return self.head(self.flat(y))  # type: ignore[no-any-return]

    a, b, c, head = of(Meeting(), 1, 1, 1).layers
    assert c.groups == (*a.groups, *b.groups)
    assert [layer.sets_width for layer in (a, b, c, head)] == [True, True, False, False]
