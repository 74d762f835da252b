"""Latency in a search: predicted for every candidate, measured for those that may ship."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from edge.files import write_bytes
from edge.kit import write_kit
from edge.profile import Profile, machine, profile_of, read_profile, to_bytes
from edge.session import Session
from edge.timing import Timed, least_ms, timed_kit
from envs.compression.moves import Moves
from envs.compression.surgery import build
from envs.export.export import to_onnx
from envs.graph.netspec import NetSpec
from envs.latency.kit import make_kit
from envs.latency.model import Predictor, fit
from search.job.events import Note, Stage
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.preparation.teacher_outputs import Telling, telling
from search.space.space import Actions, Space
from teachers.formats.manifest import Teacher

#: turns that every graph of a kit gets on this machine, about five seconds each
ROUNDS = 8
#: turns that a network gets that is measured by itself, and how often more where that is too slow
TURNS, PATIENCE = 12, 10

#: milliseconds of a candidate's exported graph
Measuring = Callable[[Actions], float]


@dataclass(frozen=True)
class Latency:
    """What a job knows of latency.

    Attributes:
        profile: of a device.
        predictor: fitted to it.
    """

    profile: Profile
    predictor: Predictor

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the profile."""
        return hashlib.sha256(to_bytes(self.profile)).hexdigest()

    @property
    def here(self) -> bool:
        """Whether the profile is of this machine, so that what is measured here compares."""
        return self.profile.machine == machine()


def wanted(spec: JobSpec) -> bool:
    """Whether a job needs to know of latency."""
    asked = spec.max_ms is not None or spec.gamma > 0 or spec.target == "fastest"
    return asked or spec.profile is not None


def latency_of(
    spec: JobSpec, folder: RunFolder, teacher: Teacher, network: NetSpec, moves: Moves
) -> Telling[Latency | None]:
    """The predictor that a job needs: of the profile it names, of the run's own, or made now.

    Raises:
        BadInput: a profile that cannot be read.
    """
    if not wanted(spec):
        return None
    if spec.profile is not None:
        profile = read_profile(Path(spec.profile))
        if profile.fingerprint != teacher.fingerprint:
            yield Note(
                f"the latency profile was made for another teacher ({profile.teacher}): layers "
                "that it does not know are guessed",
                warning=True,
            )
    elif folder.profile.exists():
        profile = read_profile(folder.profile)
    else:
        profile = yield from _profiled(teacher, network, moves)
    model = fit(profile)
    yield Note(
        f"latency on {profile.machine}, {profile.threads} thread(s): predicted within "
        f"{model.error:.1%} (median) of students that the prediction had not seen"
    )
    return Latency(profile, Predictor(network, moves, model))


def _profiled(teacher: Teacher, network: NetSpec, moves: Moves) -> Telling[Profile]:
    yield Stage("latency", "layers and students of this teacher are timed on this machine")
    kit, files = make_kit(network, moves, teacher.name, teacher.fingerprint)
    with tempfile.TemporaryDirectory(prefix="understudy-kit-") as scratch:
        place = Path(scratch) / "kit"
        write_kit(place, kit, files)
        ms = yield from telling(_rounds(timed_kit(place, kit, 1), ROUNDS), ROUNDS, "rounds")
    return profile_of(kit, ms, threads=1)


def _rounds(graphs: list[Timed], rounds: int) -> Generator[int, None, list[float]]:
    least: list[float] = []
    for done, ms in least_ms(graphs, rounds):
        least = ms
        yield done
    return least


def keep_profile(latency: Latency | None, folder: RunFolder) -> None:
    """Put the profile into the run's folder, so that nobody times it again."""
    if latency is not None and not folder.profile.exists():
        write_bytes(folder.profile, to_bytes(latency.profile))


def measured_ms(
    model: bytes,
    name: str,
    shape: tuple[int, ...],
    threads: int = 1,
    hoped: float | None = None,
) -> float:
    """Least milliseconds that an ONNX network takes for one input on this machine.

    Args:
        model: the file.
        name: stands for it in messages.
        shape: of one input.
        threads: of one operator.
        hoped: as long as the least is above this, there are up to :data:`PATIENCE` times as many
            turns: whatever else the machine does makes a network slower, and never faster.

    Raises:
        BadInput: it does not load or run.
    """
    graph = Timed(lambda: Session(model, name, threads=threads), shape, held=len(model))
    least = float("inf")
    for done, (ms,) in least_ms([graph], PATIENCE * TURNS, threads):
        least = ms
        if done >= TURNS and (hoped is None or least <= hoped):
            break
        if done % TURNS == 0:
            time.sleep(0.1)  # what is in the way may be gone by then
    return least


def measuring(space: Space, folder: RunFolder, threads: int) -> Measuring:
    """Measures candidates of a space as they would ship, each once in the life of a run."""

    def measure(actions: Actions) -> float:
        known = json.loads(folder.measured.read_text()) if folder.measured.exists() else {}
        name = ",".join(map(str, actions))
        if name not in known:
            spec = space.student(actions).spec
            # how fast it is does not depend on its weights
            model = to_onnx(build(spec).eval(), spec.input_shape)
            known[name] = measured_ms(
                model, "student.onnx", spec.input_shape, threads, space.limits.max_ms
            )
            write_bytes(folder.measured, json.dumps(known, indent=1).encode())
        return float(known[name])

    return measure
