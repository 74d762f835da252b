"""The forms in which a teacher may be submitted.

Uploads are data, never programs: a member of :data:`FORMATS` reads plain tensors. Formats that can
carry code (pickles) are refused by their suffix and by their first bytes, and never opened. A
member is one file with ``check`` and ``load``, and one line in the registry. A Python factory
(:mod:`teachers.formats.factory`) is a program, and only for callers who trust it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import BadInput
from teachers.formats import factory, onnx_file, safetensors_file
from teachers.formats.guessing import Guess, guess_manifest
from teachers.formats.manifest import (
    Teacher,
    TeacherManifest,
    manifest_path,
    parse_manifest,
    read_json,
)

if TYPE_CHECKING:
    from torch import nn

PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pt2", ".pth")

PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class TeacherFormat:
    """One format: ``check`` needs no torch and little time, ``load`` gives the whole teacher."""

    check: Callable[[Path], TeacherManifest]
    load: Callable[[Path], Teacher]


FORMATS: dict[str, TeacherFormat] = {
    ".onnx": TeacherFormat(onnx_file.check, onnx_file.load),
    ".safetensors": TeacherFormat(safetensors_file.check, safetensors_file.load),
}


def check_teacher(path: str | Path, *, trusted: bool = False) -> TeacherManifest:
    """Refuse a teacher that cannot work; without torch and within about a second for a file.

    ``trusted`` permits a factory, ``package.module:function``, which is called: it is for callers
    of the library and the command line, never for what comes over a network.

    BadInput where the file is missing, of an unknown format, truncated, without a valid manifest,
    of an unknown architecture or operator, not finite, or where its outputs are not its classes.
    """
    if _is_factory(path):
        return factory.load(str(path), trusted=trusted).manifest
    path = Path(path)
    return _format(path).check(path)


def load_teacher(path: str | Path, *, trusted: bool = False) -> Teacher:
    """The teacher in ``path``, float32 and in eval mode; ``trusted`` as in :func:`check_teacher`.

    BadInput for all that :func:`check_teacher` refuses, and where the weights do not fit the
    architecture, or an ONNX graph has a form that cannot be turned into a module.
    """
    if _is_factory(path):
        return factory.load(str(path), trusted=trusted)
    path = Path(path)
    return _format(path).load(path)


def lacks_json(path: str | Path) -> bool:
    """Whether it is an ONNX file whose JSON is missing or lacks what can be guessed."""
    if _is_factory(path) or Path(path).suffix.lower() != ".onnx" or not Path(path).is_file():
        return False
    if not manifest_path(Path(path)).exists():
        return True
    said = read_json(Path(path))
    return any(key not in said for key in ("input", "mean", "std")) or not (
        "classes" in said or "class_names" in said
    )


def guess_teacher(path: str | Path) -> tuple[Teacher, Guess]:
    """The teacher in an ONNX file, and its JSON as far as the file tells and a guess at the rest.

    For looking at it; a job wants to be told. BadInput as in :func:`load_teacher`.
    """
    path = Path(path)
    _format(path)
    guess = guess_manifest(path)
    manifest = parse_manifest({"arch": onnx_file.ARCH} | dict(guess.data), manifest_path(path))
    return onnx_file.load(path, manifest), guess


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


def _is_factory(path: str | Path) -> bool:
    """Whether it is spelled as a factory; a path that exists is never taken as one."""
    return isinstance(path, str) and factory.is_factory(path) and not Path(path).exists()


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
    if suffix in PICKLES or (suffix in FORMATS and _is_pickle(path)):
        raise BadInput(
            "teacher may be a pickle, which can run code and is never opened",
            value=path.name,
            bound=f"a file ending in {accepted}, and of that format",
            remedy="Save its state_dict with safetensors.torch.save_file, or export it as ONNX.",
        )
    if suffix not in FORMATS:
        raise BadInput(
            "teacher is of an unknown format",
            value=path.name,
            bound=f"a file ending in {accepted}",
            remedy="Export it as ONNX, or its weights as safetensors, with a JSON beside it.",
        )
    return FORMATS[suffix]


def _is_pickle(path: Path) -> bool:
    """Whether the first bytes are a pickle's or those of the zip archive that torch.save writes.

    A safetensors file begins with the length of its header, which may look like a pickle's first
    bytes; the brace behind it tells them apart.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False  # its own reader will say why it cannot be read
    pickled = head[:1] == b"\x80" and head[1:2] in PROTOCOLS and head[8:9] != b"{"
    return pickled or head.startswith(ZIP)
