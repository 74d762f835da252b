"""What leaves no trace: identities, shapes and constants, and the branch of an If."""

from __future__ import annotations

import math

import numpy as np

from teachers.onnx_import.folding import CASTS
from teachers.onnx_import.rules import shape_slice
from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation, Constant, Value


def identity(step: Step) -> Value:
    """The input itself."""
    value = step.inputs[0]
    assert value is not None
    return value


def dropout(step: Step) -> Value:
    """Dropout does nothing at inference, whatever its ratio."""
    return step.x()


def cast(step: Step) -> Value:
    """A cast between floats: everything here is float32."""
    if CASTS.get(int(step.attr("to", 0))) is not np.float32:
        raise step.refuse(
            "turns the image's tensor into whole numbers", value=step.attr("to"), bound="floats"
        )
    return step.x()


def shape(step: Step) -> Value:
    """The sides of a tensor, of which the batch is open."""
    first, second = (shape_slice(step.node, meta.shape) for meta in step.x().metas)
    return Constant(step.node.outputs[0], (first, second))


def size(step: Step) -> Value:
    """How many numbers a tensor has."""
    first, second = (np.array(math.prod(meta.shape)) for meta in step.x().metas)
    return Constant(step.node.outputs[0], (first, second))


def branch(step: Step) -> list[Value]:
    """The branch of an If whose condition is known from the shapes."""
    taken = "then_branch" if bool(step.array(0, "condition").all()) else "else_branch"
    if taken not in step.node.branches:
        raise step.refuse("has no such branch", value=taken, bound="two sub-graphs")
    return step.branch(step.node.branches[taken])


def on_constants(step: Step) -> Activation:
    """Refused: folded where its inputs are constants, and of no use on the image."""
    raise step.refuse(
        "works on constants alone",
        value=f"{step.node.op} of the image's tensor",
        bound="an operator of a convolutional classifier",
    )
