"""A job with a limit on latency: where its profile comes from, and what becomes of it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edge.errors import BadInput
from edge.profile import Profile, machine, profile_of, read_profile, write_profile
from envs.compression.moves import PRESETS
from envs.latency.graph import graph_of
from envs.latency.kit import make_kit
from envs.reward import TimedReward
from search.job.events import Event, Finished, Note, Stage
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.pipeline import run
from search.preparation import latency
from search.preparation.latency import measuring
from search.preparation.prepare import prepare
from search.preparation.prepared import Prepared
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from tests.search import jobs


def prepared(spec: JobSpec) -> tuple[Prepared, list[Event]]:
    told: list[Event] = []
    steps = prepare(spec, RunFolder(spec.out))
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            found: Prepared = end.value
            return found, told


def notes(told: list[Event]) -> str:
    return "\n".join(event.text for event in told if isinstance(event, Note))


def invented(**changes: Any) -> Profile:
    """A device on which a graph takes a hundredth of a millisecond per operator."""
    described = understand(load_teacher(str(jobs.digits_teacher())))
    kit, _ = make_kit(
        described.network,
        PRESETS["default"],
        "digits",
        described.teacher.fingerprint,
        students=12,
        layers=6,
    )
    times = [0.01 * len(graph.works) for graph in kit.graphs]
    found = profile_of(kit, times, threads=1)
    return Profile(**(vars(found) | changes))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "profile.json"
    write_profile(path, invented(machine="a board, 4 cores"))
    return path


def test_a_profile_limits_the_candidates(device: Path, tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", profile=str(device), max_ms=0.06, gamma=1.0)
    found, told = prepared(spec)
    # the teacher has 4 convolutions, each with an activation, and a head: too slow as it is
    keep = tuple(mask.nonzero()[0][-1] for mask in found.space.masks)
    assert found.space.ms(keep) > 0.06
    assert not found.space.fits(keep)
    assert found.space.ms(found.space.shrunk(keep)) <= 0.06
    assert "latency on a board, 4 cores, 1 thread(s): predicted within" in notes(told)
    assert "L0 0.06 ms" in notes(told)
    assert isinstance(found.reward, TimedReward)
    assert found.latency is not None
    assert not found.latency.here
    # the run keeps what its candidates were chosen by
    folder = RunFolder(spec.out)
    assert read_profile(folder.profile) == read_profile(device)
    assert json.loads(folder.inputs.read_text())["profile"] == found.latency.digest


def test_a_latency_that_nothing_reaches_is_refused_before_a_folder_is_made(
    device: Path, tmp_path: Path
) -> None:
    spec = jobs.small_job(tmp_path / "run", profile=str(device), max_ms=0.001, max_kb=None)
    with pytest.raises(BadInput, match="no student can be that fast: got --max-ms 0.001") as caught:
        prepared(spec)
    assert not (tmp_path / "run").exists()
    named = float(caught.value.bound.split(" ms or more")[0])
    again = jobs.small_job(tmp_path / "run", profile=str(device), max_ms=named, max_kb=None)
    assert prepared(again)[0].space.limits.max_ms == named


def test_a_profile_of_another_teacher_is_used_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    write_profile(path, invented(fingerprint="0" * 64, teacher="resnet18"))
    _, told = prepared(jobs.small_job(tmp_path / "run", profile=str(path), max_ms=10.0))
    assert "made for another teacher (resnet18)" in notes(told)


def test_without_a_profile_this_machine_is_timed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 1)
    few = functools.partial(make_kit, students=6, layers=4)
    monkeypatch.setattr(latency, "make_kit", few)
    spec = jobs.small_job(tmp_path / "run", max_ms=50.0)
    found, told = prepared(spec)
    assert [event.name for event in told if isinstance(event, Stage)] == ["prepare", "latency"]
    assert found.latency is not None
    assert found.latency.here
    assert found.latency.profile.machine == machine()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("timed again")

    monkeypatch.setattr(latency, "make_kit", never)
    again, _ = prepared(spec)
    assert again.latency is not None
    assert again.latency.profile == found.latency.profile


def test_a_candidate_is_measured_once_in_the_life_of_a_run(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.small_job(tmp_path / "run", profile=str(device))
    space = prepared(spec)[0].space
    built: list[torch.nn.Module] = []

    def export(module: torch.nn.Module, shape: tuple[int, ...]) -> bytes:
        built.append(module)
        return graph_of(space.student(space.smallest).spec)

    monkeypatch.setattr(latency, "to_onnx", export)
    first = measuring(space, RunFolder(spec.out), threads=1)(space.smallest)
    assert 0 < first < 1000
    # another process reads what this one has measured
    assert measuring(space, RunFolder(spec.out), threads=1)(space.smallest) == first
    assert len(built) == 1


def test_a_job_that_limits_latency_without_a_threshold_for_its_factor(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="latency factor has no threshold.*--max-ms or --l0"):
        next(run(jobs.small_job(tmp_path / "run", gamma=1.0)))


def test_a_profile_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", profile=str(tmp_path / "p.json"), max_ms=1.0)
    with pytest.raises(BadInput, match="no latency profile.*Check --profile"):
        next(run(spec))
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_search_ends_with_a_student_that_is_fast_enough_when_it_is_measured(
    tmp_path: Path,
) -> None:
    free, _ = prepared(jobs.small_job(tmp_path / "free", max_ms=1000.0, max_kb=None))
    keep = tuple(int(mask.nonzero()[0][-1]) for mask in free.space.masks)
    limit = 0.7 * free.space.ms(keep)
    spec = jobs.small_job(tmp_path / "run", max_ms=limit, max_kb=None)
    (result,) = (event.result for event in run(spec) if isinstance(event, Finished))
    measured = json.loads(RunFolder(spec.out).measured.read_text())
    assert min(measured.values()) <= limit
    # what ships is timed again, perhaps while the machine is busier
    assert result["student"]["ms"] <= 1.2 * limit
    kept = result["limits"]["max_ms"]
    assert kept == {"limit": limit, "value": result["student"]["ms"], "kept": kept["kept"]}
    assert kept["kept"] != any("--max-ms" in warning["text"] for warning in result["warnings"])
    assert result["student"]["predicted_ms"] <= limit
