"""What a bundle says of itself: the contents of its manifest.json, typed and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from edge import strict
from edge.errors import BadInput
from edge.preprocess import Preprocess

FORMAT_VERSION = 3
#: versions that can be read; what a file of before does not say is taken as unknown
READABLE = (2, FORMAT_VERSION)
CHECKSUM_KEY = "manifest_sha256"
REMEDY = "The bundle is damaged or was edited: copy it again, or make a new one."

# Letters that are a plain name on every file system; no separators, no leading dot.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StudentInfo:
    """The compressed model. ``kb``: 1,024 bytes of its fp32 parameters and buffers, as in the
    papers; ``macs``: multiply-accumulates per image; ``bytes``: size of the file that ships
    (``write_bundle`` fills it in)."""

    file: str
    kb: float
    parameters: int
    macs: int
    bytes: int = 0

    def __post_init__(self) -> None:
        _at_least("student.kb", self.kb, 0)
        _at_least("student.parameters", self.parameters, 1)
        _at_least("student.macs", self.macs, 0)
        _at_least("student.bytes", self.bytes, 0)


@dataclass(frozen=True)
class RouterInfo:
    """What decides trust or appeal. ``kind``: a fitted family, a score that needs no fitting, or
    the student's own predictor head; ``input``: what its model reads, ``builtin`` where the
    student's graph, which is then ``file``, gives the score."""

    file: str
    name: str
    kind: Literal["family", "score", "head"]
    input: Literal["logits", "builtin"] = "logits"
    bytes: int = 0

    def __post_init__(self) -> None:
        _at_least("router.bytes", self.bytes, 0)


@dataclass(frozen=True)
class PairInfo:
    """Student, router and threshold as one graph, which is what the device runs: ``image``
    [N, C, H, W] in; ``logits`` [N, K], ``score`` [N] and ``trusted`` [N] out. ``operators``: the
    ONNX domains that a runtime must know to run it, and their versions; empty where nobody said."""

    file: str
    bytes: int = 0
    operators: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least("pair.bytes", self.bytes, 0)
        for domain, version in self.operators.items():
            _at_least(f"pair.operators.{domain}", version, 1)


@dataclass(frozen=True)
class TeacherInfo:
    """Who the appeals go to. ``fingerprint``: SHA-256, in hex, of the weights submitted; ``macs``:
    multiply-accumulates for one input, 0 where nobody counted them."""

    name: str
    fingerprint: str
    kb: float
    macs: int = 0

    def __post_init__(self) -> None:
        _at_least("teacher.kb", self.kb, 0)
        _at_least("teacher.macs", self.macs, 0)
        _sha256("teacher.fingerprint", self.fingerprint)


@dataclass(frozen=True)
class Figure:
    """One measured number, the part of the data it was measured on and that part's rows.
    ``value`` is None where the figure is not defined, such as AccI of equals."""

    value: float | None
    part: str
    rows: int

    def __post_init__(self) -> None:
        _at_least("figure.rows", self.rows, 0)
        _named("figure.part", self.part)


@dataclass(frozen=True)
class Calibration:
    """Per calibration row: the router's score, and whether (1 or 0) student and teacher are
    right. A threshold can be turned with these alone, long after the data are gone."""

    score: tuple[float, ...]
    student_right: tuple[int, ...]
    teacher_right: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.score), len(self.student_right), len(self.teacher_right)}
        if len(lengths) != 1:
            raise _bad(
                "calibration",
                f"{len(self.score)} scores, {len(self.student_right)} student_right, "
                f"{len(self.teacher_right)} teacher_right",
                "lists of one length",
            )
        for name in ("student_right", "teacher_right"):
            for row, right in enumerate(getattr(self, name)):
                if right not in (0, 1):
                    raise _bad(f"calibration.{name}[{row}]", right, "0 or 1")
        for row, score in enumerate(self.score):
            if not math.isfinite(score):
                raise _bad(f"calibration.score[{row}]", score, "a finite number")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256, in hex, of one file of the bundle."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        _sha256("files: sha256", self.sha256)
        _at_least("files: bytes", self.bytes, 0)


