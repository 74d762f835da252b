"""Layers that a user protects stay as they are, whatever the agent asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import compress
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from tests.envs.networks import Classifier, classifiers, legal_actions

POOL = PRESETS["default"].pool


@pytest.fixture(scope="module")
def toy() -> NetSpec:
    """stem and outer write one group of 10 channels; inner, down and head one each."""
    return toy_spec()


def legal(toy: NetSpec, *protect: str, scaled: str = "o") -> dict[str, list[float]]:
    moves = Moves(POOL, scaled, protect)
    layers = anatomy(toy).layers
    moves.check_protected(layers)
    return {
        layer.node: [POOL[action] for action in np.flatnonzero(mask)]
        for layer, mask in zip(layers, moves.masks(layers), strict=True)
    }


def test_a_protected_layer_may_only_be_kept(toy: NetSpec) -> None:
    found = legal(toy, "inner", "do*")
    assert found["inner"] == found["down"] == [1]
    assert found["stem"] == list(POOL)
    assert found["outer"] == [0, 1]  # the stem sets its width, with or without protection
    assert found["head"] == [1]  # it gives the logits


def test_nobody_else_changes_the_width_of_what_it_writes(toy: NetSpec) -> None:
    # outer is protected, and the stem writes the same channels first: its coefficients between 0
    # and 1 would do nothing, for nothing but outputs is scaled
    assert legal(toy, "outer")["stem"] == [0, 1]
    assert legal(toy, "outer", scaled="ko")["stem"] == list(POOL)  # its kernel may still shrink


def test_the_width_stays_where_other_fields_are_scaled(toy: NetSpec) -> None:
    moves = Moves((0.0, 0.5, 1.0), "kdpo", ("outer",))
    student = compress(toy, moves, [1, 1, 2, 1, 2])
    assert student.spec["stem"].attrs["out"] == student.spec["outer"].attrs["out"] == 10
    assert student.spec["stem"].attrs["kernel"] == [1, 1]  # 3 · .5 = 1.5 → 1
    assert student.spec["outer"].attrs["kernel"] == [3, 3]
    assert student.spec["inner"].attrs["out"] == 10  # half of 20


def test_a_pattern_that_means_no_layer_is_refused(toy: NetSpec) -> None:
    with pytest.raises(BadInput, match=r"got 'layer9\.\*'; expected names of layers.*stem, inner"):
        Moves(POOL, "o", ("stem", "layer9.*")).check_protected(anatomy(toy).layers)


@given(classifiers(), st.data())
@settings(max_examples=60)
def test_a_protected_layer_is_the_teachers_but_for_its_inputs(
    teacher: Classifier, data: st.DataObject
) -> None:
    spec = trace(teacher.module, teacher.input_shape)
    names = [layer.node for layer in anatomy(spec).layers]
    chosen = data.draw(st.sets(st.sampled_from(names), min_size=1))
    moves = Moves((0.0, 0.25, 0.5, 1.0), "kdpo", tuple(sorted(chosen)))
    student = compress(spec, moves, data.draw(legal_actions(spec, moves))).spec
    after = {node.name: node for node in student.nodes}
    for name in chosen:
        kept = dict(after[name].attrs)
        for key, value in spec[name].attrs.items():
            if key in ("in", "groups") or (key == "padding" and kept[key] != value):
                continue  # follow the input: its channels, or a map that shrank below the kernel
            if key == "out" and spec[name].attrs.get("groups", 1) == spec[name].attrs["in"] > 1:
                continue  # a depthwise layer whose input was removed works on what there is
            assert kept[key] == value, (name, key)
