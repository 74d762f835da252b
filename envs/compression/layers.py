"""The weight layers of a network, their state (l, k, d, p, o) and the channels they share.

One step of an episode is one weight layer in execution order (Zhang, section IV-B). A layer owns
the norms and activations that follow it and read nothing else: they go when it goes.

Layers whose channels meet (:mod:`envs.compression.channels`) write one *channel group*. The first
writer's coefficient sets the width of the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.compression.channels import Channels, channels
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS

#: code of the layer type in the state, the paper's l
TYPE_CODES = {"conv1d": 1, "conv2d": 1, "linear": 2}
#: how many there are
TYPES = max(TYPE_CODES.values())


@dataclass(frozen=True)
class Layer:
    """A weight layer as the agent sees it.

    Attributes:
        index: step of the episode.
        node: name of the operator.
        kind: operator, ``conv1d``, ``conv2d`` or ``linear``.
        kernel, stride, padding: of the first spatial axis; 1, 1, 0 for a linear layer.
        outputs: channels or features written.
        tail: names of the norms and activations that belong to it.
        groups: channel groups that it writes, most often one.
        sets_width: it is the first writer of a group whose width may change.
        classifier: it writes the logits.
        sets: the groups whose width it sets.
    """

    index: int
    node: str
    kind: str
    kernel: int
    stride: int
    padding: int
    outputs: int
    tail: tuple[str, ...]
    groups: tuple[int, ...]
    sets_width: bool
    classifier: bool
    sets: tuple[int, ...] = ()

    @property
    def state(self) -> tuple[int, int, int, int, int]:
        """Zhang, Eq. 2: (l, k, d, p, o)."""
        return TYPE_CODES[self.kind], self.kernel, self.stride, self.padding, self.outputs


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the compression of a network has to know of its structure.

    Attributes:
        layers: weight layers in execution order.
        channels: classes, groups and layouts of all channels.
        fixed: groups whose width may not change: the image's, the logits', and any that meets them.
        depth: name of a node (or the input) → weight layers behind it, along the longest way.
    """

    layers: tuple[Layer, ...]
    channels: Channels
    fixed: frozenset[int]
    depth: Mapping[str, int]

    def states(self) -> NDArray[np.float32]:
        """All states of an episode, shape (layers, 5)."""
        return np.array([layer.state for layer in self.layers], np.float32)


@lru_cache(maxsize=256)
def anatomy(spec: NetSpec) -> Anatomy:
    """Layers and channel groups of a network; computed once per spec."""
    found = channels(spec)
    fixed = _groups(found, INPUT) | _groups(found, spec.output.name)
    classifiers = _writers_of_logits(spec)
    layers: list[Layer] = []
    written = set(fixed)
    for node in spec.nodes:
        if not OPS[node.op].weighted:
            continue
        groups = _groups(found, node.name)
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
                groups=tuple(sorted(groups)),
                sets_width=not groups <= written,
                classifier=node.name in classifiers,
                sets=tuple(sorted(groups - written)),
            )
        )
        written |= groups
    return Anatomy(tuple(layers), found, frozenset(fixed), _depths(spec))


def _groups(found: Channels, name: str) -> set[int]:
    return {group for group, _ in found.layout[name].groups}


def _geometry(node: Node) -> tuple[int, int, int]:
    if node.op == "linear":
        return 1, 1, 0
    return node.attrs["kernel"][0], node.attrs["stride"][0], node.attrs["padding"][0]


def _tail(spec: NetSpec, node: Node) -> tuple[str, ...]:
    """Norms and activations that read this layer and nothing else does."""
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


def _depths(spec: NetSpec) -> dict[str, int]:
    depth = {INPUT: 0}
    for node in spec.nodes:
        behind = max(depth[name] for name in node.inputs)
        depth[node.name] = behind + OPS[node.op].weighted
    return depth
