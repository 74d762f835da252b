"""Uploaded teachers: what is told of them, and what makes one unusable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from service.api.checks.archive import unpack
from service.jobs.content import link, safe_name

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
    _put(weights[0], target)
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


def _put(weights: Path, target: Path) -> None:
    """Put weights in their place; those of an ONNX file that lie in a file beside it go into it.

    Raises:
        BadInput: it is no ONNX file, or keeps weights in a file that was not sent with it.
    """
    if weights.suffix.lower() != ".onnx":
        link(weights, target)
        return
    import onnx
    from onnx.external_data_helper import (
        _get_all_tensors,
        load_external_data_for_tensor,
        uses_external_data,
    )

    try:
        model = onnx.load_model(weights, load_external_data=False)
        outside = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
        for tensor in outside:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = _beside(weights, entry.value, tensor.name).name
            load_external_data_for_tensor(tensor, str(weights.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        if outside:
            target.write_bytes(model.SerializeToString())
        else:
            link(weights, target)
    except BadInput:
        raise
    except Exception as error:  # protobuf has errors of its own for what it cannot parse
        raise BadInput(
            "this is no ONNX file",
            value=str(error)[:120] or "what cannot be parsed",
            bound="a model in one .onnx file, or with its .onnx.data beside it",
            remedy="Export the network anew.",
            field="file",
        ) from None


def _beside(weights: Path, location: str, tensor: str) -> Path:
    """The file that was sent with the weights, which a tensor's values lie in.

    Only by its name: whatever else is named would be read from this machine.
    """
    sent = {path.name: path for path in weights.parent.iterdir() if path.is_file()}
    found = sent.get(location) or sent.get(safe_name(location))
    if found is None or "/" in location or found == weights or found.is_symlink():
        raise BadInput(
            "the ONNX file keeps weights in another file",
            value=f"{tensor[:80]} in {location[:120]}",
            bound="all weights in the one file, or in a file that is sent with it",
            remedy="Send both files, or export it with external_data=False.",
            field="file",
        )
    return found


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
