"""A teacher's manifest: the JSON that stands beside its weights.

The JSON has the keys ``arch``, ``input`` (channels, height, width), ``classes``, ``mean``, ``std``,
``class_names`` and, where they are known, ``unseen`` (the rows of the training table that the
teacher never saw, see :func:`teachers.data.splits.parse_unseen`), ``accuracy`` (part → accuracy)
and ``channel_order`` ("BGR" for a network that was trained on OpenCV's or Caffe's colours). This
module imports no torch, so that a bad manifest is refused before torch loads.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import strict
from edge.errors import BadInput
from edge.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

SCALE = "pixels / 255, then (x - mean) / std"
REMEDY = "Correct the JSON beside the weights."
LARGEST_CLASSES = 10_000
INSPECT = (
    "`understudy inspect {}` shows what the file says and prints a JSON to save; or write one with "
    "input, classes, mean, std and class_names."
)


@dataclass(frozen=True)
class TeacherManifest:
    """What a teacher is, without its weights.

    ``accuracy`` maps a part's name to the accuracy that the teacher's owner states for it; a job
    warns where it finds much less. ``channel_order`` is the order of the colours that the weights
    are for, "RGB" or "BGR"; ``preprocess``, and everything that is made of the teacher, has RGB.
    ``named`` is False where nobody says the names of the classes: those here are numbers then, and
    the data's names take their place.
    """

    arch: str
    preprocess: Preprocess
    class_names: tuple[str, ...]
    unseen: str | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    channel_order: str = "RGB"
    named: bool = True

    @property
    def classes(self) -> int:
        """The number of classes, which is the width of the last layer."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that :func:`parse_manifest` reads back to an equal manifest."""
        step = -1 if self.channel_order == "BGR" else 1
        order = {"channel_order": self.channel_order} if step < 0 else {}
        names = {"class_names": list(self.class_names)} if self.named else {}
        return order | {
            "arch": self.arch,
            "input": list(self.preprocess.input_shape),
            "classes": self.classes,
            "mean": list(self.preprocess.mean[::step]),
            "std": list(self.preprocess.std[::step]),
            "scale": SCALE,
            **names,
            "unseen": self.unseen,
            "accuracy": dict(self.accuracy),
        }


@dataclass(frozen=True)
class Teacher:
    """A teacher ready to use: its module (in eval mode, float32) and where it came from.

    ``fingerprint`` is the SHA-256 of the weights file in hex; ``name`` the file's stem.
    """

    manifest: TeacherManifest
    module: torch.nn.Module
    fingerprint: str
    name: str


def manifest_path(weights: Path) -> Path:
    """Where the JSON of a weights file stands: the same name with the suffix ``.json``."""
    return weights.with_suffix(".json")


def read_manifest(weights: Path, arch: str | None = None) -> TeacherManifest:
    """Read the JSON beside ``weights``; BadInput where it is missing, not JSON or not valid.

    ``arch`` is taken where the JSON names none: a format that holds the network needs no name.
    """
    data = read_json(weights)
    if arch is not None:
        data.setdefault("arch", arch)
    return parse_manifest(data, manifest_path(weights))


def read_json(weights: Path) -> dict[str, Any]:
    """The JSON object beside ``weights``, with or without a byte-order mark; BadInput otherwise."""
    path = manifest_path(weights)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(
            f"teacher {weights.name} has no manifest",
            value=f"no file {path}",
            bound="a JSON file of the same name beside the weights",
            remedy=INSPECT.format(weights)
            if weights.suffix == ".onnx"
            else "Write one with arch, input, classes, mean, std and class_names.",
        ) from None
    except OSError as error:
        raise _bad(path, "cannot be read", error.strerror, "a readable file") from None
    data = strict.loads(_utf8(text), f"teacher's manifest {path}", REMEDY)
    if not isinstance(data, dict):
        raise _bad(path, "is not an object", type(data).__name__, "one JSON object")
    return data


