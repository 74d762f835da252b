"""A compression in text: every layer before and after."""

from __future__ import annotations

from collections.abc import Sequence

from envs.cost import cost
from envs.layers import anatomy
from envs.moves import Moves
from envs.netspec import NetSpec, Node
from envs.resolve import compress


def describe(node: Node) -> str:
    """A weight layer in a few characters, such as ``3x3, 64 -> 128, /2``."""
    attrs = node.attrs
    if node.op == "linear":
        return f"linear, {attrs['in']} -> {attrs['out']}"
    (rows, columns), stride = attrs["kernel"], attrs["stride"]
    step = (
        ""
        if max(stride) == 1
        else ", /" + "x".join(map(str, stride if stride[0] != stride[1] else stride[:1]))
    )
    return f"{rows}x{columns}, {attrs['in']} -> {attrs['out']}{step}"


def draw(teacher: NetSpec, moves: Moves, actions: Sequence[int], decided: int | None = None) -> str:
    """One line per layer, then the repairs that compression made, then both costs.

    Args:
        teacher: the network before.
        moves: pool and scaled fields.
        actions: one legal action per layer.
        decided: layers from this step on are marked as not decided yet.
    """
    student = compress(teacher, moves, actions)
    after = {node.name: node for node in student.spec.nodes}
    lines = []
    for layer, action in zip(anatomy(teacher).layers, actions, strict=True):
        before = describe(teacher[layer.node])
        if decided is not None and layer.index >= decided:
            mark, now = "?", "..."
        elif layer.node in after:
            mark, now = f"{moves.pool[action]:g}", describe(after[layer.node])
        else:
            mark, now = "0", "removed"
        lines.append(f"{layer.index:3d}  {layer.node:<26} {before:<24} x {mark:<5} {now}")
    known = {node.name for node in teacher.nodes}
    lines += [
        f"  +  {node.name:<26} {'repair':<24} {'':7} {node.op} -> {'x'.join(map(str, node.shape))}"
        for node in student.spec.nodes
        if node.name not in known
    ]
    whole, part = cost(teacher), cost(student.spec)
    lines.append(
        f"     {whole.kb:,.1f} KB, {whole.macs:,} MACs  ->  {part.kb:,.1f} KB, {part.macs:,} MACs"
    )
    return "\n".join(lines)
