"""``understudy inspect``: a teacher's layers before anything is done to them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.table import Table

from edge.errors import check_member
from envs.compression.cost import Cost, cost, node_cost
from envs.compression.layers import Anatomy, Layer, anatomy
from envs.compression.moves import PRESETS, Moves
from envs.graph.netspec import NetSpec, Node
from envs.graph.ops.weighted import CONVOLUTIONS
from envs.gym.viewer import describe
from service.cli.streams import console
from service.cli.tables import print_table
from teachers.formats.description import Described, understand
from teachers.formats.formats import guess_teacher, lacks_json, load_teacher
from teachers.formats.guessing import Guess

#: columns that no table of layers fills; to ask how many it would like
ROOM = 10_000


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


def print_inspection(found: Mapping[str, Any]) -> None:
    """The same as a table; a terminal that is too narrow for it gets a lighter one."""
    out = console()
    wide = _table(found)
    wanted = out.measure(wide, options=out.options.update(width=ROOM)).maximum
    shape = "×".join(map(str, found["input"]))
    lines = [
        f"{found['name']}: {found['architecture']}, {shape} -> {found['classes']} classes",
        f"{found['kb']:,.1f} KB, {found['parameters']:,} parameters, {found['macs']:,} MACs, "
        f"{found['peak_kb']:,.1f} KB of activations at once",
        f"normalisation: {found['normalisation']}",
        f"coefficients {_pool(found['pool'])} of {_scaled(found['scaled'])}",
    ]
    out.print("\n".join(lines))
    print_table(_table(found, light=True) if out.is_terminal and wanted > out.width else wide)
    shared = _shared(found["groups"])
    if shared:
        out.print("Layers that share channels; the first one left sets their number:")
    for line in shared:
        out.print(f"  {line}")
    for note in found["notes"]:
        out.print(f"Note: {note}")
    if found["json"]:
        out.print("\n".join(_told_json(found)))


def _told_json(found: Mapping[str, Any]) -> list[str]:
    """The JSON to save, with what in it is a guess."""
    lines = [f"From the file: {key} ({why})." for key, why in found["json_found"].items()]
    lines += [f"A guess: {key} ({why})." for key, why in found["json_guessed"].items()]
    lines += [
        f"Correct what is guessed, and save this as {found['name']}.json beside the file:",
        json.dumps(found["json"], ensure_ascii=False),
    ]
    return lines


def _table(found: Mapping[str, Any], light: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)) if light else Table()
    for column in (
        "step",
        "name",
        "layer",
        "groups",
        *(() if light else ("KB",)),
        "KB %",
        "MACs %",
    ):
        words = column in ("name", "layer", "groups")
        table.add_column(
            column, justify="left" if words else "right", no_wrap=not words, overflow="fold"
        )
    table.add_column("may be", overflow="fold")
    for layer in found["layers"]:
        table.add_row(
            str(layer["step"]),
            layer["name"],
            layer["layer"],
            _ranges(layer["groups"]),
            *(() if light else (f"{layer['kb']:,.1f}",)),
            f"{layer['kb_share']:.1%}",
            f"{layer['macs_share']:.1%}",
            _permitted(layer),
        )
    return table


def _permitted(layer: Mapping[str, Any]) -> str:
    """What an agent may do with a layer, in words."""
    if layer["protected"]:
        return "kept: protected"
    if layer["classifier"]:
        return "kept: gives the logits"
    scaled = any(0 < coefficient < 1 for coefficient in layer["coefficients"])
    ways = [way for way, there in (("scaled", scaled), ("removed", layer["removable"])) if there]
    said = " or ".join(ways) or "kept"
    if layer["width_held"]:
        return f"{said}; width of a protected layer"
    if layer["sets_width"] or not layer["width_of"]:
        return said
    steps = "steps" if len(layer["width_of"]) > 1 else "step"
    return f"{said}; width of {steps} {_ranges(layer['width_of'])}"


def _pool(pool: Sequence[float]) -> str:
    names = {"0": "0 (removed)", "1": "1 (kept)"}
    numbers = (f"{coefficient:g}" for coefficient in pool)
    return " ".join(names.get(number, number) for number in numbers)


def _scaled(fields: str) -> str:
    names = {"k": "kernel", "d": "stride", "p": "padding", "o": "outputs"}
    return ", ".join(name for field, name in names.items() if field in fields)


def _shared(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for all groups that the same layers write."""
    together: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for group in groups:
        if len(group["layers"]) > 1:
            together.setdefault(tuple(group["layers"]), []).append(group)
    lines = []
    for names, members in together.items():
        channels = sum(group["channels"] for group in members)
        numbers = f"group{'s' * (len(members) > 1)} {_ranges([g['group'] for g in members])}"
        size = f"{channels} channel{'s' * (channels > 1)}"
        fixed = ", fixed" * all(group["fixed"] for group in members)
        lines.append(f"{numbers} ({size}{fixed}): {', '.join(names)}")
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs drawn together: a split network has many groups to a layer."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs
    )
