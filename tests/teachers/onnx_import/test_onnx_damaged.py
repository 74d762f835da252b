"""Damaged graphs: whatever is changed in a file, it is imported or refused, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from onnx import AttributeProto, ModelProto, numpy_helper

from edge.errors import BadInput
from teachers.onnx_import.convert import convert
from teachers.onnx_import.reading import parse_model
from teachers.onnx_import.structure import read_graph
from teachers.onnx_import.table import OPERATORS
from tests.teachers.onnx_graphs import EXPORTERS, Shape, model, tail
from tests.teachers.onnx_import.test_onnx_operators import MAPS

NUMBERS = (0, -1, 1, 2, 5, -7, 2**31, 2**62, -(2**63))


def _rewire(graph: ModelProto, draw: random.Random) -> None:
    """Another reader, operator or attribute in one node, or another number in one tensor."""
    nodes = graph.graph.node
    node = draw.choice(nodes)
    names = [name for other in nodes for name in (*other.input, *other.output)]
    kind = draw.randrange(6)
    if kind == 0 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice([*names, ""])
    elif kind == 1 and node.input:
        del node.input[draw.randrange(len(node.input))]
    elif kind == 2:
        node.op_type = draw.choice(sorted(OPERATORS))
    elif kind == 3 and node.attribute:
        attribute = draw.choice(node.attribute)
        if attribute.type == AttributeProto.INT:
            attribute.i = draw.choice(NUMBERS)
        elif attribute.type == AttributeProto.INTS and attribute.ints:
            attribute.ints[draw.randrange(len(attribute.ints))] = draw.choice(NUMBERS)
        else:
            attribute.type = AttributeProto.INTS
    elif kind == 4 and node.attribute:
        del node.attribute[draw.randrange(len(node.attribute))]
    elif graph.graph.initializer:
        tensor = draw.choice(graph.graph.initializer)
        numbers = numpy_helper.to_array(tensor).copy().reshape(-1)
        numbers[draw.randrange(len(numbers))] = draw.choice(NUMBERS[:6])
        tensor.raw_data = numbers.tobytes()


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    return bytes(damaged)


def _read(data: bytes, shape: Shape) -> bool:
    try:
        parsed, opset = parse_model(data, "damaged.onnx")
        convert(read_graph(parsed, opset, Path("nowhere"), None), shape, None)
    except BadInput:
        return False
    return True


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_graph_is_imported_or_refused(seed: int) -> None:
    draw = random.Random(seed)
    sound = [build() for build, _ in EXPORTERS.values()]
    sound += [
        (model([*nodes, *tail("m")], stored, opset=opset, logits=("N", None)), (3, 8, 8))
        for nodes, stored, opset in MAPS.values()
    ]
    imported = []
    for _ in range(100):
        made, shape = draw.choice(sound)
        damaged = ModelProto.FromString(made.SerializeToString())
        _rewire(damaged, draw)
        data = damaged.SerializeToString()
        imported.append(_read(_overwrite(data, draw) if draw.random() < 0.3 else data, shape))
    assert 0 < sum(imported) < 100  # both happen
