"""A teacher's layers before anything is done to them: what each costs, and what may be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edge.errors import check_member
from envs.compression.cost import Cost, cost, node_cost
from envs.compression.layers import Anatomy, Layer, anatomy
from envs.compression.moves import PRESETS, Moves
from envs.graph.netspec import NetSpec, Node
from envs.graph.ops.weighted import CONVOLUTIONS
from envs.gym.viewer import describe
from teachers.formats.description import Described, understand
from teachers.formats.formats import guess_teacher, lacks_json, load_teacher
from teachers.formats.guessing import Guess


def inspect_teacher(
    path: str, preset: str, protect: Sequence[str] = (), *, trusted: bool = False
) -> dict[str, Any]:
    """Layers with their channel groups, cost and legal coefficients, as JSON values.

    A layer's cost is its own and that of the norms that go with it (``owns``); what belongs to no
    layer, such as the norms in front of a dense block's convolutions, counts in the whole alone.

    Args:
        path: of the teacher.
        preset: pool and scaled fields.
        protect: patterns of layers that stay as they are.
        trusted: whether a Python factory may be run.

    Raises:
        BadInput: the teacher cannot be used, there is no such preset, or a pattern fits nothing.
    """
    check_member("preset", preset, PRESETS)
    moves = replace(PRESETS[preset], protect=tuple(protect))
    if lacks_json(path):
        teacher, guess = guess_teacher(path)
    else:
        teacher, guess = load_teacher(path, trusted=trusted), Guess({}, {}, {})
    described = understand(teacher)
    structure = anatomy(described.network)
    moves.check_protected(structure.layers)
    whole = cost(described.network)
    return _summary(described, whole) | {
        "normalisation": normalisation(described.network),
        "json": dict(guess.data),
        "json_found": dict(guess.found),
        "json_guessed": dict(guess.guessed),
        "pool": list(moves.pool),
        "scaled": moves.scaled,
        "groups": _groups(structure),
        "layers": [
            _layer(described.network, structure, moves, layer, whole) for layer in structure.layers
        ],
    }


def _summary(described: Described, whole: Cost) -> dict[str, Any]:
    teacher = described.teacher
    manifest = teacher.manifest
    return {
        "name": teacher.name,
        "architecture": manifest.arch,
        "input": list(manifest.preprocess.input_shape),
        "classes": manifest.classes,
        "unseen": manifest.unseen,
        "kb": whole.kb,
        "parameters": whole.parameters,
        "macs": whole.macs,
        "peak_kb": whole.peak / 1024,
        "notes": list(described.notes),
    }


#: operators with weights that normalise, in words
NORMS = {
    "batch_norm": "batch norm",
    "group_norm": "group or instance norm",
    "layer_norm": "layer norm",
    "local_response_norm": "local response norm",
}


def normalisation(network: NetSpec) -> str:
    """Which norms there are, and what is behind the convolutions, in words.

    That a batch norm was folded into a convolution cannot be told from its never having been there.
    """
    readers: dict[str, list[Node]] = {}
    for node in network.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    counts = Counter(NORMS[node.op] for node in network.nodes if node.op in NORMS)
    told = ", ".join(f"{count} × {name}" for name, count in counts.items())
    convolutions = [node for node in network.nodes if node.op in CONVOLUTIONS]
    behind = [{reader.op for reader in readers.get(node.name, ())} for node in convolutions]
    written = sum("affine" in ops and not ops & NORMS.keys() for ops in behind)
    bare = sum(not ops & {"affine", *NORMS} for ops in behind)
    parts = [told] if told else []
    if written:
        parts.append(
            f"written out as constants per channel behind {written} of {len(behind)} convolutions"
        )
    if bare or not parts:
        why = "" if told else " (folded at export, or never there)"
        parts.append(f"none behind {bare} of {len(behind)} convolutions{why}")
    return "; ".join(parts)


def _groups(structure: Anatomy) -> list[dict[str, Any]]:
    """Every group that a layer writes, with its writers in execution order."""
    writers: dict[int, list[str]] = {}
    for layer in structure.layers:
        for group in layer.groups:
            writers.setdefault(group, []).append(layer.node)
    return [
        {
            "group": group,
            "channels": structure.channels.units(group),
            "fixed": group in structure.fixed,
            "layers": names,
        }
        for group, names in sorted(writers.items())
    ]


def _layer(
    network: NetSpec, structure: Anatomy, moves: Moves, layer: Layer, whole: Cost
) -> dict[str, Any]:
    parts = [node_cost(network, network[name]) for name in (layer.node, *layer.tail)]
    size, macs = sum(part.bytes for part in parts), sum(part.macs for part in parts)
    held = moves.held(structure.layers)
    mask = moves.mask(layer, held).tolist()
    legal = [coefficient for coefficient, there in zip(moves.pool, mask, strict=True) if there]
    return {
        "step": layer.index,
        "name": layer.node,
        "layer": describe(network[layer.node]),
        "state": list(layer.state),
        "groups": list(layer.groups),
        "sets_width": layer.sets_width,
        "width_of": _earlier_writers(structure, layer),
        "owns": list(layer.tail),
        "removable": 0 in legal,
        "protected": moves.protects(layer.node),
        "width_held": held.issuperset(layer.groups),
        "classifier": layer.classifier,
        "kb": size / 1024,
        "kb_share": size / whole.bytes,
        "macs": macs,
        "macs_share": macs / whole.macs if whole.macs else 0.0,
        "coefficients": legal,
    }


def _earlier_writers(structure: Anatomy, layer: Layer) -> list[int]:
    """Steps of the layers that write its groups first, and so set their widths."""
    first: dict[int, int] = {}
    for writer in structure.layers[: layer.index]:
        for group in writer.groups:
            first.setdefault(group, writer.index)
    return sorted({first[group] for group in layer.groups if group in first})
