"""Kits and profiles: what is read from outside is checked, and graphs are timed fairly."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import strict
from edge.errors import BadInput
from edge.kit import MANIFEST, Graph, Kit, Work, read_graph, read_kit, write_kit
from edge.profile import Timing, profile_of, read_profile, write_profile
from edge.session import Session
from edge.timing import Timed, clock_of, least_ms, time_file, timed_kit
from tests.edge.models import linear

WORK = Work("linear", 2, 2, 1, 1, 1, 2, 2, False)


def graph(file: str = "layer_0.onnx", content: bytes = b"", **changes: object) -> Graph:
    made = Graph(file, hashlib.sha256(content).hexdigest(), (1, 1, 2), True, 16, (WORK,))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A kit of one layer of two inputs."""
    content = linear()
    write_kit(
        tmp_path / "kit",
        Kit(1, "toy", "f" * 64, (graph(content=content),)),
        {"layer_0.onnx": content},
    )
    return tmp_path / "kit"


def test_what_is_written_is_read(folder: Path) -> None:
    kit = read_kit(folder)
    assert kit == Kit(1, "toy", "f" * 64, (graph(content=linear()),))
    assert read_graph(folder, kit.graphs[0]) == linear()
    # there is no half of a kit beside it
    assert [path.name for path in folder.parent.iterdir()] == ["kit"]
    with pytest.raises(BadInput, match="folder for the kit exists"):
        write_kit(folder, kit, {})


def test_a_folder_without_a_kit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no latency kit.*profile --make KIT --teacher"):
        read_kit(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("file", "../layer.onnx", "plain name"),
        ("file", "layer.onnx/x", "plain name"),
        ("shape", [0, 1], "100 million"),
        ("shape", [10**5, 10**5], "100 million"),
        ("alone", 1, "true or false"),
        ("works", [{"op": "linear"}], "missing key"),
    ],
)
def test_a_manifest_that_says_something_else(
    folder: Path, field: str, value: object, message: str
) -> None:
    said = json.loads((folder / MANIFEST).read_bytes())
    said["graphs"][0][field] = value
    (folder / MANIFEST).write_bytes(strict.canonical(said))
    with pytest.raises(BadInput, match=message):
        read_kit(folder)


def test_a_graph_that_was_changed_is_not_run(folder: Path) -> None:
    kit = read_kit(folder)
    (folder / "layer_0.onnx").write_bytes(linear((1.0, 1.0)))
    with pytest.raises(BadInput, match=r"layer_0.onnx: got SHA-256 .*copy it again"):
        list(least_ms(timed_kit(folder, kit, 1), 1))


def test_times_never_rise_and_order_by_work(folder: Path) -> None:
    kit = read_kit(folder)
    slow = Timed(lambda: Session(linear((0.0,) * 800, width=800), "x"), (1, 1, 800), 0)
    told = list(least_ms([*timed_kit(folder, kit, 1), slow], rounds=3))
    assert [done for done, _ in told] == [1, 2, 3]
    for earlier, later in itertools.pairwise(told):
        assert all(b <= a for a, b in zip(earlier[1], later[1], strict=True))
    small, large = told[-1][1]
    # 4 products against 640,000
    assert 0 < small < large


def test_waiting_is_no_work_for_one_thread() -> None:
    clock = clock_of(threads=1)
    start, wall = clock(), time.perf_counter_ns()
    time.sleep(0.02)
    waited = clock() - start
    assert waited < 0.5 * (time.perf_counter_ns() - wall) or clock is time.perf_counter_ns
    # threads of its own do the work of a run: only the wall clock knows of them
    assert clock_of(threads=2) is time.perf_counter_ns


def test_a_file_is_timed_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(linear())
    assert 0 < time_file(path, threads=1, rounds=2) < 100
    path.write_bytes(linear(batch=7))
    with pytest.raises(BadInput, match="another input than it should"):
        time_file(path, threads=1, rounds=1)


def test_a_profile_is_read_as_it_was_written(folder: Path, tmp_path: Path) -> None:
    found = profile_of(read_kit(folder), [0.25], threads=2)
    assert found.timings == (Timing(0.25, True, (WORK,)),)
    assert (found.teacher, found.threads, found.kit) == ("toy", 2, read_kit(folder).digest)
    write_profile(tmp_path / "p.json", found)
    assert read_profile(tmp_path / "p.json") == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "the format of the latency profile: got 2; expected 1"),
        ({"timings": []}, "says too little"),
        ({"threads": 0}, "says too little"),
        ({"timings": [{"ms": 0.0, "alone": True, "works": []}]}, "got 0.0; expected 1e-06 to"),
        ({"extra": 1}, "unknown key"),
    ],
)
def test_a_profile_that_cannot_be_used(
    folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    said = strict.dump(profile_of(read_kit(folder), [0.25], threads=1))
    assert isinstance(said, dict)
    (tmp_path / "p.json").write_text(json.dumps(said | changes))
    with pytest.raises(BadInput, match=message):
        read_profile(tmp_path / "p.json")


def test_a_missing_profile(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no latency profile.*Check --profile"):
        read_profile(tmp_path / "p.json")


@pytest.mark.parametrize("change", [{"groups": 0}, {"outputs": 0}, {"read": -5}, {"wrote": 10**13}])
def test_work_that_nobody_does_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"an operator's {next(iter(change))}"):
        Timing(0.25, True, (replace(WORK, **change),))
    with pytest.raises(BadInput, match=f"an operator's {next(iter(change))}"):
        graph(works=(replace(WORK, **change),))


@pytest.mark.parametrize("ms", [0.0, 1e-309, 1e300, float("nan"), float("inf")])
def test_a_time_that_nobody_measured_is_refused(ms: float) -> None:
    with pytest.raises(BadInput, match="a time of the latency profile"):
        Timing(ms, True, (WORK,))
