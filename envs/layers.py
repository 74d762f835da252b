"""The weight layers of a network, their state (l, k, d, p, o) and the channels they share.

One step of an episode is one weight layer in execution order (Zhang, section IV-B). A layer owns
the batch norm and activation that follow it and read nothing else: they go when it goes.

Tensors that meet in an add must have the same channels, so the layers that write them form one
*channel group*. The first writer's coefficient sets the width of the group. Flattened maps belong
to the group of the maps: every channel then has one feature per pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from envs.netspec import INPUT, NetSpec, Node, Shape
from envs.ops import OPS

#: code of the layer type in the state, the paper's l
TYPE_CODES = {"conv2d": 1, "linear": 2}


@dataclass(frozen=True)
class Layer:
    """A weight layer as the agent sees it.

    Attributes:
        index: step of the episode.
        node: name of the operator.
        kind: operator, ``conv2d`` or ``linear``.
        kernel, stride, padding: of the first spatial axis; 1, 1, 0 for a linear layer.
        outputs: channels or features written.
        tail: names of the batch norm and activation that belong to it.
        group: channel group that it writes.
        sets_width: it is the first writer of a group whose width may change.
        classifier: it writes the logits.
    """

    index: int
    node: str
    kind: str
    kernel: int
    stride: int
    padding: int
    outputs: int
    tail: tuple[str, ...]
    group: int
    sets_width: bool
    classifier: bool

    @property
    def state(self) -> tuple[int, int, int, int, int]:
        """Zhang, Eq. 2: (l, k, d, p, o)."""
        return TYPE_CODES[self.kind], self.kernel, self.stride, self.padding, self.outputs


@dataclass(frozen=True)
class Anatomy:
    """What the compression of a network has to know of its structure.

    Attributes:
        layers: weight layers in execution order.
        group: node name (or the input) → channel group of what it writes. After a flatten the
            group is that of the maps before it.
        width: channel group → channels in the teacher.
        fixed: groups whose width may not change: the image's, the logits', and any that meets them.
    """

    layers: tuple[Layer, ...]
    group: Mapping[str, int]
    width: Mapping[int, int]
    fixed: frozenset[int]

    def pixels(self, name: str, shape: Shape) -> int:
        """Numbers per channel of a vector: 1, or the pixels of the maps that were flattened."""
        return shape[0] // self.width[self.group[name]] if len(shape) == 1 else 1

    def states(self) -> NDArray[np.float32]:
        """All states of an episode, shape (layers, 5)."""
        return np.array([layer.state for layer in self.layers], np.float32)


@lru_cache(maxsize=256)
def anatomy(spec: NetSpec) -> Anatomy:
    """Layers and channel groups of a network; computed once per spec.

    Raises:
        BadInput: an add of flattened maps whose channels cannot be told apart.
    """
    groups = _channel_groups(spec)
    width = _widths(spec, groups)
    fixed = frozenset({groups[INPUT], groups[spec.output.name]})
    classifiers = _writers_of_logits(spec)
    layers: list[Layer] = []
    written: set[int] = set()
    for node in spec.nodes:
        if not OPS[node.op].weighted:
            continue
        group = groups[node.name]
        kernel, stride, padding = _geometry(node)
        layers.append(
            Layer(
                index=len(layers),
                node=node.name,
                kind=node.op,
                kernel=kernel,
                stride=stride,
                padding=padding,
                outputs=node.shape[0],
                tail=_tail(spec, node),
                group=group,
                sets_width=group not in written and group not in fixed,
                classifier=node.name in classifiers,
            )
        )
        written.add(group)
    return Anatomy(tuple(layers), groups, width, fixed)


def _widths(spec: NetSpec, groups: Mapping[str, int]) -> dict[int, int]:
    """Channels of every group: those of its maps, or the features where it has none."""
    width = {groups[INPUT]: spec.input_shape[0]}
    for node in spec.nodes:
        if (
            len(node.shape) == 3
            and width.setdefault(groups[node.name], node.shape[0]) != node.shape[0]
        ):
            raise BadInput(
                f"channels cannot be matched at {node.name!r}",
                value=f"maps of {node.shape[0]} and of {width[groups[node.name]]} channels",
                bound="adds of flattened maps that have the same channels",
                remedy="Add the maps before they are flattened.",
            )
    for node in spec.nodes:
        width.setdefault(groups[node.name], node.shape[0])
    return width


def _geometry(node: Node) -> tuple[int, int, int]:
    if node.op == "linear":
        return 1, 1, 0
    return node.attrs["kernel"][0], node.attrs["stride"][0], node.attrs["padding"][0]


def _tail(spec: NetSpec, node: Node) -> tuple[str, ...]:
    """Batch norm and activation that read this layer and nothing else does."""
    tail: list[str] = []
    name = node.name
    while len(readers := spec.consumers[name]) == 1 and OPS[spec[readers[0]].op].tail:
        name = readers[0]
        tail.append(name)
    return tuple(tail)


def _writers_of_logits(spec: NetSpec) -> set[str]:
    """Weight layers from which the logits follow without another weight layer between."""
    found: set[str] = set()
    pending, seen = [spec.output.name], set[str]()
    while pending:
        name = pending.pop()
        if name == INPUT or name in seen:
            continue
        seen.add(name)
        if OPS[spec[name].op].weighted:
            found.add(name)
        else:
            pending.extend(spec[name].inputs)
    return found


def _channel_groups(spec: NetSpec) -> dict[str, int]:
    """Union-find over tensors: what meets in an add shares its channels."""
    parent: dict[str, str] = {INPUT: INPUT}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in spec.nodes:
        parent[node.name] = node.name
        if not OPS[node.op].weighted:
            for name in node.inputs:
                parent[find(name)] = find(node.name)
    numbers: dict[str, int] = {}
    return {name: numbers.setdefault(find(name), len(numbers)) for name in parent}
