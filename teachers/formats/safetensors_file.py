"""Teachers stored as safetensors weights with a JSON manifest beside them.

Reading and checking need numpy alone; torch is imported where a module is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from edge import made
from edge.errors import BadInput
from edge.files import write_bytes
from teachers.formats.manifest import Teacher, TeacherManifest, manifest_path, read_manifest
from teachers.formats.zoo import architecture, build

if TYPE_CHECKING:
    from torch import nn

# A counter that batch norm uses only when its momentum is None; many writers leave it out.
OPTIONAL = "num_batches_tracked"
FLOATS: dict[str, type[np.floating[Any]]] = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}

Weights = Mapping[str, NDArray[np.float32]]


def check(path: Path) -> TeacherManifest:
    """Validate header, manifest, architecture and weights, without torch; BadInput otherwise."""
    manifest, _, _ = _read(path)
    return manifest


def load(path: Path) -> Teacher:
    """The checked teacher as a float32 module in eval mode, however its weights are stored."""
    import torch

    manifest, weights, fingerprint = _read(path)
    shapes = {name: array.shape for name, array in weights.items()}
    # On the meta device a network has shapes and no numbers: nothing is drawn or allocated for
    # weights that do not fit, and the tensors of the file become those of the module.
    with torch.device("meta"):
        module = build(
            manifest.arch,
            input_shape=manifest.preprocess.input_shape,
            classes=manifest.classes,
            shapes=shapes,
        )
    expected = module.state_dict()
    _check_keys(path, {name: tuple(tensor.shape) for name, tensor in expected.items()}, shapes)
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    counters = [name for name in expected if name.endswith(OPTIONAL)]
    state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    module.load_state_dict(state, assign=True)
    return Teacher(manifest, module.eval(), fingerprint, path.stem)


def save(module: nn.Module, manifest: TeacherManifest, path: Path) -> None:
    """Write the weights (float32) to ``path`` and the manifest beside them, each by one rename."""
    from safetensors.torch import save as serialise

    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    made.make_folder(path.parent)
    write_bytes(path, serialise(state, metadata={"arch": manifest.arch}))
    text = json.dumps(manifest.to_json(), indent=1) + "\n"
    write_bytes(manifest_path(path), text.encode("utf-8"))


def _read(path: Path) -> tuple[TeacherManifest, Weights, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            "teacher cannot be read",
            value=f"{path} ({error.strerror})",
            bound="a readable file",
            remedy="Check the file and its permissions.",
        ) from None
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise BadInput(
            "teacher is not a whole safetensors file",
            value=f"{path}, {len(data)} bytes ({error})",
            bound="a safetensors file whose header covers all of it",
            remedy="It may be truncated or of another format: copy or export it again.",
        ) from None
    manifest = read_manifest(path)
    arch = architecture(manifest.arch)
    weights = {
        name: _to_float32(path, name, tensor)
        for name, tensor in tensors
        if not name.endswith(OPTIONAL)
    }
    first = _required(path, weights, arch.first_weight, manifest.arch)
    last = _required(path, weights, arch.last_weight, manifest.arch)
    if last.shape[0] != manifest.classes:
        raise BadInput(
            f"the teacher's last layer {arch.last_weight} does not fit its manifest",
            value=f"{last.shape[0]} outputs in {path.name}",
            bound=f"{manifest.classes}, the classes in {manifest_path(path).name}",
            remedy="Correct classes and class_names, or take the JSON of this very teacher.",
        )
    if first.shape[1] != manifest.preprocess.channels:
        raise BadInput(
            f"the teacher's first layer {arch.first_weight} does not fit its manifest",
            value=f"{first.shape[1]} input channels in {path.name}",
            bound=f"{manifest.preprocess.channels}, from input in {manifest_path(path).name}",
            remedy="Correct input, or take the JSON of this very teacher.",
        )
    return manifest, weights, hashlib.sha256(data).hexdigest()


def _to_float32(path: Path, name: str, tensor: Mapping[str, Any]) -> NDArray[np.float32]:
    kind = tensor["dtype"]
    array: NDArray[np.float32]
    if kind == "BF16":
        # numpy has no bfloat16: it is the upper half of a float32.
        array = (np.frombuffer(tensor["data"], "<u2").astype("<u4") << 16).view(np.float32)
    elif kind in FLOATS:
        stored = np.frombuffer(tensor["data"], np.dtype(FLOATS[kind]).newbyteorder("<"))
        with np.errstate(over="ignore"):
            array = stored.astype(np.float32)
    else:
        raise BadInput(
            f"the teacher's tensor {name} has a type that cannot be used",
            value=f"{kind} in {path.name}",
            bound=f"one of BF16, {', '.join(FLOATS)}",
            remedy="Store the weights as floats; quantised teachers are not accepted.",
        )
    if not np.isfinite(array).all():
        raise BadInput(
            f"the teacher's tensor {name} is not finite",
            value=f"{np.count_nonzero(~np.isfinite(array))} NaN or infinite values in {path.name}",
            bound="finite float32 weights",
            remedy="Train or export the teacher again.",
        )
    return array.reshape(tensor["shape"])


def _required(path: Path, weights: Weights, name: str, arch: str) -> NDArray[np.float32]:
    array = weights.get(name)
    if array is None or array.ndim < 2:
        raise BadInput(
            f"the teacher's weights are not those of {arch}",
            value=f"no weight tensor {name} in {path.name}",
            bound=f"the state-dict names of {arch}",
            remedy="Correct arch in the JSON, or rename the tensors.",
        )
    return array


def _check_keys(
    path: Path, expected: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    wanted = {name: shape for name, shape in expected.items() if not name.endswith(OPTIONAL)}
    faults = [
        ("missing", sorted(wanted.keys() - shapes.keys())),
        ("unexpected", sorted(shapes.keys() - wanted.keys())),
        (
            "of another shape",
            [
                f"{name} {list(shapes[name])} (expected {list(wanted[name])})"
                for name in sorted(wanted.keys() & shapes.keys())
                if wanted[name] != tuple(shapes[name])
            ],
        ),
    ]
    found = [f"{what}: {_some(names)}" for what, names in faults if names]
    if found:
        raise BadInput(
            f"the weights in {path.name} do not fit the architecture of its manifest",
            value="; ".join(found),
            bound=f"exactly the {len(wanted)} tensors of the architecture",
            remedy="Correct arch in the JSON, or export the weights again.",
        )


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
