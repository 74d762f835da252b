"""A latency profile: what the graphs of a kit took on one device, as a JSON file."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edge import strict
from edge.errors import BadInput
from edge.files import write_asked
from edge.kit import Kit, Work, read_at_most

FORMAT = 1
MOST_BYTES = 64_000_000
#: no clock tells less, and nobody waits for more
LEAST_MS, MOST_MS = 1e-6, 1e7
REMEDY = "Time the kit again with `understudy profile KIT`."


@dataclass(frozen=True)
class Timing:
    """One graph and its time.

    Attributes:
        ms: milliseconds for one input.
        alone, works: as in :class:`edge.kit.Graph`.
    """

    ms: float
    alone: bool
    works: tuple[Work, ...]

    def __post_init__(self) -> None:
        if not LEAST_MS <= self.ms <= MOST_MS:
            raise BadInput(
                "a time of the latency profile",
                value=self.ms,
                bound=f"{LEAST_MS:g} to {MOST_MS:g} milliseconds",
                remedy=REMEDY,
            )
        for work in self.works:
            work.check()


@dataclass(frozen=True)
class Profile:
    """Times of a kit on a device.

    Attributes:
        format: :data:`FORMAT`.
        machine: the device in words.
        runtime: version of ONNX Runtime.
        threads: of one operator.
        teacher, fingerprint: of the kit.
        kit: digest of the kit.
        timings: one per graph.
    """

    format: int
    machine: str
    runtime: str
    threads: int
    teacher: str
    fingerprint: str
    kit: str
    timings: tuple[Timing, ...]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise BadInput(
                "the format of the latency profile",
                value=self.format,
                bound=str(FORMAT),
                remedy=REMEDY,
            )
        if not self.timings or self.threads < 1:
            raise BadInput(
                "the latency profile says too little",
                value=f"{len(self.timings)} times, {self.threads} threads",
                bound="at least one of each",
                remedy=REMEDY,
            )


def profile_of(kit: Kit, ms: list[float], threads: int) -> Profile:
    """The profile of this machine."""
    import onnxruntime as ort  # here, because a job is checked before anything slow is loaded

    timings = (Timing(t, g.alone, g.works) for t, g in zip(ms, kit.graphs, strict=True))
    return Profile(
        FORMAT,
        machine(),
        str(ort.__version__),
        threads,
        kit.teacher,
        kit.fingerprint,
        kit.digest,
        tuple(timings),
    )


def to_bytes(profile: Profile) -> bytes:
    """What :func:`read_profile` reads."""
    return strict.canonical(strict.dump(profile))


def write_profile(path: Path, profile: Profile) -> None:
    """Write what :func:`read_profile` reads.

    Raises:
        BadInput: the file cannot be written.
    """
    write_asked(path, to_bytes(profile), "the latency profile", "one")


def read_profile(path: Path) -> Profile:
    """Read a profile, which may come from anybody.

    Raises:
        BadInput: no file, or not what :func:`to_bytes` writes.
    """
    if not path.is_file():
        raise BadInput(
            "there is no latency profile",
            value=str(path),
            bound="a JSON file from `understudy profile KIT`",
            remedy="Check --profile.",
        )
    text = read_at_most(path, MOST_BYTES)
    return strict.parse(Profile, strict.loads(text, str(path), REMEDY), str(path), REMEDY)


def machine() -> str:
    """This machine in words: processor, cores, system."""
    name = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware"):
                name = value.strip()
                break
    return f"{name}, {os.cpu_count() or 1} cores, {platform.system()} {platform.machine()}"
