"""A teacher as a netspec, and rebuilt from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from edge.errors import BadInput
from envs.compression.surgery import load
from envs.fx_import.trace import agrees, describe
from envs.graph.netspec import NetSpec
from teachers.formats.channel_order import for_rgb
from teachers.formats.manifest import Teacher


@dataclass(frozen=True, eq=False)
class Described:
    """A teacher that is understood.

    Attributes:
        teacher: its module is rebuilt from the description: its state dict has the spec's keys,
            and it ends in logits.
        network: its operators.
        notes: what was left out, in sentences.
    """

    teacher: Teacher
    network: NetSpec
    notes: tuple[str, ...]


def understand(teacher: Teacher) -> Described:
    """Describe a teacher, and prove on a batch that the description gives its logits.

    Raises:
        BadInput: an operator that is not supported, other classes than the manifest names, or a
            description that does not compute what the teacher does.
    """
    shape = teacher.manifest.preprocess.input_shape
    traced = describe(teacher.module, shape)
    network = traced.spec
    if network.classes != teacher.manifest.classes:
        raise BadInput(
            f"teacher {teacher.name} does not fit its manifest",
            value=f"{network.classes} logits",
            bound=f"{teacher.manifest.classes}, its classes",
            remedy="Correct classes and class_names in the teacher's JSON.",
        )
    module = load(network, traced.weights).eval()
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    if not agrees(teacher.module, lambda x: traced.ending.apply(module(x)), images):
        raise BadInput(
            "the teacher's description does not give its logits",
            value=teacher.name,
            bound="logits within 1e-4",
            remedy="Please report this network: it uses an operator in a way we misread.",
        )
    notes = traced.notes
    if teacher.manifest.channel_order == "BGR" and shape[0] == 3:
        network, weights = for_rgb(network, traced.weights)
        module = load(network, weights).eval()
        notes += ("its colours are BGR: students, and cloud/teacher.onnx, take RGB",)
    return Described(replace(teacher, module=module), network, notes)
