"""``understudy inspect``: a teacher's layers before anything is done to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from service.cli.streams import console
from service.cli.tables import print_table

#: columns that no table of layers fills; to ask how many it would like
ROOM = 10_000


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
