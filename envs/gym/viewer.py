"""A compression in text: every layer before and after."""

from __future__ import annotations

from collections.abc import Sequence

from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.graph.netspec import NetSpec, Node
from envs.graph.ops.weighted import depthwise


def describe(node: Node) -> str:
    """A weight layer in a few characters, such as ``3x3, 64 -> 128, /2``."""
    attrs = node.attrs
    ways = f"{attrs['in']} -> {attrs['out']}"
    if node.op == "linear":
        return f"linear, {ways}"
    words = ["x".join(map(str, attrs["kernel"])), ways]
    for sign, key in (("/", "stride"), ("dilated ", "dilation")):
        if max(attrs[key]) > 1:
            same = len(set(attrs[key])) == 1
            words.append(sign + "x".join(map(str, attrs[key][:1] if same else attrs[key])))
    if attrs["groups"] > 1:
        words.append("depthwise" if depthwise(attrs) else f"{attrs['groups']} groups")
    return ", ".join(words)


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
    known = {node.name for node in teacher.nodes}
    rows = []
    for layer, action in zip(anatomy(teacher).layers, actions, strict=True):
        if decided is not None and layer.index >= decided:
            mark, now = "?", "..."
        elif layer.node in after:
            mark, now = f"{moves.pool[action]:g}", describe(after[layer.node])
        else:
            mark, now = "0", "removed"
        rows.append((str(layer.index), layer.node, describe(teacher[layer.node]), f"x {mark}", now))
    rows += [
        ("+", node.name, "repair", "", f"{node.op} -> {'x'.join(map(str, node.shape))}")
        for node in student.spec.nodes
        if node.name not in known
    ]
    names, before = (max(len(row[column]) for row in rows) for column in (1, 2))
    lines = [f"{a:>3}  {b:<{names}}  {c:<{before}}  {d:<6}  {e}" for a, b, c, d, e in rows]
    whole, part = cost(teacher), cost(student.spec)
    lines.append(
        f"     {whole.kb:,.1f} KB, {whole.macs:,} MACs  ->  {part.kb:,.1f} KB, {part.macs:,} MACs"
    )
    return "\n".join(lines)
