"""What a student inherits, on weights whose order of importance is plain to see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edge.errors import BadInput
from envs.compression.criteria import CRITERIA
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.compression.surgery import Inheritance, build, load
from envs.fx_import.trace import agrees, trace
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec, Node
from tests.envs.networks import Classifier, all_moves, classifiers, legal_actions

#: remove, halve, keep
HALF = Moves((0.0, 0.5, 1.0), "o")
OUT, HALVE, KEEP = 0, 1, 2


class Block(nn.Module):
    """Four channels that the stem and the second convolution of a block both write."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 2, 1)
        self.outer = nn.Conv2d(2, 4, 1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        return self.head(self.flat(x + self.outer(self.inner(x))))  # type: ignore[no-any-return]


@pytest.fixture
def block() -> Block:
    """A Block whose every number says where it comes from.

    L1 norms of the filters (weight / mean, because each writer has one vote):
        stem    9 · (1, 2, 3, 10)       mean 36    .25  .5   .75  2.5
        outer   2 · (.1, .9, .2, .4)    mean .8    .25  2.25 .5   1
        sum                                        .5   2.75 1.25 3.5   → channels 3 and 1 stay
    By the stem alone, or by norms without the means, channels 3 and 2 would stay.
    """
    net = Block()
    with torch.no_grad():
        net.stem.weight.copy_(torch.tensor([1.0, -2, 3, 10])[:, None, None, None])
        assert net.stem.bias is not None
        net.stem.bias.copy_(torch.arange(4) + 0.5)
        net.norm.weight.copy_(torch.arange(4) + 20)
        net.norm.bias.copy_(torch.arange(4) + 30)
        net.norm.running_mean = torch.arange(4) + 40.0
        net.norm.running_var = torch.arange(4) + 50.0
        net.norm.num_batches_tracked = torch.tensor(7)
        # rows 100·(out), columns + in
        net.inner.weight.copy_((torch.arange(2)[:, None] * 100 + torch.arange(4))[..., None, None])
        net.outer.weight.copy_(torch.tensor([0.1, 0.9, -0.2, 0.4])[:, None, None, None])
        # feature 4·c + pixel of channel c
        net.head.weight.copy_(torch.arange(3)[:, None] * 100.0 + torch.arange(16))
    return net.eval()


def fill(layer: nn.Module, weight: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm1d)
    with torch.no_grad():
        layer.weight.copy_(weight)


def inherit(block: nn.Module, actions: list[int], *shape: int) -> tuple[Student, nn.Module]:
    spec = trace(block, shape)
    student = compress(spec, HALF, actions)
    return student, Inheritance.of(spec, block.state_dict()).student(student, seed=0)


def test_all_who_write_or_read_a_group_keep_the_same_channels(block: Block) -> None:
    _, module = inherit(block, [HALVE, KEEP, KEEP, KEEP], 1, 2, 2)
    state = module.state_dict()
    assert state["stem.weight"][:, 0, 0, 0].tolist() == [-2, 10]  # channels 1 and 3, in order
    assert state["stem.bias"].tolist() == [1.5, 3.5]
    assert state["norm.weight"].tolist() == [21, 23]
    assert state["norm.bias"].tolist() == [31, 33]
    assert state["norm.running_mean"].tolist() == [41, 43]
    assert state["norm.running_var"].tolist() == [51, 53]
    assert state["norm.num_batches_tracked"] == 7
    assert state["inner.weight"][:, :, 0, 0].tolist() == [[1, 3], [101, 103]]
    assert torch.equal(state["outer.weight"], block.outer.weight[[1, 3]])
    # the head reads all pixels of channels 1 and 3: features 4…7 and 12…15
    columns = [4, 5, 6, 7, 12, 13, 14, 15]
    assert state["head.weight"][0].tolist() == columns
    assert state["head.weight"][2].tolist() == [200 + column for column in columns]
    assert torch.equal(state["head.bias"], block.head.bias.detach())


@pytest.mark.parametrize("criterion", CRITERIA)
class TestCriteria:
    """What every order of importance has in common."""

    def scores(self, criterion: str, block: Block, layer: int) -> Tensor:
        spec = trace(block, (1, 2, 2))
        return CRITERIA[criterion](spec, anatomy(spec).layers[layer], block.state_dict())

    def test_every_output_has_a_score(self, criterion: str, block: Block) -> None:
        for layer, outputs in enumerate((4, 2, 4, 3)):
            scores = self.scores(criterion, block, layer)
            assert scores.shape == (outputs,)
            assert (scores >= 0).all()
            assert torch.equal(scores, self.scores(criterion, block, layer))

    def test_a_student_keeps_the_channels_that_it_ranks_first(
        self, criterion: str, block: Block
    ) -> None:
        spec = trace(block, (1, 2, 2))
        inheritance = Inheritance.of(spec, block.state_dict(), criterion)
        student = compress(spec, HALF, [HALVE, KEEP, KEEP, KEEP])
        group = anatomy(spec).layers[0].groups[0]
        best = inheritance.order[group][:2] - inheritance.order[group].min()
        state = inheritance.student(student, seed=0).state_dict()
        assert torch.equal(state["stem.weight"], block.stem.weight[sorted(best.tolist())])


def test_criteria_by_hand(block: Block) -> None:
    spec = trace(block, (1, 2, 2))
    stem, weights = anatomy(spec).layers[0], block.state_dict()
    # nine weights of ±1, 2, 3, 10 each: sums 9·w, lengths √9·w; batch norm's scales 20 … 23
    assert CRITERIA["l1"](spec, stem, weights).tolist() == [9, 18, 27, 90]
    assert CRITERIA["l2"](spec, stem, weights).tolist() == [3, 6, 9, 30]
    assert CRITERIA["bn_scale"](spec, stem, weights).tolist() == [20, 21, 22, 23]
    # no batch norm behind `outer`: the L1 norm
    outer = anatomy(spec).layers[2]
    assert torch.equal(
        CRITERIA["bn_scale"](spec, outer, weights), CRITERIA["l1"](spec, outer, weights)
    )


def test_an_unknown_criterion_is_refused(block: Block) -> None:
    with pytest.raises(BadInput, match="criterion: got 'l3'; expected one of .*l1"):
        Inheritance.of(trace(block, (1, 2, 2)), block.state_dict(), "l3")


def test_of_a_kernel_the_centre_stays() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, (5, 4), bias=False), nn.Flatten(), nn.Linear(4, 2))
    fill(net[0], torch.arange(20).reshape(1, 1, 5, 4))
    spec = trace(net, (1, 6, 5))
    # 5 · .5 = 2.5 → 3 rows; 4 · .5 = 2 columns, of the same parity
    student = compress(spec, Moves((0.5, 1.0), "k"), [0, 1])
    module = Inheritance.of(spec, net.state_dict()).student(student, seed=0)
    #  0  1  2  3
    #  4 [5  6] 7
    #  8 [9 10] 11
    # 12 [13 14] 15
    # 16 17 18 19
    assert module.state_dict()["0.weight"][0, 0].tolist() == [[5, 6], [9, 10], [13, 14]]


