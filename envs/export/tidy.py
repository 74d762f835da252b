"""ONNX files as they ship: what runs, said in plain words, and nothing of whoever exported them.

Exporters leave stack traces with the paths of the builder's machine, the shapes of every tensor
between two nodes, and declarations of operators that no node uses. A runtime that lacks a domain
refuses a file that declares it, and two files that declare it in different versions cannot be
joined: what is not used is not declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

#: the name of the first axis of every input and output
BATCH = "batch"
PRODUCER = "understudy"
#: what the standard domain is called where it is read by people
STANDARD = "ai.onnx"


def tidy(model: ModelProto, name: str = "") -> ModelProto:
    """The same model, changed in place, without debris.

    Metadata, doc strings, tensors' shapes between nodes, constants and local functions that
    nothing reads, and domains that no node uses are dropped; an open first axis of a port is
    called :data:`BATCH`.

    Args:
        model: any model; what it computes, and the names of its ports, stay.
        name: of the graph; "" keeps the one that it has.
    """
    graph = model.graph
    _clear(model, "doc_string", "producer_version", "model_version", "domain", "metadata_props")
    model.producer_name, graph.name = PRODUCER, name or graph.name
    _strip(graph)
    for function in model.functions:
        _clear(function, "doc_string", "metadata_props", "value_info")
        _strip_all(function.node)
    _drop_unread(graph)
    _drop_uncalled(model)
    for port in (*graph.input, *graph.output):
        shape = port.type.tensor_type.shape
        if shape.dim and not shape.dim[0].HasField("dim_value"):
            shape.dim[0].dim_param = BATCH
    used = domains_of(model)
    kept = {item.domain or "": item.version for item in model.opset_import}
    declare(model, {domain: version for domain, version in kept.items() if domain in used})
    return model


def tidied(content: bytes, name: str = "") -> bytes:
    """:func:`tidy` for a serialised model; the same bytes for the same model."""
    model = tidy(onnx.load_model_from_string(content), name)
    return bytes(model.SerializeToString(deterministic=True))


def described(content: bytes, words: str, facts: Mapping[str, str]) -> bytes:
    """A serialised model that says what it is.

    Args:
        content: the model.
        words: its doc string.
        facts: its ``metadata_props``, which any viewer shows; they replace those that it had.
    """
    model = onnx.load_model_from_string(content)
    model.doc_string = words
    set_facts(model, facts)
    return bytes(model.SerializeToString(deterministic=True))


def set_facts(model: ModelProto, facts: Mapping[str, str]) -> None:
    """Replace the ``metadata_props`` of a model."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(facts))


def declare(model: ModelProto, versions: Mapping[str, int]) -> None:
    """Replace what a model declares, domain → version; the standard domain is always there."""
    standard = versions.get("", max(onnx.defs.onnx_opset_version(), 1))
    del model.opset_import[:]
    for domain, version in sorted({"": standard, **versions}.items()):
        model.opset_import.append(onnx.helper.make_opsetid(domain, version))


def domains_of(model: ModelProto) -> set[str]:
    """Domains of the operators that a model uses, "" for the standard one."""
    functions = {(function.domain, function.name) for function in model.functions}
    found = {"" if node.domain == STANDARD else node.domain for node in nodes_of(model)}
    return found | {domain for domain, _ in functions}


def operators_of(content: bytes) -> dict[str, int]:
    """Domain → version of the operators that a serialised model needs, as its manifest says it."""
    model = onnx.load_model_from_string(content)
    used = domains_of(model)
    declared = sorted((item.domain, item.version) for item in model.opset_import)
    return {domain or STANDARD: version for domain, version in declared if domain in used}


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, those of local functions and inner graphs included."""
    yield from _all_nodes(model.graph.node)
    for function in model.functions:
        yield from _all_nodes(function.node)


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for inner in _graphs(node):
            yield from _all_nodes(inner.node)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _strip(graph: GraphProto) -> None:
    _clear(graph, "doc_string", "metadata_props", "value_info")
    for item in (*graph.input, *graph.output, *graph.initializer):
        _clear(item, "doc_string", "metadata_props")
    _strip_all(graph.node)


def _strip_all(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        _clear(node, "doc_string", "metadata_props")
        for attribute in node.attribute:
            _clear(attribute, "doc_string")
        for inner in _graphs(node):
            _strip(inner)


def _clear(item: Any, *fields: str) -> None:
    """An empty text would still be written."""
    for field in fields:
        item.ClearField(field)


def _drop_unread(graph: GraphProto) -> None:
    """Constants that no node reads, at whatever depth, and that are no output."""
    read = {name for node in _all_nodes(graph.node) for name in node.input}
    read |= {port.name for port in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _drop_uncalled(model: ModelProto) -> None:
    """Local functions that nothing calls."""
    known: dict[tuple[str, str], FunctionProto] = {
        (function.domain, function.name): function for function in model.functions
    }
    called, waiting = set[tuple[str, str]](), list(_all_nodes(model.graph.node))
    while waiting:
        node = waiting.pop()
        key = (node.domain, node.op_type)
        if key in known and key not in called:
            called.add(key)
            waiting.extend(_all_nodes(known[key].node))
    kept = [function for key, function in known.items() if key in called]
    if len(kept) < len(model.functions):
        del model.functions[:]
        model.functions.extend(kept)
