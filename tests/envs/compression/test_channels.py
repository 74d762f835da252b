"""Which channels are one and the same, and which are decided on together: hand-worked networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.compression.channels import Channels, Layout
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.fx_import.trace import trace
from envs.graph.netspec import INPUT, NetSpec
from tests.envs.blocks import (
    Call,
    Concat,
    Gated,
    HalfThrough,
    Residual,
    Split,
    Squeeze,
    ZeroShortcut,
)

#: remove, halve, keep
HALF = Moves((0.0, 0.5, 1.0), "o")
OUT, HALVE, KEEP = 0, 1, 2


def spec_of(*modules: nn.Module, channels: int = 1, size: int = 4) -> NetSpec:
    """The pieces, a mean over space and a linear layer behind them."""
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2)]
    net = nn.Sequential(*modules, *end)
    net(torch.zeros(1, channels, size, size))
    return trace(net, (channels, size, size))


def found(spec: NetSpec) -> Channels:
    return anatomy(spec).channels


def classes(spec: NetSpec, name: str) -> list[int]:
    """Those of a tensor, counted from the first that the image does not have."""
    first = spec.input_shape[0]
    return [int(number) - first for number in found(spec).layout[name].classes]


def shapes(student: Student) -> dict[str, int]:
    """Channels that every operator of a student writes."""
    return {node.name: node.shape[0] for node in student.spec.nodes}


def name_of(spec: NetSpec, op: str, turn: int = 0) -> str:
    return [node.name for node in spec.nodes if node.op == op][turn]


def test_every_layer_of_a_chain_writes_channels_of_its_own() -> None:
    spec = spec_of(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    assert classes(spec, "0") == classes(spec, "_1") == [0, 1, 2]
    assert classes(spec, "2") == [3, 4]
    # image, both convolutions, logits
    assert [len(members) for members in found(spec).members] == [1, 3, 2, 2]


def test_what_meets_in_an_add_is_one() -> None:
    block = Residual(nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)), nn.Identity(), "x + y")
    spec = spec_of(nn.Conv2d(1, 4, 1), block)
    assert classes(spec, "0") == classes(spec, "1.path.1") == classes(spec, "add") == [0, 1, 2, 3]
    # 4 · .5 = 2 of the stem's channels, and so 2 of the block's
    student = compress(spec, HALF, [HALVE, KEEP, KEEP, KEEP])
    assert [shapes(student)[name] for name in ("0", "1.path.0", "1.path.1", "add")] == [2, 2, 2, 2]


def test_a_concatenation_has_the_channels_of_all_its_parts() -> None:
    spec = spec_of(Concat([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 6, 1)]), nn.Conv2d(8, 3, 1))
    assert classes(spec, "cat") == list(range(8))
    # 2 · .5 = 1 of one part and all 6 of the other
    student = compress(spec, HALF, [HALVE, KEEP, KEEP, KEEP])
    assert shapes(student)["cat"] == 7
    # columns 0 … 7 of the layer behind it; of every group the first stand for those that are kept
    assert student.reads["1"].classes.tolist() == [1, 3, 4, 5, 6, 7, 8]


def test_a_concatenation_that_meets_another_path_ties_its_parts_to_it() -> None:
    parts = Concat([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 6, 1)])
    spec = spec_of(Residual(parts, nn.Conv2d(1, 8, 1), "x + y"))
    assert classes(spec, "0.shortcut") == classes(spec, "cat")
    # 1 of 2 and 3 of 6: the shortcut writes 4 of its 8
    student = compress(spec, HALF, [HALVE, HALVE, KEEP, KEEP])
    assert shapes(student)["0.shortcut"] == shapes(student)["add"] == 4


def test_a_depthwise_convolution_writes_the_channels_that_it_reads() -> None:
    spec = spec_of(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 3, groups=6))
    assert classes(spec, "0") == classes(spec, "1")
    student = compress(spec, HALF, [HALVE, KEEP, KEEP])
    attrs = student.spec["1"].attrs
    assert (attrs["in"], attrs["out"], attrs["groups"]) == (3, 3, 3)


def test_with_a_multiplier_every_channel_has_several_outputs() -> None:
    spec = spec_of(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 3, groups=4))
    # outputs 2c and 2c + 1 stand or fall with input c
    assert classes(spec, "1") == [0, 0, 1, 1, 2, 2, 3, 3]
    student = compress(spec, HALF, [HALVE, KEEP, KEEP])
    attrs = student.spec["1"].attrs
    assert (attrs["in"], attrs["out"], attrs["groups"]) == (2, 4, 2)


def test_many_small_groups_stay_or_go_whole() -> None:
    # ResNeXt's kind: 4 groups of 2 channels in, 1 out
    spec = spec_of(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 4, 3, groups=4))
    assert classes(spec, "0") == [0, 0, 1, 1, 2, 2, 3, 3]
    assert classes(spec, "1") == [0, 1, 2, 3]
    # 4 groups · .5 = 2
    student = compress(spec, HALF, [HALVE, KEEP, KEEP])
    attrs = student.spec["1"].attrs
    assert (attrs["in"], attrs["out"], attrs["groups"]) == (4, 2, 2)


def test_few_large_groups_all_keep_equally_many() -> None:
    # ShuffleNet's kind: 2 groups of 4 channels in, 3 out; each half has its own best channels
    spec = spec_of(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 6, 3, groups=2))
    found = anatomy(spec).channels
    assert found.group[found.layout["0"].classes].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert found.group[found.layout["1"].classes].tolist() == [3, 3, 3, 4, 4, 4]
    # ⌊4 · .5 + ½⌋ = 2 channels in, ⌊3 · .5 + ½⌋ = 2 channels out, of both groups
    student = compress(spec, HALF, [HALVE, HALVE, KEEP])
    attrs = student.spec["1"].attrs
    assert (attrs["in"], attrs["out"], attrs["groups"]) == (4, 4, 2)


def test_large_groups_that_different_layers_fill_keep_the_same_places() -> None:
    # one group reads three channels of a and one of b, the other four of b: what a and b keep
    # need not be equally many, so place by place the two groups are one class
    parts = Concat([nn.Conv2d(1, 3, 1), nn.Conv2d(1, 5, 1)])
    spec = spec_of(parts, nn.Conv2d(8, 6, 3, groups=2))
    joined = classes(spec, name_of(spec, "cat"))
    assert joined == [0, 1, 2, 3, 0, 1, 2, 3]
    for first in (OUT, HALVE, KEEP):
        for second in (OUT, HALVE, KEEP):
            student = compress(spec, HALF, [first, second, KEEP, KEEP])
            assert student.spec["1"].attrs["in"] % 2 == 0


def test_stacked_grouped_convolutions_can_still_be_narrowed() -> None:
    # ShuffleNetV1: 2 groups, shuffled, 2 groups. Place by place everything would be one class
    # here (3 is odd); group by group there is a choice
    grouped = [nn.Conv2d(6, 6, 1, groups=2) for _ in range(2)]
    spec = spec_of(nn.Conv2d(1, 6, 1), grouped[0], nn.ChannelShuffle(2), grouped[1])
    #                          0 3 1 | 4 2 5 are the groups that the second one reads
    found = anatomy(spec).channels
    written = found.group[found.layout["1"].classes]
    assert [found.units(group) for group in sorted(set(written))] == [2, 1, 1, 2]
    # ⌊2 · .5 + ½⌋ = 1 of the pairs, 1 of the single ones: 4 of 6
    student = compress(spec, HALF, [KEEP, HALVE, KEEP, KEEP])
    assert student.spec["1"].attrs["out"] == student.spec["3"].attrs["in"] == 4


def test_a_gate_has_a_factor_for_every_channel() -> None:
    gate = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid())
    spec = spec_of(nn.Conv2d(1, 4, 1), Squeeze(gate, flat=False))
    assert classes(spec, "0") == classes(spec, "1.gate.2") == classes(spec, "mul")
    assert classes(spec, "1.gate.0") == [4, 5]
    student = compress(spec, HALF, [HALVE, KEEP, KEEP, KEEP])
    assert shapes(student)["1.gate.2"] == shapes(student)["mul"] == 2


def test_a_shuffle_puts_classes_in_another_order() -> None:
    spec = spec_of(nn.Conv2d(1, 6, 1), nn.ChannelShuffle(2))
    # (0 1 2 / 3 4 5), transposed
    assert classes(spec, name_of(spec, "shuffle")) == [0, 3, 1, 4, 2, 5]
    # 3 of 6, counted as 0 1 2: they stand in the order 0 1 2 behind the shuffle
    student = compress(spec, HALF, [HALVE, KEEP])
    node = student.spec.nodes[1]
    assert (node.op, node.attrs["index"]) == ("select", [0, 1, 2])


def test_a_shuffle_of_equal_groups_stays_a_shuffle() -> None:
    # a grouped convolution before it: each of the 2 groups keeps 2 of its 3 channels
    spec = spec_of(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 1, groups=2), nn.ChannelShuffle(2))
    student = compress(spec, HALF, [KEEP, HALVE, KEEP])
    assert student.spec["1"].shape[0] == 4
    assert student.spec.nodes[2].op == "shuffle"


def test_the_halves_of_a_split_are_groups_of_their_own() -> None:
    # ShuffleNetV2's unit on 4 channels: 0 1 go round, 2 3 through a convolution to 4 5
    spec = spec_of(nn.Conv2d(1, 4, 1), HalfThrough(nn.Conv2d(2, 2, 1)))
    assert classes(spec, "0") == [0, 1, 2, 3]
    assert classes(spec, name_of(spec, "slice", 0)) == [0, 1]
    assert classes(spec, name_of(spec, "slice", 1)) == [2, 3]
    assert classes(spec, "cat") == [0, 1, 4, 5]
    assert classes(spec, name_of(spec, "shuffle")) == [0, 4, 1, 5]
    # the stem sets both of its groups: 2 · .5 = 1 channel of either half, never 2 and none
    student = compress(spec, HALF, [HALVE, KEEP, KEEP])
    slices = [node for node in student.spec.nodes if node.op == "slice"]
    assert [(node.attrs["start"], node.attrs["stop"]) for node in slices] == [(0, 1), (1, 2)]
    # 0 and 4 5 are left of 0 1 4 5; after the shuffle 0 4 5
    shuffled = next(node for node in student.spec.nodes if node.op == "select")
    assert shuffled.attrs["index"] == [0, 1, 2]


def test_the_smallest_student_keeps_a_channel_of_every_part() -> None:
    parts = Split([1, 2, 3], [nn.Identity(), nn.Conv2d(2, 2, 1), nn.Identity()])
    spec = spec_of(nn.Conv2d(1, 6, 1), parts)
    tiny = Moves((0.05, 1.0), "o")
    student = compress(spec, tiny, [0, 0, 1])
    assert [node.shape[0] for node in student.spec.nodes if node.op == "slice"] == [1, 1, 1]


def test_a_gated_unit_keeps_value_and_gate_together() -> None:
    spec = spec_of(nn.Conv2d(1, 6, 1), Gated())
    # channel c closes channel c + 3
    assert classes(spec, "0") == [0, 1, 2, 0, 1, 2]
    # ⌊3 · .5 + ½⌋ = 2 of both halves
    assert shapes(compress(spec, HALF, [HALVE, KEEP]))["0"] == 4


def test_zeros_beside_the_channels_of_a_shortcut() -> None:
    # option A: 2 channels become 1 + 2 + 1 and meet the 4 of the convolution
    spec = spec_of(nn.Conv2d(1, 2, 1), Residual(nn.Conv2d(2, 4, 1), ZeroShortcut(1, 1, 1), "x + y"))
    assert classes(spec, "0") == [0, 1]
    assert classes(spec, "1.path") == classes(spec, "add")
    assert classes(spec, "add")[1:3] == [0, 1]
    # the stem keeps 1 of its 2; the zeros are the convolution's to keep: ⌊2 · .5⌋ = 1 of 2
    student = compress(spec, HALF, [HALVE, HALVE, KEEP])
    assert shapes(student)["add"] == 2
    pad = next(node for node in student.spec.nodes if node.op == "pad_channels")
    assert (pad.attrs["before"], pad.attrs["after"]) == (1, 0)


@pytest.mark.parametrize(("last", "expected"), [(False, [0, 0, 1, 1]), (True, [0, 1, 0, 1])])
def test_a_flattened_map_has_every_class_once_per_pixel(last: bool, expected: list[int]) -> None:
    flat = Call(lambda x: x.movedim(1, -1).flatten(1)) if last else nn.Flatten()
    net = nn.Sequential(nn.Conv2d(1, 2, 1), flat, nn.Linear(4, 2))
    spec = trace(net, (1, 1, 2))
    assert classes(spec, name_of(spec, "flatten")) == expected


def test_paths_that_meet_flattened_tie_their_channels_pixel_by_pixel() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 8, 4)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            # 2 channels of 2×2 pixels and 8 of 1×1
            y = torch.flatten(self.fine(x), 1) + torch.flatten(self.coarse(x), 1)
            return self.head(y)  # type: ignore[no-any-return]

    spec = trace(Net(), (1, 4, 4))
    assert classes(spec, "fine") == [0, 1]
    assert classes(spec, "coarse") == [0, 0, 0, 0, 1, 1, 1, 1]


def test_one_channel_that_stretches_over_many_is_tied_to_none() -> None:
    spec = spec_of(Residual(nn.Conv2d(1, 3, 1), nn.Conv2d(1, 1, 1), "x + y"))
    assert classes(spec, "0.path") == classes(spec, "add") == [0, 1, 2]
    assert classes(spec, "0.shortcut") == [3]


def test_places_of_classes() -> None:
    layout = Layout(0, np.array([4, 7, 4, 9]), ())
    # the first 4 is channel 0, the second channel 2; there is no third, and no 5
    assert layout.places(np.array([9, 4, 5, 4, 4])).tolist() == [3, 0, -1, 2, -1]


def test_the_channels_that_stay_are_the_first_of_every_group() -> None:
    spec = spec_of(Concat([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 1)]))
    channels = found(spec)
    widths = np.array([len(members) for members in channels.members])
    widths[channels.group[channels.layout["0.branches.1"].classes[0]]] = 1
    kept = channels.kept(channels.layout["cat"], widths)
    assert kept.tolist() == [True, True, True, False, False]
    assert channels.layout[INPUT].groups == ((0, 1),)
