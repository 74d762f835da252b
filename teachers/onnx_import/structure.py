"""From a parsed model to an :class:`OnnxGraph`: one image in, one tensor of logits out.

Only the nodes that the logits depend on are kept, in an order in which each finds its inputs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from edge import strict
from teachers.onnx_import.graph import Dims, Node, OnnxGraph
from teachers.onnx_import.layout import fits_classes
from teachers.onnx_import.nodes import NodeReader, check_operator
from teachers.onnx_import.refusals import refuse, refuse_file
from teachers.onnx_import.tensors import TensorReader

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
#: what turns logits into probabilities
PROBABILITIES = ("LogSoftmax", "Sigmoid", "Softmax")
CUT = "Cut the graph behind the logits (onnx.utils.extract_model), or export the model alone."


def read_graph(model: ModelProto, opset: int, folder: Path, classes: int | None) -> OnnxGraph:
    """Check the graph and read what the logits need of it.

    ``folder`` is where external data may stand. ``classes`` tells the logits from other outputs.

    Raises:
        BadInput: names the node or tensor that breaks a rule.
    """
    graph = model.graph
    tensors = TensorReader(folder)
    nodes = NodeReader(tensors).read(graph.node)
    _no_sparse(graph)
    logits = _logits(graph, nodes, classes)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in stored]
    names = [*(value.name for value in given), *stored]
    _written_once(nodes, names, len(given) + len(graph.initializer))
    wanted = _needed(nodes, logits.name)
    read = {name for node in wanted for name in reads(node)} | {logits.name}
    image = _image(given, read)
    for node in wanted:
        check_operator(node, opset)
    needed = {name: tensor for name, tensor in stored.items() if name in read}
    tensors.reserve(needed.values())
    constants = {name: tensors.read(tensor, name) for name, tensor in needed.items()}
    return OnnxGraph(
        nodes=in_order(wanted, {image.name, *constants}),
        constants=constants,
        input=image.name,
        input_dims=_dims(image),
        output=logits.name,
        output_dims=_dims(logits),
        opset=opset,
        files=tuple(sorted(tensors.files)),
    )


def reads(node: Node) -> set[str]:
    """The tensors that a node needs, those of its branches' surroundings included."""
    found = {name for name in node.inputs if name}
    for branch in node.branches.values():
        inner = {name for part in branch.nodes for name in reads(part)} | set(branch.outputs)
        own = {name for part in branch.nodes for name in part.outputs} | set(branch.constants)
        found |= inner - own
    return found


def _no_sparse(graph: Any) -> None:
    if graph.sparse_initializer or graph.quantization_annotation:
        raise refuse_file(
            "the teacher has sparse or quantised tensors",
            value=f"{len(graph.sparse_initializer)} sparse, "
            f"{len(graph.quantization_annotation)} with a quantisation",
            bound="dense float32 weights",
            remedy="Export the teacher in float32, before quantisation and sparsification.",
        )


def _image(given: Sequence[Any], read: Set[str]) -> Any:
    """The one input that is no initialiser; others may be left over, such as labels."""
    images = [value for value in given if value.name in read] or list(given)
    if len(images) != 1:
        raise refuse_file(
            "the teacher must have one input",
            value=f"{len(images)} inputs: {', '.join(value.name for value in images[:8])}",
            bound="one batch of images; initialisers may be inputs too",
            remedy="Export the classifier with its image as the only argument.",
        )
    image = images[0]
    kind = image.type.tensor_type.elem_type
    if not image.type.HasField("tensor_type") or kind not in (0, *FLOATS):
        known = kind in TensorProto.DataType.values()
        raise refuse_file(
            f"the teacher's input {strict.shorten(image.name)!r} is no image of numbers",
            value=TensorProto.DataType.Name(kind) if known and kind else "no tensor of floats",
            bound="a float32 tensor, batch × channels × height × width",
            remedy="Take the preprocessing out of the model; mean and std stand in the JSON.",
        )
    return image


def _logits(graph: Any, nodes: Sequence[Node], classes: int | None) -> Any:
    """The output, or of several the only one declared as batch × classes.

    Probabilities beside the logits that they are made of do not count.
    """
    outputs = list({value.name: value for value in graph.output}.values())
    if len(outputs) > 1:
        fits = [
            value
            for value in outputs
            if (dims := _dims(value)) is not None
            and len(dims) == 2
            and dims[1] is not None
            and fits_classes(dims[1], classes)
        ]
        exact = [value for value in fits if classes in (None, _dims(value)[1])]  # type: ignore[index]
        fits = exact or fits
        names = {value.name for value in fits}
        probabilities = {
            name
            for node in nodes
            if node.op in PROBABILITIES and names & set(node.inputs)
            for name in node.outputs
        }
        fits = [value for value in fits if value.name not in probabilities]
        if len(fits) == 1:
            return fits[0]
    if len(outputs) != 1:
        raise refuse_file(
            "the teacher must have one output",
            value=f"{len(outputs)} outputs: {', '.join(value.name for value in outputs[:8])}",
            bound="one tensor of logits, batch × classes, and no other of that shape",
            remedy=CUT,
        )
    return outputs[0]


def _dims(value: Any) -> Dims | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        int(axis.dim_value) if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in tensor.shape.dim
    )


def _written_once(nodes: Sequence[Node], given: list[str], count: int) -> None:
    written = set(given)
    if len(written) != count:
        raise refuse_file(
            "two of the teacher's inputs and initialisers share a name",
            value=f"{count} tensors, {len(written)} names",
            bound="a name of its own for each",
        )
    for node in nodes:
        for name in node.outputs:
            if name and name in written:
                raise refuse(
                    node,
                    "writes a tensor that is already there",
                    value=name,
                    bound="one writer for every tensor",
                )
            written.add(name)


def _needed(nodes: Sequence[Node], output: str) -> list[Node]:
    writers = {name: node for node in nodes for name in node.outputs if name}
    if output not in writers:
        raise refuse_file(
            "the teacher's output is written by no node",
            value=repr(strict.shorten(output)),
            bound="the output of a node",
        )
    wanted: dict[int, Node] = {}
    todo = [output]
    while todo:
        node = writers.get(todo.pop())
        if node is not None and node.index not in wanted:
            wanted[node.index] = node
            todo.extend(reads(node))
    return [wanted[index] for index in sorted(wanted)]


def in_order(nodes: Sequence[Node], given: Set[str]) -> tuple[Node, ...]:
    """The nodes in stored order as far as their inputs allow; BadInput where none does."""
    writers = {name: node.index for node in nodes for name in node.outputs if name}
    known = writers.keys() | given
    waiting: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for node in nodes:
        needs = reads(node)
        _all_written(node, needs, known)
        before = {writers[name] for name in needs if name in writers}
        waiting[node.index] = len(before)
        for index in before:
            readers.setdefault(index, []).append(node.index)
    ready = [index for index, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    by_index = {node.index: node for node in nodes}
    if len(order) < len(nodes):
        stuck = by_index[min(by_index.keys() - set(order))]
        raise refuse(stuck, "waits for itself", value="a cycle", bound="a graph without cycles")
    return tuple(by_index[index] for index in order)


def _all_written(node: Node, needs: Iterable[str], known: Set[str]) -> None:
    missing = sorted(name for name in needs if name not in known)
    if missing:
        raise refuse(
            node,
            "reads a tensor that is not there",
            value=missing[0],
            bound="an input, an initialiser or the output of a node",
            remedy="The file may be damaged, or cut at the wrong place: export it again.",
        )