def test_a_projection_starts_as_the_identity(block: Block) -> None:
    # without outer, inner's 2 channels meet the stem's 4
    _, module = inherit(block, [KEEP, KEEP, OUT, KEEP], 1, 2, 2)
    weight = module.state_dict()["add.1.project.weight"]
    assert weight[:, :, 0, 0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_behind_a_removed_layer_of_equal_width_channels_keep_their_place() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 1),
        nn.Conv2d(3, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    # the second layer finds its channel 0 the most important, the first its channels 2 and 1
    fill(net[0], torch.tensor([1.0, 2, 3])[:, None, None, None])
    fill(net[1], torch.tensor([9.0, 1, 1])[:, None, None, None])
    fill(net[4], torch.tensor([[0.0, 1, 2], [10, 11, 12]]))
    spec = trace(net, (1, 2, 2))
    # 3 · .5 = 1.5 → 2 channels of the first layer, 1 and 2; the second counts as the identity
    student = compress(spec, HALF, [HALVE, OUT, KEEP])
    module = Inheritance.of(spec, net.state_dict()).student(student, seed=0)
    assert module.state_dict()["4.weight"].tolist() == [[1, 2], [11, 12]]


def test_behind_a_removed_layer_of_another_width_the_most_important_columns_stand_in() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    fill(net[1], torch.tensor([1.0, 7, 2, 5])[:, None])
    fill(net[3], torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]]))
    spec = trace(net, (2, 1, 1))
    student = compress(spec, HALF, [OUT, KEEP])
    module = Inheritance.of(spec, net.state_dict()).student(student, seed=0)
    # the image has 2 numbers; of the 4 columns those of features 1 and 3 weigh most
    assert module.state_dict()["3.weight"].tolist() == [[1, 3], [11, 13]]


