"""Is a netspec from outside one that runs? Asked before anything is built of it.

A bundle may come from a stranger, so nothing in its description is believed: keys, types, order,
sizes. What passes can be built, costs what :mod:`envs.compression.cost` says, and fits in memory.
"""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass

from torch import fx, nn

from edge import strict
from edge.errors import BadInput
from envs.graph.netspec import FORMAT, INPUT, NetSpec, Node, Shape
from envs.graph.ops import LARGEST, OPS

REMEDY = "Write the bundle again."

#: numbers in one tensor: 4 GiB of fp32
MOST_NUMBERS = 2**30

# attributes of every module: a layer of that name would hide them, or they it
_RESERVED = frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph()))) | set(keyword.kwlist)


@dataclass(frozen=True)
class _Head:
    format: int
    input_shape: tuple[int, ...]


@dataclass(frozen=True)
class _Record:
    """A node without its attributes, whose types depend on the operator."""

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]


def parse_netspec(text: str) -> NetSpec:
    """The netspec of a JSON text, checked as a whole; it may come from a stranger's bundle.

    Raises:
        BadInput: not what :meth:`NetSpec.to_json` writes, an unknown operator, a node that reads
            what no earlier node wrote, or sizes that do not follow or are out of reason.
    """
    spec = read_json(text)
    check_spec(spec)
    return spec


def read_json(text: str) -> NetSpec:
    """The spec that a JSON text describes; its sizes are not checked yet.

    Raises:
        BadInput: the text is no strict JSON, or has other keys or types than a spec.
    """
    where = "the network description"
    data = strict.loads(text.encode(errors="replace"), where, REMEDY)
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
        raise _refuse(where, data, "an object with a list of nodes")
    nodes = data.pop("nodes")
    head = strict.parse(_Head, data, where, REMEDY)
    if head.format != FORMAT:
        raise BadInput(
            f"{where} has another format",
            value=head.format,
            bound=str(FORMAT),
            remedy="Read it with the version of understudy that wrote it.",
        )
    return NetSpec(
        head.input_shape, tuple(_node(node, number) for number, node in enumerate(nodes))
    )


def _node(data: object, number: int) -> Node:
    where = f"node {number} of the network description"
    attrs = data.pop("attrs", None) if isinstance(data, dict) else None
    record = strict.parse(_Record, data, where, REMEDY)
    if not isinstance(attrs, dict):
        raise _refuse(f"{where}: attrs", attrs, "an object")
    return Node(record.name, record.op, record.inputs, attrs, record.shape)


def check_spec(spec: NetSpec) -> None:
    """Prove that a spec runs: known operators, order, own names, shapes that follow.

    Raises:
        BadInput: names the node that breaks the rule.
    """
    sizes = spec.input_shape
    if len(sizes) not in (2, 3) or not all(1 <= size <= LARGEST for size in sizes):
        raise _refuse("the input has an impossible shape", sizes, "(C, H, W) or (C, L), each ≥ 1")
    if not spec.nodes:
        raise _refuse("the network description is empty", 0, "at least one operator")
    shapes: dict[str, Shape] = {INPUT: spec.input_shape}
    paths = _Paths()
    for node in spec.nodes:
        _check_attributes(node)
        _check_place(node, shapes)
        owned = OPS[node.op].tensors(node.attrs)
        if owned:
            paths.take(node.name)
        try:
            inferred = OPS[node.op].shape(node.attrs, [shapes[name] for name in node.inputs])
        except ValueError as error:
            raise _refuse(f"node {node.name!r} does not fit", error, "shapes that fit") from None
        if inferred != node.shape:
            raise _refuse(f"node {node.name!r} claims a wrong shape", node.shape, str(inferred))
        if max(map(math.prod, (inferred, *owned.values()))) > MOST_NUMBERS:
            raise _refuse(f"node {node.name!r} is too large", inferred, f"{MOST_NUMBERS} numbers")
        shapes[node.name] = inferred
    if len(spec.output.shape) != 1:
        raise _refuse("the network ends in a map", spec.output.shape, "one logit per class")


def _check_attributes(node: Node) -> None:
    if node.op not in OPS:
        raise _refuse(f"node {node.name!r} has an unknown operator", node.op, ", ".join(OPS))
    fields = OPS[node.op].fields
    if set(node.attrs) != set(fields):
        raise _refuse(
            f"node {node.name!r} has other attributes than {node.op}",
            sorted(node.attrs),
            str(sorted(fields)),
        )
    for name, field in fields.items():
        if not field.holds(node.attrs[name]):
            raise _refuse(f"{name!r} of node {node.name!r}", node.attrs[name], field.bound)


def _check_place(node: Node, shapes: dict[str, Shape]) -> None:
    """Inputs stand before it, and its name is its own."""
    unknown = [name for name in node.inputs if name not in shapes]
    arity = OPS[node.op].arity
    if unknown or not node.inputs or len(node.inputs) != (arity or len(node.inputs)):
        raise _refuse(
            f"node {node.name!r} is out of place",
            strict.shorten(list(node.inputs)),
            f"{arity or 'one or more'} that earlier nodes write",
        )
    if node.name in shapes:
        raise _refuse("a name stands twice", node.name, "a name of its own for every node")


def usable(path: str) -> bool:
    """Whether a layer can be called so in a module that torch.fx writes."""
    return not _RESERVED.intersection(path.split("."))


class _Paths:
    """The modules of a network so far; none may hold another."""

    def __init__(self) -> None:
        self.layers: set[str] = set()
        self.holders: set[str] = set()

    def take(self, path: str) -> None:
        parts = path.split(".")
        around = {".".join(parts[:end]) for end in range(1, len(parts))}
        if not usable(path) or path in self.holders or around & self.layers:
            raise _refuse("the path of a layer", path, "a path of its own, free in torch")
        self.layers.add(path)
        self.holders |= around


def _refuse(problem: str, value: object, bound: str) -> BadInput:
    return BadInput(problem, value=strict.shorten(value), bound=bound, remedy=REMEDY)
