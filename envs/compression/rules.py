"""What compression needs to know of a teacher and the moves, worked out once for all candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.compression.layers import Anatomy, Layer, anatomy
from envs.compression.moves import Moves
from envs.graph.netspec import INPUT, NetSpec

#: coefficient → number, or the number where it is the same for all of them
Table = int | NDArray[np.int64]

#: fields of a convolution's geometry, one number per axis each
GEOMETRY = ("kernel", "stride", "padding", "dilation")


@dataclass(frozen=True)
class Geometry:
    """What the coefficients make of a convolution's axis."""

    kernel: Table
    stride: Table
    padding: Table
    dilation: int


@dataclass(frozen=True)
class Rules:
    """What depends on teacher and moves alone, worked out once.

    Attributes:
        structure: layers and channels of the teacher.
        layer: node → its layer.
        owner: node of a layer or of its tail → step of the layer.
        widths: units of a group → coefficient → units that are kept.
        geometry: node of a convolution → one entry per axis.
        fixed: groups whose width may not change.
        removing: coefficient → whether it removes.
        behind: tensor → steps of the layers that it follows from.
    """

    structure: Anatomy
    layer: Mapping[str, Layer]
    owner: Mapping[str, int]
    widths: Mapping[int, NDArray[np.int64]]
    geometry: Mapping[str, tuple[Geometry, ...]]
    fixed: frozenset[int]
    removing: NDArray[np.bool_]
    behind: Mapping[str, frozenset[int]]


@lru_cache(maxsize=256)
def rules_of(spec: NetSpec, moves: Moves) -> Rules:
    """Layers, channels and tables of a teacher under certain moves."""
    structure = anatomy(spec)
    pool = range(len(moves.pool))
    units = {len(members) for members in structure.channels.members}
    return Rules(
        structure=structure,
        layer={layer.node: layer for layer in structure.layers},
        owner={
            name: layer.index for layer in structure.layers for name in (layer.node, *layer.tail)
        },
        widths={
            count: np.array([moves.outputs(count, action) for action in pool]) for count in units
        },
        geometry={
            layer.node: tuple(
                _axis(moves, *numbers)
                for numbers in zip(*(spec[layer.node].attrs[key] for key in GEOMETRY), strict=True)
            )
            for layer in structure.layers
            if layer.kind != "linear"
        },
        fixed=structure.fixed | moves.held(structure.layers),
        removing=np.array([moves.removes(action) for action in pool]),
        behind=_behind(spec, structure),
    )


def _behind(spec: NetSpec, structure: Anatomy) -> dict[str, frozenset[int]]:
    step = {layer.node: frozenset({layer.index}) for layer in structure.layers}
    behind: dict[str, frozenset[int]] = {INPUT: frozenset()}
    for node in spec.nodes:
        own = step.get(node.name, frozenset())
        behind[node.name] = own.union(*(behind[name] for name in node.inputs))
    return behind


def _axis(moves: Moves, k: int, d: int, p: int, dilation: int) -> Geometry:
    pool = range(len(moves.pool))
    kernels = [moves.kernel(k, action) for action in pool]
    return Geometry(
        kernel=_table(kernels),
        stride=_table([moves.stride(d, action) for action in pool]),
        padding=_table([moves.padding(p, k, kernels[action], dilation, action) for action in pool]),
        dilation=dilation,
    )


def _table(numbers: list[int]) -> Table:
    return numbers[0] if len(set(numbers)) == 1 else np.array(numbers)
