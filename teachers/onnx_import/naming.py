"""Names of layers from names of ONNX nodes and weights: readable, stable, and free in torch."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from itertools import chain, count

from torch import fx, nn

LONGEST = 120
#: the last part of the names under which exporters store a layer's tensors: torch's and Keras's
#: behind a dot or slash, MXNet's and Caffe2's behind an underscore, PaddlePaddle's with a number
_TENSOR = re.compile(
    r"(.+?)(?:[._](?:weight|kernel|gamma|beta|bias|running_mean|running_var|w|b)(?:_\d+)?"
    r"|(?:\.(?:Conv2D|MatMul|depthwise|BiasAdd|Conv1D))?\.ReadVariableOp(?:_\d+)?)"
)
#: what exporters put in front of all names
_AROUND = re.compile(r"^(?:StatefulPartitionedCall\.|_functional\._torch_params\.)+")
# attributes of every module: a layer of that name would hide them, or they it
_RESERVED = frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph()))) | set(keyword.kwlist)


def from_weight(name: str) -> str | None:
    """``layer1.0.conv1`` for the weight ``layer1.0.conv1.weight``; None where it says nothing."""
    if "::" in name:
        return None
    plain = re.sub(r":\d+$", "", name[: 4 * LONGEST].replace("/", "."))
    found = _TENSOR.fullmatch(_AROUND.sub("", plain))
    return clean(found[1]) if found else None


def from_node(name: str, op: str) -> str | None:
    """``layer1.0.conv1`` for the node ``/layer1/layer1.0/conv1/Conv``; None for a number alone.

    The exporter repeats a scope in front of its parts (layer1, layer1.0), which is undone here.
    """
    parts = [part for part in name.removeprefix("node_").split("/") if part]
    if parts and parts[-1].rstrip("0123456789_").lower() in (op.lower(), "n", ""):
        parts = parts[:-1]
    scope: list[str] = []
    for part in parts:
        if scope and part.startswith(f"{scope[-1]}."):
            scope[-1] = part
        else:
            scope.append(part)
    return clean(".".join(scope))


def clean(name: str) -> str | None:
    """Letters, digits and underscores between dots; None where no letter is left."""
    parts = [
        re.sub(r"\W", "_", part, flags=re.ASCII).strip("_") for part in name[:LONGEST].split(".")
    ]
    parts = [f"{part}_" if part in _RESERVED else part for part in parts if part]
    joined = ".".join(parts)
    return joined if re.search("[A-Za-z]", joined) else None


class Names:
    """The layers' names so far; none may be twice, and none may hold another."""

    def __init__(self) -> None:
        self.layers: set[str] = set()
        self.holders: set[str] = set()

    def take(self, wanted: Sequence[str | None], otherwise: str) -> str:
        """The first of ``wanted`` that is free; else one of them or ``otherwise`` with a number."""
        offered = [name for name in wanted if name]
        # flat, because a number behind a.b is of no help where a is a layer itself
        stem = offered[0].replace(".", "_") if offered else otherwise.lower()
        numbered = (f"{stem}_{number}" for number in count(2 if offered else 1))
        for name in chain(offered, numbered):
            parts = name.split(".")
            around = {".".join(parts[:end]) for end in range(1, len(parts))}
            if name not in self.layers | self.holders and not around & self.layers:
                self.layers.add(name)
                self.holders |= around
                return name
        raise AssertionError("numbers do not end")
