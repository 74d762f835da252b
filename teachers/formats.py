"""The file formats in which a teacher may be submitted.

Uploads are data, never programs: a member of :data:`FORMATS` reads plain tensors. Formats that can
carry code (pickles) are refused by their suffix and never opened. A member is one file with
``check`` and ``load``, and one line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import BadInput
from teachers import safetensors_file
from teachers.manifest import Teacher, TeacherManifest

if TYPE_CHECKING:
    from torch import nn

PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pt2", ".pth")


@dataclass(frozen=True)
class TeacherFormat:
    """One format: ``check`` needs no torch and little time, ``load`` gives the whole teacher."""

    check: Callable[[Path], TeacherManifest]
    load: Callable[[Path], Teacher]


FORMATS: dict[str, TeacherFormat] = {
    ".safetensors": TeacherFormat(safetensors_file.check, safetensors_file.load),
}


def check_teacher(path: str | Path) -> TeacherManifest:
    """Refuse a teacher that cannot work, without torch and within about a second.

    BadInput where the file is missing, of an unknown format, truncated, without a valid manifest,
    of an unknown architecture, not finite, or where its last layer's outputs are not its classes.
    """
    path = Path(path)
    return _format(path).check(path)


def load_teacher(path: str | Path) -> Teacher:
    """The teacher in ``path``, float32 and in eval mode.

    BadInput for all that :func:`check_teacher` refuses, and where the names or shapes of the
    weights are not exactly those of the architecture (missing and unexpected ones are named).
    """
    path = Path(path)
    return _format(path).load(path)


def save_teacher(module: nn.Module, manifest: TeacherManifest, path: str | Path) -> None:
    """Write ``module`` as a safetensors teacher that :func:`load_teacher` reads back.

    Weights and JSON each appear whole or not at all: they are written beside their place and
    renamed into it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(
            "teachers are written as safetensors",
            value=path.name,
            bound="a name that ends in .safetensors",
            remedy="Change the suffix.",
        )
    safetensors_file.save(module, manifest, path)


def _format(path: Path) -> TeacherFormat:
    accepted = ", ".join(FORMATS)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise BadInput(
            "teacher not found",
            value=str(path),
            bound=f"an existing file ending in {accepted}",
            remedy="Check the path.",
        )
    if suffix in PICKLES:
        raise BadInput(
            "teacher may be a pickle, which can run code and is never opened",
            value=path.name,
            bound=f"a file ending in {accepted}",
            remedy="Save its state_dict with safetensors.torch.save_file.",
        )
    if suffix not in FORMATS:
        raise BadInput(
            "teacher is of an unknown format",
            value=path.name,
            bound=f"a file ending in {accepted}",
            remedy="Export its weights as safetensors, with a JSON manifest beside them.",
        )
    return FORMATS[suffix]
