"""What networks cost, counted by hand; against built modules it is held in ``test_students.py``."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from envs.compression.cost import Cost, cost, costs, node_cost
from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import compress
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from tests.envs.blocks import Residual
from tests.envs.proofs import random_actions


@pytest.fixture
def spec() -> NetSpec:
    """Maps of 4×4: 1 → 2 channels with batch norm, a depthwise pair, 3 classes."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 2, 3, stride=2, padding=1, groups=2, bias=False),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return trace(net, (1, 4, 4))


def test_operator_by_operator(spec: NetSpec) -> None:
    assert {node.op + node.name: node_cost(spec, node) for node in spec.nodes} == {
        # 2·9 + 2 numbers, each used at 16 pixels but for the bias; reads 16 floats, writes 32
        "conv2d0": Cost(20, 80, 2 * 9 * 16, 4 * (16 + 32)),
        # scale and shift are trained, mean and variance are not, and the count is an int64
        "batch_norm1": Cost(4, 4 * 8 + 8, 0, 4 * (32 + 32)),
        # one filter for every channel, at 2×2 pixels
        "conv2d2": Cost(18, 72, 2 * 9 * 4, 4 * (32 + 8)),
        "flatten_3": Cost(0, 0, 0, 4 * (8 + 8)),
        "linear4": Cost(27, 108, 24, 4 * (8 + 3)),
    }


def test_the_whole_is_the_sum_and_the_peak_the_largest(spec: NetSpec) -> None:
    # most is held while the batch norm reads 32 floats and writes 32
    assert cost(spec) == Cost(69, 300, 288 + 72 + 24, 256)
    assert cost(spec).kb == pytest.approx(300 / 1024)


def test_what_a_later_operator_reads_is_held_until_then() -> None:
    path = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Conv2d(8, 2, 1))
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), Residual(path, nn.Identity(), "x + y"), nn.Flatten(), nn.Linear(8, 2)
    )
    spec = trace(net, (1, 2, 2))
    # per pixel: the block's input (2) waits for the add while 8 channels become 2; 4 pixels
    assert cost(spec).peak == 4 * 4 * (2 + 8 + 2)
    # of the image alone and the stem's map, 1 + 2; later 2 + 2 + 2 at the add
    moves = Moves((0.0, 1.0), "o")
    without = compress(spec, moves, [1, 0, 1, 1]).spec
    assert cost(without).peak == 4 * 4 * (2 + 2 + 2)


def test_a_batch_of_candidates_costs_what_each_of_them_costs() -> None:
    spec = toy_spec()
    for moves in PRESETS.values():
        actions = random_actions(spec, moves, 40, seed=1)
        found = costs(spec, moves, np.array(actions))
        assert len(found) == 40
        each = [cost(compress(spec, moves, one).spec) for one in actions]
        assert [found[place] for place in range(40)] == each
        assert found.kb.tolist() == [one.kb for one in each]
