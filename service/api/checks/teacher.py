"""Uploaded teachers: what is told of them, and what makes one unusable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from service.api.checks.archive import unpack
from service.jobs.content import link

WEIGHTS = (".onnx", ".safetensors")
#: a description is a few lines; class names may take some
MOST_JSON = 4 << 20


def check_teacher_upload(incoming: Path, content: Path) -> dict[str, Any]:
    """Fill ``content`` with the teacher of ``incoming``; its inspection.

    Raises:
        BadInput: no teacher, more than one, or one that cannot be used.
    """
    files = _files(incoming, content.parent / "unpacked")
    weights = [path for path in files if path.suffix.lower() in WEIGHTS]
    jsons = [path for path in files if path.suffix.lower() == ".json"]
    if len(weights) != 1 or len(jsons) > 1:
        raise BadInput(
            "this is no teacher",
            value=", ".join(sorted(path.name for path in files)[:6]) or "no file",
            bound="one .onnx or .safetensors file, and at most one .json beside it",
            remedy="Send the trained network as one file, and its description as another.",
            field="file",
        )
    target = content / f"teacher{weights[0].suffix.lower()}"
    _check_outside(weights[0])
    link(weights[0], target)
    if jsons:
        (content / "teacher.json").write_bytes(_description(jsons[0]))
    return inspection(target)


def inspection(weights: Path) -> dict[str, Any]:
    """What ``understudy inspect --json`` tells of a teacher; for one without a JSON, what its
    JSON would say as far as that can be guessed."""
    from search.preparation.inspection import inspect_teacher
    from teachers.formats.formats import lacks_json

    lacking = lacks_json(weights)
    found = inspect_teacher(str(weights), "default")
    return found | {"described": not lacking}


def _files(incoming: Path, unpacked: Path) -> list[Path]:
    files = [path for path in incoming.iterdir() if path.is_file()]
    if len(files) == 1 and files[0].suffix.lower() == ".zip":
        unpack(files[0], unpacked, 8 << 30)
        hidden = ("__MACOSX", ".")
        return [
            path
            for path in unpacked.rglob("*")
            if path.is_file()
            and not any(part.startswith(hidden) for part in path.relative_to(unpacked).parts)
        ]
    return files


def _check_outside(path: Path) -> None:
    """Refuse weights that lie in other files: they would be read from this machine.

    Raises:
        BadInput: some do, or the file is no ONNX file.
    """
    if path.suffix.lower() != ".onnx":
        return
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf has errors of its own for what it cannot parse
        raise BadInput(
            "this is no ONNX file",
            value=str(error)[:120] or "what cannot be parsed",
            bound="a model in one .onnx file",
            remedy="Export the network anew.",
            field="file",
        ) from None
    outside = next(
        (tensor.name for tensor in _get_all_tensors(model) if uses_external_data(tensor)), None
    )
    if outside is not None:
        raise BadInput(
            "the ONNX file keeps weights in another file",
            value=outside[:200],
            bound="all weights in the one file",
            remedy="Export it with external_data=False, or save it with "
            "onnx.save(model, path, save_as_external_data=False).",
            field="file",
        )


def _description(path: Path) -> bytes:
    if path.stat().st_size > MOST_JSON:
        raise _bad_json(f"{path.stat().st_size:,} bytes", f"at most {MOST_JSON:,}")
    data = path.read_bytes()
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _bad_json(str(error)[:120], "a JSON object") from None
    if not isinstance(found, dict):
        raise _bad_json(type(found).__name__, "a JSON object")
    return data


def _bad_json(value: str, bound: str) -> BadInput:
    return BadInput(
        "the teacher's description cannot be used",
        value=value,
        bound=bound,
        remedy="`understudy inspect` prints one to start from.",
        field="json",
    )
