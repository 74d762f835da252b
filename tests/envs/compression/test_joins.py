"""What is repaired where paths meet, one removal after the other: hand-worked networks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.compression.surgery import build
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from tests.envs.blocks import Concat, HalfThrough, Residual, Squeeze, ZeroShortcut

#: remove or keep
TWO = Moves((0.0, 1.0), "o")
OUT, KEEP = 0, 1


def spec_of(*modules: nn.Module, channels: int = 1, size: int = 4) -> NetSpec:
    """The pieces, and a linear layer over all their pixels."""
    net = nn.Sequential(*modules, nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, channels, size, size))
    return trace(net, (channels, size, size))


def left(spec: NetSpec, actions: Sequence[int], moves: Moves = TWO) -> list[tuple[str, str]]:
    """Name and operator of what the student has between the image and the head.

    It is built and run, too: whatever is written here is a network.
    """
    student = compress(spec, moves, [*actions, moves.keep])
    assert build(student.spec)(torch.zeros(2, *spec.input_shape)).shape == (2, 2)
    return [(node.name, node.op) for node in student.spec.nodes[:-2]]


def shape_of(student: Student, op: str) -> tuple[int, ...]:
    return next(node.shape for node in student.spec.nodes if node.op == op)


# -- add ----------------------------------------------------------------------------------------


@pytest.fixture
def block() -> NetSpec:
    path = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))
    return spec_of(nn.Conv2d(1, 4, 1), Residual(path, nn.Identity(), "x + y"))


def test_a_block_without_its_last_layer_is_projected(block: NetSpec) -> None:
    # 2 channels meet the stem's 4
    assert left(block, [KEEP, KEEP, OUT]) == [
        ("0", "conv2d"),
        ("1.path.0", "conv2d"),
        ("_1_path_1", "relu"),
        ("add.0.project", "conv2d"),
        ("add", "add"),
    ]


def test_a_block_without_layers_is_its_shortcut(block: NetSpec) -> None:
    assert left(block, [KEEP, OUT, OUT]) == [("0", "conv2d")]


def test_without_the_stem_the_image_is_brought_to_the_width_of_the_block(block: NetSpec) -> None:
    # the image has 1 channel, the block writes the group's 4
    assert left(block, [OUT, KEEP, KEEP]) == [
        ("1.path.0", "conv2d"),
        ("_1_path_1", "relu"),
        ("1.path.2", "conv2d"),
        ("add.1.project", "conv2d"),
        ("add", "add"),
    ]


def test_where_the_teacher_has_the_channels_nowhere_the_longer_path_gives_them() -> None:
    # both last layers go: 2 channels behind one layer meet 3 behind two
    long = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 5, 1))
    short = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 5, 1))
    spec = spec_of(Residual(short, long, "x + y"))
    student = compress(spec, TWO, [KEEP, OUT, KEEP, KEEP, OUT, KEEP])
    assert student.spec["add"].shape[0] == 3
    assert student.spec["add.0.project"].attrs["in"] == 2


def test_one_channel_goes_on_stretching_over_many() -> None:
    spec = spec_of(Residual(nn.Conv2d(1, 3, 1), nn.Conv2d(1, 1, 1), "x + y"))
    # without the wide path the image's one channel meets the shortcut's one
    assert left(spec, [OUT, KEEP]) == [("0.shortcut", "conv2d"), ("add", "add")]
    # without the narrow one the image's channel stretches as the shortcut's did
    assert left(spec, [KEEP, OUT]) == [("0.path", "conv2d"), ("add", "add")]


def test_zeros_for_new_channels_are_not_added_to_what_is_not_there() -> None:
    # without the stem there are no 2 channels to put zeros around: the image goes through as it is
    spec = spec_of(nn.Conv2d(1, 2, 1), Residual(nn.Conv2d(2, 4, 1), ZeroShortcut(1, 1, 1), "x + y"))
    assert left(spec, [OUT, KEEP]) == [
        ("1.path", "conv2d"),
        ("add.1.project", "conv2d"),
        ("add", "add"),
    ]


# -- concatenation --------------------------------------------------------------------------------


@pytest.fixture
def inception() -> NetSpec:
    """Three branches over the 2 channels of a stem: 3, 5 and 7 channels."""
    branches = [nn.Conv2d(2, outputs, 3, padding=1) for outputs in (3, 5, 7)]
    return spec_of(nn.Conv2d(1, 2, 1), Concat(branches))


@pytest.mark.parametrize(
    ("actions", "channels"),
    [
        ([KEEP, KEEP, KEEP, KEEP], 3 + 5 + 7),
        # a branch without its layer is the stem's map
        ([KEEP, OUT, KEEP, KEEP], 2 + 5 + 7),
        # two of them would be the same map twice
        ([KEEP, OUT, KEEP, OUT], 2 + 5),
        ([OUT, OUT, KEEP, OUT], 1 + 5),
    ],
)
def test_a_removed_branch_passes_on_what_it_read(
    inception: NetSpec, actions: list[int], channels: int
) -> None:
    student = compress(inception, TWO, [*actions, KEEP])
    assert student.spec["cat"].shape == (channels, 4, 4)
    left(inception, actions)


def test_where_all_branches_are_gone_nothing_is_concatenated(inception: NetSpec) -> None:
    assert left(inception, [KEEP, OUT, OUT, OUT]) == [("0", "conv2d")]


def test_a_removed_layer_of_a_dense_block_adds_no_channels() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    spec = spec_of(nn.Conv2d(1, 2, 1), Concat([nn.Identity(), layer]), nn.Conv2d(5, 4, 1))
    assert left(spec, [KEEP, OUT, KEEP]) == [("0", "conv2d"), ("2", "conv2d")]


def test_a_branch_of_another_size_is_resized() -> None:
    # one branch halves 4×4 maps twice over: strided, then pooled to what the other one has
    strided = nn.Conv2d(1, 2, 3, stride=2, padding=1)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 1), nn.MaxPool2d(2))
    spec = spec_of(Concat([strided, pooled]))
    assert left(spec, [OUT, KEEP]) == [
        ("0.branches.1.0", "conv2d"),
        ("_0_branches_1_1", "max_pool2d"),
        ("cat.0.resize", "resize"),  # the image, from 4×4 to 2×2
        ("cat", "cat"),
    ]


def test_a_tensor_that_the_teacher_repeats_stays_repeated() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    spec = spec_of(nn.Conv2d(1, 2, 1), Twice())
    assert left(spec, [KEEP]) == [("0", "conv2d"), ("cat", "cat")]
    # without the stem it is the image, which needs no repeating
    assert left(spec, [OUT]) == []


# -- gates ----------------------------------------------------------------------------------------


@pytest.fixture
def gated() -> NetSpec:
    """A squeeze-and-excitation block over the 4 channels of a stem."""
    gate = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid())
    return spec_of(nn.Conv2d(1, 4, 1), Squeeze(gate, flat=False))


def test_a_gate_that_lost_all_its_layers_stands_open(gated: NetSpec) -> None:
    # nothing is left of it, the mean over space included
    assert left(gated, [KEEP, OUT, OUT]) == [("0", "conv2d")]


def test_a_gate_with_one_layer_still_works(gated: NetSpec) -> None:
    assert left(gated, [KEEP, OUT, KEEP]) == [
        ("0", "conv2d"),
        ("mean", "adaptive_avg_pool2d"),
        ("1.gate.2", "conv2d"),
        ("_1_gate_3", "sigmoid"),
        ("mul", "mul"),
    ]
    # without the last one its 2 factors are projected to 4; the sigmoid belonged to that layer
    assert left(gated, [KEEP, KEEP, OUT]) == [
        ("0", "conv2d"),
        ("mean", "adaptive_avg_pool2d"),
        ("1.gate.0", "conv2d"),
        ("_1_gate_1", "relu"),
        ("mul.0.project", "conv2d"),
        ("mul", "mul"),
    ]


def test_a_gate_before_which_the_stem_is_gone(gated: NetSpec) -> None:
    # the gate's layer reads the image and writes 4 factors for the 1 channel of the image, which
    # is brought to 4 first
    student = compress(gated, TWO, [OUT, KEEP, KEEP, KEEP])
    assert student.spec["1.gate.0"].attrs["in"] == 1
    assert student.spec["mul.1.project"].attrs["out"] == 4


# -- layers that mean certain channels --------------------------------------------------


def test_a_depthwise_convolution_takes_what_is_there() -> None:
    # MobileNet's block: expansion 2 → 8, a filter for each, projection to 2
    block = (nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 2, 1))
    spec = spec_of(nn.Conv2d(1, 2, 1), *block)
    # without the expansion: a filter for each of the stem's 2
    student = compress(spec, TWO, [KEEP, OUT, KEEP, KEEP, KEEP])
    attrs = student.spec["2"].attrs
    assert (attrs["in"], attrs["out"], attrs["groups"]) == (2, 2, 2)
    assert student.spec["3"].attrs["in"] == 2
    # without the depthwise layer the projection reads the expansion
    assert left(spec, [KEEP, KEEP, OUT, KEEP]) == [
        ("0", "conv2d"),
        ("1", "conv2d"),
        ("3", "conv2d"),
    ]


def test_a_grouped_convolution_gets_its_own_channels() -> None:
    spec = spec_of(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1, groups=2))
    # the stem's 3 cannot be cut in 2 groups: they are projected to 8
    student = compress(spec, TWO, [KEEP, OUT, KEEP, KEEP])
    assert student.spec["2_project"].attrs["in"] == 3
    assert student.spec["2_project"].attrs["out"] == 8
    assert student.spec["2"].attrs["groups"] == 2


def test_a_shuffle_unit_whose_stem_is_gone_works_on_the_image() -> None:
    spec = spec_of(nn.Conv2d(3, 4, 1), HalfThrough(nn.Conv2d(2, 2, 1)), channels=3)
    # the image cannot be halved as the stem's channels were: it goes into the path whole, and
    # round it as 2 channels, so that the unit writes 4 as before and shuffles them
    assert left(spec, [OUT, KEEP])[:3] == [
        ("1.path", "conv2d"),
        ("cat.0.project", "conv2d"),
        ("cat", "cat"),
    ]
    assert left(spec, [OUT, KEEP])[3][1] == "shuffle"


def dense_block() -> NetSpec:
    """A stem of 4 channels, then three layers that each add 2: norm, relu, convolution of all."""
    block: list[nn.Module] = [nn.Conv2d(1, 4, 1)]
    for channels in (4, 6, 8):
        path = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2, 1))
        block.append(Concat([nn.Identity(), path]))
    return spec_of(*block)


@pytest.mark.parametrize(
    ("kept", "widths"),
    [([], []), ([2], [6]), ([1, 3], [6, 8]), ([1, 2, 3], [6, 8, 10])],
)
def test_a_layer_of_a_dense_block_that_is_gone_takes_its_part_with_it(
    kept: list[int], widths: list[int]
) -> None:
    """Its norm stands before its convolution and is left with what the block holds already."""
    spec = dense_block()
    actions = [KEEP, *(KEEP if layer in kept else OUT for layer in (1, 2, 3)), KEEP]
    student = compress(spec, TWO, actions)
    assert [node.shape[0] for node in student.spec.nodes if node.op == "cat"] == widths
    norms = [node for node in student.spec.nodes if node.op == "batch_norm"]
    assert len(norms) == len(kept)  # those that read for nobody are gone too
    assert not any("project" in node.name for node in student.spec.nodes)


def test_a_part_that_is_wider_than_the_teachers_is_projected() -> None:
    # both paths read a stem of 8; the first writes 2, and without its layer would pass on all 8
    paths = [nn.Conv2d(8, 2, 1), nn.Conv2d(8, 3, 1)]
    spec = spec_of(nn.Conv2d(1, 8, 1), Concat(paths))
    student = compress(spec, TWO, [KEEP, OUT, KEEP, KEEP])
    assert student.spec["cat.0.project"].attrs["in"] == 8
    assert student.spec["cat.0.project"].attrs["out"] == 2
    assert student.spec["cat"].shape[0] == 5


def test_a_part_on_which_a_depthwise_layer_still_works_stays() -> None:
    # the image goes round, and through a path of which only the depthwise layer is left: that is
    # one more map of the image, and no repetition
    path = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, padding=1, groups=3))
    spec = spec_of(Concat([nn.Identity(), path]))
    student = compress(spec, TWO, [OUT, KEEP, KEEP])
    assert student.spec["cat"].shape[0] == 2
    gone = compress(spec, TWO, [OUT, OUT, KEEP])
    assert not any(node.op == "cat" for node in gone.spec.nodes)
