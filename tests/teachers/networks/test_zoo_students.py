"""Every network of the zoo is compressed like any other; what holds of random ones holds here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pytest
import torch
from torch import nn

from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS, Moves
from envs.compression.surgery import Inheritance
from envs.fx_import.trace import Traced, describe
from envs.graph.netspec import NetSpec
from teachers.formats.zoo import ARCHITECTURES, build
from tests.envs.networks import extremes, stir
from tests.envs.proofs import prove, prove_counts, prove_export, prove_keeping, random_actions

#: networks whose first linear layer or whose maps make them slow at 32×32
LARGE = ("cloudcnn", "edgecnn3", "edgecnn5", "edgecnn10", "wide_resnet28_10")
DEFAULT, PAPER = PRESETS["default"], PRESETS["paper"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    teacher.cache_clear()


def shape_of(arch: str) -> tuple[int, int, int]:
    return (3, 12, 12) if arch in LARGE else (3, 32, 32)


@lru_cache(maxsize=1)  # the tests of one network follow each other
def teacher(arch: str) -> tuple[nn.Module, Traced, Inheritance]:
    """A network with random weights for ten classes, its description and its ranking."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch, input_shape=shape_of(arch), classes=10).eval()
        stir(module)
    traced = describe(module, shape_of(arch))
    return module, traced, Inheritance.of(traced.spec, traced.weights)


def check(arch: str, moves: Moves, actions: list[int]) -> nn.Module:
    _, traced, inheritance = teacher(arch)
    return prove(traced, moves, actions, inheritance)[1]


def without_strides(spec: NetSpec) -> list[int]:
    """⌊2 · .6 + ½⌋ = 1 at every layer that has a stride, and little of all others."""
    layers = anatomy(spec).layers
    masks = PAPER.masks(layers)
    cut, little = PAPER.pool.index(0.6), PAPER.pool.index(0.2)
    wanted = [cut if layer.stride > 1 else little for layer in layers]
    return [
        action if mask[action] else PAPER.keep for action, mask in zip(wanted, masks, strict=True)
    ]


@pytest.mark.parametrize("arch", ARCHITECTURES)
class TestZoo:
    """Two students of each in every run, many in the long one."""

    def test_two_students(self, arch: str) -> None:
        spec = teacher(arch)[1].spec
        smallest = extremes(spec, DEFAULT)[0]
        check(arch, DEFAULT, smallest)
        drawn = random_actions(spec, PAPER, 1, seed=1)[0]
        check(arch, PAPER, drawn)

    def test_many_candidates_cost_what_each_of_them_costs(self, arch: str) -> None:
        spec = teacher(arch)[1].spec
        for moves in (DEFAULT, PAPER):
            prove_counts(spec, moves, random_actions(spec, moves, 3, seed=2))

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_keeping_everything_gives_the_teacher_back(self, arch: str, preset: str) -> None:
        module, traced, _ = teacher(arch)
        prove_keeping(module, traced, PRESETS[preset])

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("preset", PRESETS)
    def test_random_students(self, arch: str, preset: str, seed: int) -> None:
        spec, moves = teacher(arch)[1].spec, PRESETS[preset]
        check(arch, moves, random_actions(spec, moves, 1, seed)[0])

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_extremes(self, arch: str, preset: str) -> None:
        """All as small as it gets; the first or the last layer alone; every other layer."""
        spec, moves = teacher(arch)[1].spec, PRESETS[preset]
        low, _, first, last, odd, even = extremes(spec, moves)
        for actions in (low, first, last, odd, even):
            check(arch, moves, actions)

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    def test_every_stride_cut(self, arch: str) -> None:
        spec = teacher(arch)[1].spec
        check(arch, PAPER, without_strides(spec))

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    def test_a_student_as_onnx(self, arch: str) -> None:
        spec = teacher(arch)[1].spec
        prove_export(
            check(arch, DEFAULT, random_actions(spec, DEFAULT, 1, seed=3)[0]), spec.input_shape
        )
