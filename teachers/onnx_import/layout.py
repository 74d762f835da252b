"""How the graph wants its images: which axis holds the channels, and whether the batch is open."""

from __future__ import annotations

from teachers.onnx_import.graph import Dims, OnnxGraph
from teachers.onnx_import.refusals import refuse_file

#: a batch that is declared larger than this is no batch
LARGEST_BATCH = 2**16
FIRST, LAST = "channels first", "channels last"


def check_input(graph: OnnxGraph, input_shape: tuple[int, ...]) -> None:
    """BadInput where the declared input is not a batch of images of ``input_shape`` (C, H, W)."""
    dims = graph.input_dims
    if dims is None:
        return
    if len(dims) != len(input_shape) + 1:
        raise refuse_file(
            f"the teacher's input {graph.input!r} is no batch of images",
            value=f"{len(dims)} axes, {_shown(dims)}",
            bound=f"{len(input_shape) + 1} axes: batch, then {list(input_shape)} in its JSON",
            remedy="Export the classifier so that it takes batch × channels × height × width.",
        )
    if not _layouts(dims, input_shape):
        raise refuse_file(
            f"the teacher's input {graph.input!r} has another size than its JSON says",
            value=_shown(dims[1:]),
            bound=f"{list(input_shape)}, or the channels last",
            remedy="Correct input in the JSON beside it.",
        )


def fits_classes(outputs: int, classes: int | None) -> bool:
    """Whether a teacher may have so many outputs; one logit tells two classes apart."""
    return classes in (None, outputs) or (outputs == 1 and classes == 2)


def fixed_batch(graph: OnnxGraph) -> int | None:
    """The batch size that the file is written for, None where it is open.

    An exporter may leave the image's batch open and reshape to a batch of 1 inside; the output
    shows it.
    """
    said = [dims[0] for dims in (graph.input_dims, graph.output_dims) if dims and len(dims) > 1]
    return next((size for size in said if size is not None and size <= LARGEST_BATCH), None)


def is_nhwc(graph: OnnxGraph, input_shape: tuple[int, ...]) -> bool:
    """Whether the graph's own images have their channels last.

    The declared sizes tell; where both layouts fit them, a Transpose that reads the image does.
    """
    layouts = {FIRST, LAST}
    if graph.input_dims is not None:
        layouts = _layouts(graph.input_dims, input_shape)
    if len(layouts) == 1 or len(input_shape) != 3:
        return LAST in layouts and FIRST not in layouts
    openings = [node for node in graph.nodes if graph.input in node.inputs]
    return bool(openings) and all(
        node.op == "Transpose" and list(node.attributes.get("perm", ())) == [0, 3, 1, 2]
        for node in openings
    )


def _layouts(dims: Dims, input_shape: tuple[int, ...]) -> set[str]:
    found = set()
    if _fits(dims[1:], input_shape):
        found.add(FIRST)
    if len(input_shape) == 3 and _fits(dims[1:], (*input_shape[1:], input_shape[0])):
        found.add(LAST)
    return found


def _fits(dims: Dims, shape: tuple[int, ...]) -> bool:
    return all(dim is None or dim == side for dim, side in zip(dims, shape, strict=True))


def _shown(dims: Dims) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in dims) + "]"
