"""Teachers stored as ONNX with a JSON manifest beside them.

Checking reads the whole file and proves its structure without torch; loading turns it into a
module. ONNX Runtime is never given a stranger's file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from teachers.formats.manifest import Teacher, TeacherManifest, read_manifest
from teachers.onnx_import.graph import OnnxGraph
from teachers.onnx_import.layout import check_input, fits_classes
from teachers.onnx_import.refusals import refuse_file

ARCH = "onnx"


def check(path: Path) -> TeacherManifest:
    """Validate file, manifest, operators, weights and declared sizes; BadInput otherwise."""
    manifest, _, _ = _read(path)
    return manifest


def load(path: Path, manifest: TeacherManifest | None = None) -> Teacher:
    """The checked teacher as a float32 module in eval mode that torch.fx can trace.

    ``manifest`` stands for the JSON beside it.
    """
    from teachers.onnx_import.convert import convert

    manifest, graph, fingerprint = _read(path, manifest)
    module = convert(graph, manifest.preprocess.input_shape, manifest.classes)
    return Teacher(manifest, module, fingerprint, path.stem)


def _read(
    path: Path, manifest: TeacherManifest | None = None
) -> tuple[TeacherManifest, OnnxGraph, str]:
    from teachers.onnx_import.reading import parse_model, read_bytes
    from teachers.onnx_import.structure import read_graph

    data = read_bytes(path)
    model, opset = parse_model(data, path.name)
    manifest = manifest or read_manifest(path, arch=ARCH)
    graph = read_graph(model, opset, path.parent, manifest.classes)
    check_input(graph, manifest.preprocess.input_shape)
    _check_classes(graph, manifest.classes)
    digest = hashlib.sha256(data)
    for file in graph.files:
        # weights beside the model are as much a part of the teacher as those in it
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return manifest, graph, digest.hexdigest()


def _check_classes(graph: OnnxGraph, classes: int) -> None:
    dims = graph.output_dims
    if dims is None or len(dims) < 2 or dims[1] is None or fits_classes(dims[1], classes):
        return
    raise refuse_file(
        f"the teacher's output {graph.output!r} does not fit its manifest",
        value=f"{dims[1]} outputs",
        bound=f"{classes}, the classes in its JSON",
        remedy="Correct classes and class_names, or take the JSON of this very teacher.",
    )
