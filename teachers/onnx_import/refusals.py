"""The errors of the import: each names the node, its operator, where it stands, and the remedy."""

from __future__ import annotations

from edge import strict
from edge.errors import BadInput
from teachers.onnx_import.graph import Node

REEXPORT = "Export the teacher again, for example with torch.onnx.export."
REBUILD = "Rebuild the teacher with supported operators alone, and export it again."


def refuse(
    node: Node, problem: str, *, value: object, bound: str, remedy: str = REBUILD
) -> BadInput:
    """An error at ``node``; ``problem`` continues the sentence "the teacher's node … "."""
    return BadInput(
        f"the teacher's {node.where} {problem}",
        value=strict.shorten(value, 160),
        bound=bound,
        remedy=remedy,
    )


def refuse_file(problem: str, *, value: object, bound: str, remedy: str = REEXPORT) -> BadInput:
    """An error of the file as a whole."""
    return BadInput(problem, value=strict.shorten(value, 160), bound=bound, remedy=remedy)
