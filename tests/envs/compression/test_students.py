"""Every combination of legal actions on every network gives a student that runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, load
from envs.fx_import.trace import Traced
from tests.envs.networks import Classifier, all_moves, classifiers, extremes, legal_actions
from tests.envs.proofs import (
    apart,
    images_of,
    prove,
    prove_counts,
    prove_export,
    prove_keeping,
    random_actions,
)


def holds(teacher: Classifier, moves: Moves, data: st.DataObject, seed: int) -> None:
    """The property of the whole package."""
    traced = teacher.traced
    spec = traced.spec
    prove_keeping(teacher.module, traced, moves)
    student, module = prove(traced, moves, data.draw(legal_actions(spec, moves), "actions"))
    # many candidates planned at once, whose networks differ in what is left of them
    prove_counts(spec, moves, [*random_actions(spec, moves, 4, seed), *extremes(spec, moves)])
    # the student is a network like any other, so it can be a teacher in its turn
    again = Traced(student.spec, module.state_dict(), ())
    prove(again, moves, random_actions(student.spec, moves, 1, seed)[0])


@given(classifiers(), all_moves, st.data(), st.integers(0, 99))
@settings(max_examples=140)
def test_any_network_with_any_legal_actions(
    teacher: Classifier, moves: Moves, data: st.DataObject, seed: int
) -> None:
    holds(teacher, moves, data, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(classifiers(most=6), all_moves, st.data(), st.integers(0, 9999))
@settings(max_examples=900)
def test_many_networks_with_any_legal_actions(
    teacher: Classifier, moves: Moves, data: st.DataObject, seed: int
) -> None:
    holds(teacher, moves, data, seed)


def exported(teacher: Classifier, moves: Moves, data: st.DataObject) -> None:
    spec = teacher.traced.spec
    actions = data.draw(legal_actions(spec, moves), "actions")
    _, module = prove(teacher.traced, moves, actions)
    prove_export(module, spec.input_shape)


@given(classifiers(most=2, least=1), all_moves, st.data())
@settings(max_examples=8)
def test_any_student_as_onnx(teacher: Classifier, moves: Moves, data: st.DataObject) -> None:
    exported(teacher, moves, data)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(classifiers(), all_moves, st.data())
@settings(max_examples=100)
def test_many_students_as_onnx(teacher: Classifier, moves: Moves, data: st.DataObject) -> None:
    exported(teacher, moves, data)


#: no removal, and nothing but the outputs is scaled
NARROWER = Moves((0.3, 0.5, 0.75, 1.0), "o")


def prunes_zeros(teacher: Classifier, actions: list[int]) -> None:
    """Channels that are 0 for every image may go, and no logit moves.

    The teacher's least important channels are made 0: every layer that writes one loses its
    filter, and every batch norm behind it its scale and shift. What is left has to be kept by all
    that read or write it, or the logits would move.
    """
    spec, weights = teacher.traced.spec, dict(teacher.traced.weights)
    student = compress(spec, NARROWER, actions)
    channels = anatomy(spec).channels
    kept = torch.zeros(len(channels.group), dtype=torch.bool)
    for order, width in zip(
        Inheritance.of(spec, weights).order, student.widths.tolist(), strict=True
    ):
        kept[order[:width]] = True
    for node in spec.nodes:
        if node.op in ("conv1d", "conv2d", "linear", "batch_norm"):
            rows = kept[channels.layout[node.name].classes]
            for name in ("weight", "bias"):
                if (key := f"{node.name}.{name}") in weights:
                    weights[key] = weights[key].clone()
                    weights[key][~rows] = 0
    images = images_of(spec.input_shape, 3)
    with torch.no_grad():
        expected = load(spec, weights).eval()(images)
        found = Inheritance.of(spec, weights).student(student, seed=0).eval()(images)
    assert apart(found, expected) <= 1e-5


@given(classifiers(zeros=True), st.data())
@settings(max_examples=60)
def test_channels_that_are_zero_can_go(teacher: Classifier, data: st.DataObject) -> None:
    prunes_zeros(teacher, list(data.draw(legal_actions(teacher.traced.spec, NARROWER))))


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(classifiers(most=6, zeros=True), st.data())
@settings(max_examples=500)
def test_channels_that_are_zero_can_go_from_many_networks(
    teacher: Classifier, data: st.DataObject
) -> None:
    prunes_zeros(teacher, list(data.draw(legal_actions(teacher.traced.spec, NARROWER))))