@dataclass(frozen=True)
class Manifest:
    """Everything the edge must know of a bundle beside the networks themselves.

    name: what the bundle is for, in the user's words; created: ISO 8601; threshold: an image is
    appealed when its score lies below; goal: what was asked of the threshold, by the
    names of the options (``appeals``, ``accuracy``, ``risk`` and ``confidence`` …); note: how the
    router was chosen; parts: rows of every part of the data;
    figures: measured values by name; warnings: what a reader of the figures must know; licence:
    of what ships, "" where nobody named one; files:
    left empty by whoever writes a bundle, filled in by ``write_bundle``.
    Raises BadInput when a field is out of range.
    """

    name: str
    created: str
    preprocess: Preprocess
    class_names: tuple[str, ...]
    student: StudentInfo
    router: RouterInfo
    pair: PairInfo
    threshold: float
    goal: Mapping[str, float]
    note: str
    parts: Mapping[str, int]
    figures: Mapping[str, Figure]
    warnings: tuple[str, ...]
    calibration: Calibration
    teacher: TeacherInfo
    licence: str = ""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _named("name", self.name)
        if self.version != FORMAT_VERSION:
            raise _wrong_version(self.version)
        try:
            datetime.fromisoformat(self.created)
        except ValueError as error:
            raise _bad("created", self.created, "a date and time as in ISO 8601") from error
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise _bad("class_names", self.class_names, "at least two names, each once")
        if not math.isfinite(self.threshold):
            raise _bad("threshold", self.threshold, "a finite number")
        for name, value in self.goal.items():
            if not math.isfinite(value):
                raise _bad(f"goal.{name}", value, "a finite number")
        for name, rows in self.parts.items():
            _at_least(f"parts.{name}", rows, 0)
        for name in (*self.files, self.student.file, self.router.file, self.pair.file):
            check_name(name)

    def to_json(self) -> dict[str, object]:
        """The manifest as JSON values, with the checksum of all its other keys."""
        value = strict.dump(self)
        assert isinstance(value, dict)
        return {**value, CHECKSUM_KEY: strict.digest(value)}

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """The inverse of ``to_json``. Raises BadInput for another version of the format, a
        checksum that does not fit, unknown or missing keys, types and ranges."""
        if not isinstance(value, dict):
            raise _bad("document", strict.shorten(value), "an object")
        # First of all: a later version may have other keys, and that should not read as damage.
        version = value.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version not in READABLE:
            raise _wrong_version(value.get("version", "none"))
        body = {key: item for key, item in value.items() if key != CHECKSUM_KEY}
        try:
            found, expected = value.get(CHECKSUM_KEY), strict.digest(body)
        except (ValueError, RecursionError) as error:  # not finite, or nested without reason
            raise _bad("document", error, "values that JSON can hold") from error
        if found != expected:
            raise _bad("its own checksum", strict.shorten(found), expected)
        return strict.parse(cls, _up_to_date(body), "manifest.json", REMEDY)


def _up_to_date(body: dict[str, object]) -> dict[str, object]:
    """A document of an earlier version with the keys that it could not have."""
    pair = body.get("pair")
    if body["version"] == 2 and isinstance(pair, dict):
        pair = {"operators": {}, **pair}
        return {"licence": "", **body, "pair": pair, "version": FORMAT_VERSION}
    return body


def check_name(name: str) -> None:
    """Refuse a file name that is not plain: a bundle's files lie in its folder, nowhere else."""
    if not _PLAIN_NAME.fullmatch(name) or name == "manifest.json":
        raise _bad("file name", repr(name), "a plain name of letters, digits, '.', '_' and '-'")


def _wrong_version(found: object) -> BadInput:
    return BadInput(
        "manifest.json: version of the format",
        value=strict.shorten(found),
        bound=" or ".join(map(str, READABLE)),
        remedy="Read the bundle with the understudy that wrote it, or make a new one.",
    )


def _bad(where: str, value: object, bound: str) -> BadInput:
    return BadInput(f"manifest.json: {where}", value=value, bound=bound, remedy=REMEDY)


def _at_least(where: str, value: float, low: int) -> None:
    if not (math.isfinite(value) and value >= low):
        raise _bad(where, value, f"at least {low}")


def _named(where: str, value: str) -> None:
    if not value.strip():
        raise _bad(where, repr(value), "some text")


def _sha256(where: str, value: str) -> None:
    if not _SHA256.fullmatch(value):
        raise _bad(where, strict.shorten(value), "64 hexadecimal digits")
