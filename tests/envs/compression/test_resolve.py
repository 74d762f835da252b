"""What a student looks like: sizes, widths and repairs, worked out by hand.

Joins are in ``test_joins.py``, channels that stay or go together in ``test_channels.py``, and the
property that every student of every network runs in ``test_students.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from edge.errors import BadInput
from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import Student, compress
from envs.compression.surgery import build
from envs.fx_import.trace import trace
from envs.gym.toy import toy_spec
from tests.envs.blocks import Call, Residual


class Stage(nn.Module):
    """Maps of 8×8 in; a strided block whose shortcut is a convolution; maps of 4×4 flattened."""

    def __init__(self, stem_stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stem_stride, padding=1)
        self.path = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2)
        self.flat = nn.Flatten()
        self.head = nn.Linear(6 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.flat(self.path(x) + self.shortcut(x)))  # type: ignore[no-any-return]


KEEP, OUT = 1, 0
TWO = Moves((0.0, 1.0), "o")


def nodes(student: Student) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(node.name, node.op, node.shape) for node in student.spec.nodes]


def staged(stem: int, path: int, shortcut: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return nodes(compress(trace(Stage(), (1, 8, 8)), TWO, [stem, path, shortcut, KEEP]))


def test_a_path_of_another_size_is_resized_and_one_of_another_width_projected() -> None:
    assert staged(KEEP, KEEP, OUT) == [
        ("stem", "conv2d", (4, 8, 8)),
        ("path", "conv2d", (6, 4, 4)),
        ("add.1.resize", "resize", (4, 4, 4)),  # 8×8 → 4×4 without weights
        ("add.1.project", "conv2d", (6, 4, 4)),  # the stem's 4 channels → the group's 6
        ("add", "add", (6, 4, 4)),
        ("flat", "flatten", (96,)),
        ("head", "linear", (2,)),
    ]


def test_it_does_not_matter_which_of_the_two_paths_is_gone() -> None:
    assert staged(KEEP, OUT, KEEP)[2:4] == [
        ("add.0.resize", "resize", (4, 4, 4)),
        ("add.0.project", "conv2d", (6, 4, 4)),
    ]


def test_two_paths_that_lost_everything_are_one_and_the_same() -> None:
    # the head keeps the meaning of its columns: its maps come back to the teacher's 4×4
    assert staged(KEEP, OUT, OUT) == [
        ("stem", "conv2d", (4, 8, 8)),
        ("flat.resize", "resize", (4, 4, 4)),
        ("flat", "flatten", (64,)),
        ("head", "linear", (2,)),
    ]


def test_paths_of_a_size_of_their_own() -> None:
    # stride ⌊2 · .6 + ½⌋ = 1 for both paths: 8×8 meets 8×8, and nothing needs repair at the add
    paper = PRESETS["paper"]
    keep, six = paper.keep, paper.pool.index(0.6)
    spec = trace(Stage(), (1, 8, 8))
    both = nodes(compress(spec, paper, [keep, six, six, keep]))
    assert ("add", "add", (4, 8, 8)) in both  # ⌊6 · .6 + ½⌋ = 4 channels
    assert [name for name, op, _ in both if op == "resize"] == ["flat.resize"]
    # one of them at stride 1: 8×8 meets the teacher's 4×4, which wins
    one = nodes(compress(spec, paper, [keep, six, keep, keep]))
    assert ("add.0.resize", "resize", (4, 4, 4)) in one


def test_a_path_that_still_has_the_size_of_the_teacher_keeps_it() -> None:
    # 8×8 → 6×6 → 8×8 and the image beside it; without the last layer 6×6 is brought to 8×8
    path = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3, padding=2))
    net = nn.Sequential(Residual(path, nn.Identity(), "x + y"), nn.Flatten(), nn.Linear(64, 2))
    student = compress(trace(net, (1, 8, 8)), TWO, [KEEP, OUT, KEEP])
    assert [shape for _, op, shape in nodes(student) if op == "resize"] == [(2, 8, 8)]


def test_the_repairs_of_a_student_that_is_compressed_again() -> None:
    # as above, but the stem halves 16×16 first; the shortcut goes, as above
    once = compress(trace(Stage(stem_stride=2), (1, 16, 16)), TWO, [KEEP, KEEP, OUT, KEEP])
    assert nodes(once)[2:4] == [
        ("add.1.resize", "resize", (4, 4, 4)),
        ("add.1.project", "conv2d", (6, 4, 4)),
    ]
    # the projection is a layer like any other now: it goes, and is repaired under a new name; the
    # stem's stride goes from 2 to 1, so the old resize starts from 16×16
    moves = Moves((0.0, 0.6, 1.0), "d")
    twice = compress(once.spec, moves, [1, 2, 0, 2])
    assert twice.spec["add.1.resize"].attrs == {"source": [16, 16], "size": [4, 4]}
    assert "add.1.project" not in [name for name, _, _ in nodes(twice)]
    assert "add.1.project_" in [name for name, _, _ in nodes(twice)]


def test_the_first_writer_that_is_left_sets_the_width() -> None:
    halves = Moves((0.0, 0.5, 1.0), "ko")
    spec = trace(Stage(), (1, 8, 8))
    widths = {
        actions: compress(spec, halves, [2, *actions, 2]).spec["add"].shape[0]
        for actions in [(2, 1), (1, 2), (0, 1), (1, 0)]
    }
    assert widths == {(2, 1): 6, (1, 2): 3, (0, 1): 3, (1, 0): 3}


def test_maps_that_shrank_below_a_kernel_are_padded_until_one_window_fits() -> None:
    # a 7×7 kernel on 4×4 maps has 2×2 windows with padding 2, and none with less
    net = nn.Sequential(nn.Conv2d(1, 2, 7, padding=2), nn.Flatten(), nn.Linear(8, 2))
    spec = trace(net, (1, 4, 4))
    no_padding = Moves((0.0, 0.1, 1.0), "p")
    conv = compress(spec, no_padding, [1, 2]).spec["0"]
    assert conv.attrs["padding"] == [2, 2]  # where ⌊.1 · 2 + ½⌋ would be 0
    assert conv.shape == (2, 2, 2)


def test_a_pool_never_looks_beyond_its_map() -> None:
    # 5×5 maps under a 5×5 kernel: 3×3 with padding 1, and 1×1 once that is scaled to 0
    net = nn.Sequential(
        nn.Conv2d(1, 2, 5, padding=1), nn.MaxPool2d(3), nn.Flatten(), nn.Linear(2, 2)
    )
    spec = trace(net, (1, 5, 5))
    assert spec["0"].shape == (2, 3, 3)
    student = compress(spec, Moves((0.0, 0.1, 1.0), "p"), [1, 2])
    assert student.spec["0"].shape == (2, 1, 1)
    assert student.spec["_1"].attrs["kernel"] == [1, 1]
    assert build(student.spec)(torch.zeros(2, 1, 5, 5)).shape == (2, 2)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([7, 7, 7, 7], "number of actions .* got 4; expected 5, one per weight layer"),
        ([7] * 6, "number of actions .* got 6; expected 5"),
        ([7, 7, 3, 7, 7], r"'outer' is not legal: got 3; expected one of \[0, 7\]"),
        ([7, 7, 7, 7, 0], r"'head' is not legal: got 0; expected one of \[7\]"),
        ([7, 7, 7, 8, 7], "'down' is not legal: got 8; expected one of .* Follow the action mask"),
        ([-1, 7, 7, 7, 7], "'stem' is not legal: got -1"),
    ],
)
def test_illegal_actions_are_refused(actions: Sequence[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        compress(toy_spec(), Moves((0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), "o"), actions)


def _two_adds() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(i, 3, 1) for i in (1, 3, 3))
            self.flat, self.head = nn.Flatten(), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.head(self.flat(x + self.b(x) + self.c(x)))  # type: ignore[no-any-return]

    return Net()


def _twice_the_same() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.flat, self.head = nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.head(self.flat(x + x))  # type: ignore[no-any-return]

    return Net()


@pytest.mark.parametrize(
    ("make", "actions", "adds"),
    [
        (_two_adds, [KEEP, KEEP, KEEP, KEEP], 2),
        (_two_adds, [KEEP, OUT, KEEP, KEEP], 1),
        (_two_adds, [KEEP, OUT, OUT, KEEP], 0),
        # x + x doubles x in the teacher, so it does in the student
        (_twice_the_same, [KEEP, KEEP], 1),
        (_twice_the_same, [OUT, KEEP], 1),
    ],
)
def test_an_add_goes_where_nothing_is_left_to_add(
    make: Callable[[], nn.Module], actions: list[int], adds: int
) -> None:
    student = compress(trace(make(), (1, 2, 2)), TWO, actions)
    assert [node.op for node in student.spec.nodes].count("add") == adds
    assert build(student.spec)(torch.zeros(2, 1, 2, 2)).shape == (2, 2)


# -- operators that mean pixels or channels by their place ----------------------------------------


def test_maps_are_brought_to_the_size_that_a_cut_means() -> None:
    # the first 3 columns of 4; at stride 1 there are 8, of which the first 3 would be others
    cut = Call(lambda x: x[..., :3])
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, padding=1), cut, nn.Flatten(), nn.Linear(24, 2))
    student = compress(trace(net, (1, 8, 8)), PRESETS["paper"], [3, 5])
    assert [shape for _, op, shape in nodes(student) if op == "resize"] == [(1, 4, 4)]
    # every other pixel is every other pixel at any size
    every = Call(lambda x: x[..., ::2, ::2])
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, padding=1), every, nn.Flatten(), nn.Linear(8, 2))
    student = compress(trace(net, (1, 8, 8)), PRESETS["paper"], [3, 5])
    assert "resize" not in [op for _, op, _ in nodes(student)[:-3]]
    assert [shape for _, op, shape in nodes(student) if op == "slice_space"][-1] == (1, 4, 4)


def test_a_group_norm_keeps_as_many_groups_as_divide_the_channels() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 1),
        nn.GroupNorm(4, 8),
        nn.Conv2d(8, 6, 1),
        nn.InstanceNorm2d(6, affine=True),
        nn.Flatten(),
        nn.Linear(6 * 4, 2),
    )
    spec = trace(net, (1, 2, 2))
    # 8 · .75 = 6 channels in 3 groups (4 do not divide 6); ⌊6 · .75 + ½⌋ = 5, each for itself
    student = compress(spec, Moves((0.75, 1.0), "o"), [0, 0, 1])
    assert [
        (node.attrs["features"], node.attrs["groups"])
        for node in student.spec.nodes
        if node.op == "group_norm"
    ] == [(6, 3), (5, 5)]


def test_a_network_over_sequences() -> None:
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    student = compress(trace(net, (2, 16)), Moves((0.5, 1.0), "do"), [0, 1])
    # stride ⌊2 · .5 + ½⌋ = 1 and 4 · .5 = 2 channels; before the flatten the 8 pixels that are
    # left come back to the teacher's 4, so that the columns keep their meaning
    assert [(op, shape) for _, op, shape in nodes(student)] == [
        ("conv1d", (2, 16)),
        ("batch_norm", (2, 16)),
        ("relu", (2, 16)),
        ("max_pool1d", (2, 8)),
        ("resize", (2, 4)),
        ("flatten", (8,)),
        ("linear", (3,)),
    ]
