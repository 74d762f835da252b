"""Writes ONNX nodes one after the other, so that a graph reads like the formula it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper


class Writer:
    """Collects nodes; every result gets a name of its own, ``prefix`` and a number.

    ``write("Div", x, np.array(2.0))`` adds a division and returns the name of its result. Arrays
    among the inputs become Constant nodes. Graphs that are joined need prefixes that differ.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self._prefix, self._count = prefix, 0

    def __call__(
        self,
        operator: str,
        *inputs: str | NDArray[Any],
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """The name of the operator's first result, which is ``output`` where that is given."""
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        result = output or self._name()
        # TopK must name its second result, the indices, though nothing here reads them.
        results = [result, self._name()] if operator == "TopK" else [result]
        self.nodes.append(helper.make_node(operator, names, results, **attributes))
        return result

    def constant(self, value: NDArray[Any]) -> str:
        """The name of a constant, for those that several operators read."""
        name = self._name()
        tensor = numpy_helper.from_array(np.asarray(value))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"