def _utf8(text: bytes) -> bytes:
    """Without the mark that editors on Windows put in front; PowerShell writes UTF-16 after it."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return text.decode("utf-16", errors="replace").encode()
    return text.removeprefix(codecs.BOM_UTF8)


def parse_manifest(data: Mapping[str, Any], path: Path | str) -> TeacherManifest:
    """Validate a manifest's JSON object; ``path`` is named in messages.

    Unknown keys are let pass, so that an owner may keep notes of their own in the file.
    """
    scale = data.get("scale", SCALE)
    if not isinstance(scale, str) or "".join(scale.split()) != "".join(SCALE.split()):
        raise _bad(path, "scale", scale, f"{SCALE!r}, or no such key")
    arch = data.get("arch")
    if not isinstance(arch, str) or not arch:
        raise _bad(path, "arch", arch, "the name of an architecture, such as 'resnet18'")
    unseen = data.get("unseen")
    if unseen is not None and not isinstance(unseen, str):
        raise _bad(path, "unseen", unseen, "text such as 'last 5000 rows', or null")
    order = data.get("channel_order", "RGB")
    if order not in ("RGB", "BGR"):
        raise _bad(path, "channel_order", order, "'RGB' or 'BGR', or no such key")
    return TeacherManifest(
        arch=arch,
        preprocess=_preprocess(data, path, step=-1 if order == "BGR" else 1),
        class_names=_class_names(data, path),
        unseen=unseen,
        accuracy=_accuracy(data, path),
        named="class_names" in data,
        channel_order=order,
    )


def _preprocess(data: Mapping[str, Any], path: Path | str, step: int) -> Preprocess:
    """``step`` is -1 where mean and std stand the other way round than the images' channels."""
    shape = _numbers(data, "input", path)
    if len(shape) != 3 or any(side != int(side) for side in shape):
        raise _bad(path, "input", data["input"], "[channels, height, width], three integers")
    channels, height, width = (int(side) for side in shape)
    mean, std = _numbers(data, "mean", path), _numbers(data, "std", path)
    try:
        return Preprocess(channels, height, width, mean=tuple(mean[::step]), std=tuple(std[::step]))
    except BadInput as error:
        # Say which file, and leave the ranges to the one place that knows them.
        raise _bad(path, error.problem, error.value, error.bound) from None


def _class_names(data: Mapping[str, Any], path: Path | str) -> tuple[str, ...]:
    classes = data.get("classes")
    if isinstance(classes, bool) or not isinstance(classes, int):
        raise _bad(path, "classes", classes, "an integer")
    if not 2 <= classes <= LARGEST_CLASSES:
        raise _bad(path, "classes", classes, f"2 to {LARGEST_CLASSES}")
    names = data.get("class_names", [str(label) for label in range(classes)])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _bad(path, "class_names", names, "a list of texts")
    if len(names) != classes:
        raise _bad(path, "class_names", f"{len(names)} names", f"{classes} names, one per class")
    if len(set(names)) != classes:
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise _bad(path, "class_names", f"{twice[0]!r} more than once", "different names")
    return tuple(names)


def _accuracy(data: Mapping[str, Any], path: Path | str) -> dict[str, float]:
    stated = data.get("accuracy", {})
    if not isinstance(stated, dict):
        raise _bad(path, "accuracy", stated, "an object of part and accuracy")
    for part, value in stated.items():
        if not _is_number(value) or not 0 <= value <= 1:
            raise _bad(path, f"accuracy of {part}", value, "a number in [0, 1]")
    return {part: float(value) for part, value in stated.items()}


def _numbers(data: Mapping[str, Any], key: str, path: Path | str) -> list[float]:
    values = data.get(key)
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise _bad(path, key, values, "a list of finite numbers")
    return [float(value) for value in values]


def _is_number(value: object) -> bool:
    # bool is an int in Python, but `true` is no number in a manifest.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(path: Path | str, what: str, value: object, bound: str) -> BadInput:
    return BadInput(
        f"teacher's manifest {path}: {what}",
        value=strict.shorten(value),
        bound=bound,
        remedy=REMEDY,
    )
