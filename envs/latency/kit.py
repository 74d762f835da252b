"""What a device has to time: layers of a teacher's students, and a few whole students of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.kit import FORMAT, Graph, Kit, Work
from envs.compression.flow import at
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS
from envs.graph.ops.weighted import CONVOLUTIONS
from envs.latency.graph import graph_of
from envs.latency.works import works_of

#: whole students and single layers of a kit
STUDENTS, LAYERS = 60, 120
#: bytes of one weight
FLOAT = 4


@dataclass(frozen=True)
class Part:
    """One graph: what it computes, and what work that is."""

    spec: NetSpec
    works: tuple[Work, ...]
    alone: bool


def make_kit(
    teacher: NetSpec,
    moves: Moves,
    name: str,
    fingerprint: str,
    students: int = STUDENTS,
    layers: int = LAYERS,
    seed: int = 0,
) -> tuple[Kit, Mapping[str, bytes]]:
    """The manifest and the files of a kit.

    Args:
        teacher: whose students are to be predicted.
        moves: pool and scaled fields of the search.
        name: of the teacher.
        fingerprint: of its weights.
        students: whole students, spread over all sizes.
        layers: single layers, with the activation after them, spread over those of students.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    whole = _students(teacher, moves, students, rng)
    parts = [*whole, *_layers(whole, layers, rng)]
    graphs, files = [], {}
    for place, part in enumerate(parts):
        file = f"{'layer' if part.alone else 'student'}_{place:03d}.onnx"
        files[file] = graph_of(part.spec)
        graphs.append(
            Graph(
                file,
                hashlib.sha256(files[file]).hexdigest(),
                tuple(part.spec.input_shape),
                part.alone,
                _held(part.spec),
                part.works,
            )
        )
    return Kit(FORMAT, name, fingerprint, tuple(graphs)), files


def drawn(masks: NDArray[np.int8], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random candidates, shape (count, layers), from nearly all of the teacher to next to none."""
    lean = rng.uniform(0.2, 3, count)
    columns = []
    for mask in masks:
        legal = np.flatnonzero(mask)
        # a power of a uniform number: the larger the exponent, the lower the coefficient
        place = (rng.random(count) ** lean * len(legal)).astype(np.int64)
        columns.append(legal[np.minimum(place, len(legal) - 1)])
    return np.stack(columns, axis=1)


def _students(teacher: NetSpec, moves: Moves, count: int, rng: np.random.Generator) -> list[Part]:
    actions = drawn(moves.masks(anatomy(teacher).layers), count, rng)
    batch = works_of(teacher, moves, actions)
    return [
        Part(compress(teacher, moves, row.tolist()).spec, batch.of(place), alone=False)
        for place, row in enumerate(actions)
    ]


def _layers(students: list[Part], count: int, rng: np.random.Generator) -> list[Part]:
    """Different convolutions of the students, each with the activation that follows it."""
    found: dict[tuple[object, ...], Part] = {}
    for student in students:
        spec, works = student.spec, list(student.works)
        for node, work in zip(_working(spec), works, strict=True):
            if node.op in CONVOLUTIONS:
                nodes = [Node("layer", node.op, (INPUT,), node.attrs, node.shape)]
                done = [_plain(work, fused=False)]
                after = _activation(spec, node)
                if after is not None:
                    nodes.append(Node("after", after.op, ("layer",), after.attrs, after.shape))
                    size = work.wrote
                    width = work.outputs
                    done.append(Work(after.op, width, width, 1, 1, 1, size, size, True))
                shape = spec.shape_of(node.inputs[0])
                found.setdefault(tuple(done), Part(NetSpec(shape, tuple(nodes)), tuple(done), True))
    parts = list(found.values())
    return [parts[place] for place in rng.permutation(len(parts))[:count]]


def _working(spec: NetSpec) -> list[Node]:
    """The nodes that :func:`envs.latency.works.works_of` counts, in its order."""
    return [
        node
        for node in spec.nodes
        if node.op != "batch_norm"
        or node.inputs[0] == INPUT
        or spec[node.inputs[0]].op not in CONVOLUTIONS
    ]


def _activation(spec: NetSpec, node: Node) -> Node | None:
    """The one activation that reads a convolution, through its norm if it has one."""
    name = node.name
    for _ in range(2):
        readers = spec.consumers[name]
        if len(readers) != 1:
            return None
        reader = spec[readers[0]]
        if reader.op != "batch_norm":
            plain = OPS[reader.op].tail and not OPS[reader.op].tensors(reader.attrs)
            return reader if plain else None
        name = reader.name
    return None


def _plain(work: Work, fused: bool) -> Work:
    return Work(**{name: at(value, 0) for name, value in vars(work).items()} | {"fused": fused})


def _held(spec: NetSpec) -> int:
    """Bytes of the weights, and of the tensors in between."""
    total = 0
    for node in spec.nodes:
        tensors = OPS[node.op].parameters(node.attrs).values()
        total += sum(int(np.prod(shape)) for shape in tensors) + int(np.prod(node.shape))
    return FLOAT * total