def test_a_batch_norm_over_flattened_maps_keeps_all_pixels_of_a_channel() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    fill(net[0], torch.tensor([1.0, 5])[:, None, None, None])
    fill(net[2], torch.arange(8))
    spec = trace(net, (1, 2, 2))
    student = compress(spec, HALF, [HALVE, KEEP])
    module = Inheritance.of(spec, net.state_dict()).student(student, seed=0)
    assert module.state_dict()["2.weight"].tolist() == [4, 5, 6, 7]  # of channel 1


@given(classifiers(), all_moves, st.data(), st.integers(0, 99))
@settings(max_examples=20)
def test_a_student_depends_on_the_seed_and_on_nothing_else(
    teacher: Classifier, moves: Moves, data: st.DataObject, seed: int
) -> None:
    spec = teacher.traced.spec
    inheritance = Inheritance.of(spec, teacher.traced.weights)
    student = compress(spec, moves, data.draw(legal_actions(spec, moves)))
    before = torch.random.get_rng_state()
    first = inheritance.student(student, seed).state_dict()
    torch.rand(3)
    second = inheritance.student(student, seed).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # and it draws from no one else's random numbers
    torch.random.set_rng_state(before)
    inheritance.student(student, seed + 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_is_rebuilt_from_description_and_weights_alone(block: Block) -> None:
    student, module = inherit(block, [HALVE, KEEP, OUT, KEEP], 1, 2, 2)
    again = load(parse_netspec(student.spec.to_json()), module.state_dict())
    assert agrees(module.eval(), again.eval(), torch.randn(4, 1, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.bias": None}, r"\(1 tensors\): got stem.bias: missing; expected \(4,\)"),
        ({"extra": torch.zeros(2)}, r"got extra: \(2,\); expected no such tensor"),
        (
            {"inner.weight": torch.zeros(2, 3, 1, 1)},
            r"got inner.weight: .*; expected \(2, 4, 1, 1\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    block: Block, change: dict[str, Tensor | None], message: str
) -> None:
    spec = trace(block, (1, 2, 2))
    changed = {**block.state_dict(), **change}
    weights = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(BadInput, match=message + ".*Take both from the same bundle"):
        load(spec, weights)


def test_weights_are_compared_before_memory_is_taken() -> None:
    """A description of 4 TB of weights beside a file of 4 bytes is refused, not allocated."""
    million = {"in": 10**6, "out": 10**6, "bias": False, "dims": 0}
    spec = NetSpec(
        (10**6, 1, 1),
        (
            Node("f", "flatten", ("<image>",), {"last": False}, (10**6,)),
            Node("l", "linear", ("f",), million, (10**6,)),
        ),
    )
    with pytest.raises(BadInput, match=r"got l.weight: \(1,\); expected \(1000000, 1000000\)"):
        load(spec, {"l.weight": torch.zeros(1)})


def test_layers_of_a_sequence_keep_their_paths() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 1)), nn.Flatten(), nn.Linear(2, 2))
    assert set(build(trace(net, (1, 1, 1))).state_dict()) == set(net.state_dict())
