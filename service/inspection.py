"""``understudy inspect``: a teacher's layers before anything is done to them."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from edge.errors import check_member
from envs.cost import cost, node_cost
from envs.layers import anatomy
from envs.moves import PRESETS
from envs.viewer import describe as describe_layer
from search.preparation import describe
from service.tables import print_table
from teachers.formats import load_teacher


def inspect_teacher(path: str, preset: str) -> dict[str, Any]:
    """Layers with their channel groups, cost and legal coefficients.

    Raises:
        BadInput: the teacher cannot be used, or there is no such preset.
    """
    check_member("preset", preset, PRESETS)
    teacher = load_teacher(path)
    network, moves = describe(teacher), PRESETS[preset]
    whole = cost(network)
    layers = []
    for layer in anatomy(network).layers:
        own = node_cost(network, network[layer.node])
        layers.append(
            {
                "step": layer.index,
                "name": layer.node,
                "layer": describe_layer(network[layer.node]),
                "state": list(layer.state),
                "group": layer.group,
                "owns": list(layer.tail),
                "kb": own.kb,
                "kb_share": own.bytes / whole.bytes,
                "macs": own.macs,
                "macs_share": own.macs / whole.macs,
                "coefficients": [
                    coefficient
                    for coefficient, legal in zip(moves.pool, moves.mask(layer), strict=True)
                    if legal
                ],
            }
        )
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
        "layers": layers,
    }


def print_inspection(found: dict[str, Any]) -> None:
    """The same as a table."""
    shape = "×".join(map(str, found["input"]))
    table = Table(
        title=f"{found['name']}: {found['architecture']}, {shape} → {found['classes']} classes, "
        f"{found['kb']:,.1f} KB, {found['macs']:,} MACs",
        title_justify="left",
    )
    for column in ("step", "name", "layer", "group", "KB", "KB %", "MACs %"):
        words = column in ("name", "layer")
        table.add_column(column, justify="left" if words else "right", no_wrap=words)
    table.add_column("coefficients")
    for layer in found["layers"]:
        table.add_row(
            str(layer["step"]),
            layer["name"],
            layer["layer"],
            str(layer["group"]),
            f"{layer['kb']:,.1f}",
            f"{layer['kb_share']:.1%}",
            f"{layer['macs_share']:.1%}",
            " ".join(f"{coefficient:g}" for coefficient in layer["coefficients"]),
        )
    print_table(table)
