"""Latency: what is counted is what is built, graphs run, and a known device is recovered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.kit import Kit, Work
from edge.profile import Profile, profile_of
from edge.session import Session
from edge.timing import Timed, least_ms
from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS
from envs.compression.resolve import compress
from envs.compression.surgery import build
from envs.export.export import to_onnx
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from envs.latency.graph import graph_of
from envs.latency.kit import drawn, make_kit
from envs.latency.model import Predictor, fit, terms
from envs.latency.works import works_of
from teachers.formats import zoo

DEFAULT = PRESETS["default"]


def network(name: str, side: int = 32) -> NetSpec:
    module = zoo.build(name, input_shape=(3, side, side), classes=10)
    return trace(module, (3, side, side))


@pytest.fixture(scope="module")
def resnet() -> NetSpec:
    return network("resnet18")


def whole(spec: NetSpec) -> tuple[Work, ...]:
    """The operators of a network as it is."""
    layers = len(anatomy(spec).layers)
    return works_of(spec, DEFAULT, np.full((1, layers), DEFAULT.keep)).of(0)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_batch_counts_what_each_student_is(resnet: NetSpec, seed: int) -> None:
    masks = DEFAULT.masks(anatomy(resnet).layers)
    actions = drawn(masks, 4, np.random.default_rng(seed))
    batch = works_of(resnet, DEFAULT, actions)
    for place, row in enumerate(actions):
        assert batch.of(place) == whole(compress(resnet, DEFAULT, row.tolist()).spec)


def test_norms_after_convolutions_are_no_work_of_their_own() -> None:
    spec = toy_spec()
    ops = [work.op for work in whole(spec)]
    assert "batch_norm" not in ops
    assert ops.count("conv2d") == sum(node.op == "conv2d" for node in spec.nodes)
    # and what follows a norm follows the convolution before it
    assert all(work.fused for work in whole(spec)[1:2])


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"]
)
def test_graphs_run_and_take_and_give_what_the_network_does(name: str) -> None:
    spec = network(name)
    masks = DEFAULT.masks(anatomy(spec).layers)
    for row in drawn(masks, 1, np.random.default_rng(0)):
        student = compress(spec, DEFAULT, row.tolist()).spec
        session = Session(graph_of(student), name)
        session.only_input(spec.input_shape)
        rows = np.random.default_rng(0).standard_normal((2, *spec.input_shape))
        found = session.run(rows.astype(np.float32), "out", (10,))
        assert np.isfinite(found).all()


def test_a_kit_holds_students_and_different_layers(resnet: NetSpec) -> None:
    kit, files = make_kit(resnet, DEFAULT, "resnet18", "f" * 64, students=3, layers=8)
    assert [graph.alone for graph in kit.graphs] == [False] * 3 + [True] * 8
    assert set(files) == {graph.file for graph in kit.graphs}
    # the weights are not in the files
    assert max(map(len, files.values())) < 20_000 < min(g.held for g in kit.graphs[:3])
    alone = [graph.works for graph in kit.graphs if graph.alone]
    assert len(set(alone)) == 8
    assert {works[0].op for works in alone} == {"conv2d"}
    for graph in kit.graphs:
        Session(files[graph.file], graph.file).only_input(graph.shape)
    again, _ = make_kit(resnet, DEFAULT, "resnet18", "f" * 64, students=3, layers=8)
    assert again == kit


def device(block: int) -> Callable[[Kit], list[float]]:
    """A made-up device: everything costs, and convolutions off its blocks cost three times more."""

    def price(name: str) -> float:
        if name.endswith("once"):
            return 0.002
        if name.endswith("macs"):
            return 0.06 if "plain" in name else 0.02
        return 0.0005

    def times(kit: Kit) -> list[float]:
        return [
            0.01
            + sum(
                price(name) * float(amount)
                for work in graph.works
                for name, where, amount in terms(work, block, graph.alone)
                if where
            )
            for graph in kit.graphs
        ]

    return times


@pytest.mark.parametrize("block", [4, 16])
def test_a_device_is_learnt_from_its_times(resnet: NetSpec, block: int) -> None:
    known, _ = make_kit(resnet, DEFAULT, "r", "f" * 64, students=50, layers=60)
    unseen, _ = make_kit(resnet, DEFAULT, "r", "f" * 64, students=20, layers=0, seed=9)
    model = fit(profile_of(known, device(block)(known), threads=1))
    assert model.block == block
    actions = drawn(DEFAULT.masks(anatomy(resnet).layers), 20, np.random.default_rng(9))
    found = Predictor(resnet, DEFAULT, model)(actions)
    np.testing.assert_allclose(found, device(block)(unseen), rtol=0.05)


def test_thousands_of_candidates_take_no_time(resnet: NetSpec) -> None:
    profile = made_profile(resnet)
    predict = Predictor(resnet, DEFAULT, fit(profile))
    actions = drawn(DEFAULT.masks(anatomy(resnet).layers), 1000, np.random.default_rng(0))
    together = predict(actions)
    assert together.shape == (1000,)
    assert (together > 0).all()
    singly = [predict(actions[place : place + 1])[0] for place in range(5)]
    np.testing.assert_allclose(together[:5], singly, rtol=1e-12)


def made_profile(spec: NetSpec) -> Profile:
    kit, _ = make_kit(spec, DEFAULT, "r", "f" * 64, students=10, layers=10)
    return profile_of(kit, device(8)(kit), threads=1)


def same(session: Session) -> Session:
    return session


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0"])
def test_graphs_take_as_long_as_the_export(name: str) -> None:
    """The nodes are those of the export; allow for a machine that does other things as well."""
    spec = network(name)
    timed: list[Timed] = []
    for content in (graph_of(spec), to_onnx(build(spec).eval(), spec.input_shape)):
        session = Session(content, name)
        timed.append(Timed(partial(same, session), spec.input_shape, 0))
    *_, (_, (drawn_up, exported)) = least_ms(timed, rounds=20)
    assert drawn_up == pytest.approx(exported, rel=0.2)
