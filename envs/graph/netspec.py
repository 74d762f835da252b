"""A network as frozen data: operators, shapes and the weight layers an agent acts on.

A :class:`NetSpec` is what is left of a network when its code is taken away. It says everything
needed to rebuild the module (:mod:`envs.compression.surgery`), to count its cost
(:mod:`envs.compression.cost`) and to compress it (:mod:`envs.compression.resolve`), and it is plain
JSON, so a bundle can carry it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edge import strict
from edge.errors import BadInput

#: stands for the image among the names of nodes; no module can be called so
INPUT = "<image>"
FORMAT = 2

Shape = tuple[int, ...]

# names end up in the code that torch.fx writes and runs, so they must not be able to say anything
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        name: unique; where the operator has weights, the path of its module, so that
            ``f"{name}.weight"`` is the key in the state dict.
        op: key of the operator table :data:`envs.graph.ops.OPS`.
        inputs: names of the nodes that it reads, :data:`INPUT` for the image.
        attrs: what the operator needs beyond its inputs; JSON values only.
        shape: output of one sample: ``(C, H, W)``, ``(C, L)`` or ``(F,)``.

    Raises:
        BadInput: a name that is too long or has characters other than A–Z, a–z, 0–9, _, - and
            dots.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    shape: Shape

    def __post_init__(self) -> None:
        if len(self.name) > 200 or not _NAME.fullmatch(self.name):
            raise BadInput(
                "the name of a layer cannot be used",
                value=strict.shorten(self.name),
                bound="up to 200 letters, digits, _ and -, in parts with a dot between",
                remedy="Rename the module.",
            )


@dataclass(frozen=True, eq=False)
class NetSpec:
    """Operators in execution order; the last one writes the logits.

    Two specs are equal where they are the same object, so that what is derived from one can be
    kept beside it; compare :meth:`to_json` for equal content.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    _by_name: dict[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def shape_of(self, name: str) -> Shape:
        """Shape of one sample of a node's output, or of the image."""
        return self.input_shape if name == INPUT else self._by_name[name].shape

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    @property
    def classes(self) -> int:
        return self.output.shape[0]

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a node (or the input) → names of the nodes that read it."""
        readers: dict[str, list[str]] = {INPUT: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node.name)
        return {name: tuple(names) for name, names in readers.items()}

    def to_json(self) -> str:
        """The spec as JSON text; :func:`envs.graph.check.parse_netspec` reads it back."""
        nodes = [
            {
                "name": node.name,
                "op": node.op,
                "inputs": list(node.inputs),
                "attrs": dict(node.attrs),
                "shape": list(node.shape),
            }
            for node in self.nodes
        ]
        return json.dumps(
            {"format": FORMAT, "input_shape": list(self.input_shape), "nodes": nodes}, indent=1
        )
