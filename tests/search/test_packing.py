"""What goes wrong after the last training costs neither candidates nor student."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from edge.errors import BadInput, MissingExtra, Unfinished
from search import packing
from search.job.events import Event, Note, Stage
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.packaging.package import Shipped
from search.packing import nothing_lost, packed, reported
from search.preparation.prepared import Prepared
from tests.search.runs import invented_run


@dataclass(frozen=True)
class Job:
    """As much of a prepared job as packing looks at."""

    spec: JobSpec


def folder_of(path: Path) -> RunFolder:
    return invented_run(path / "run", [(10.0, 0.8), (20.0, 0.9)]).folder


def pack(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder, fails: Any, **job: Any
) -> tuple[list[JobSpec], list[Event], object]:
    """Pack where ``fails`` says what goes wrong: jobs tried, what was told, the result."""
    tried: list[JobSpec] = []

    def ship(prepared: Job, *_: object) -> Generator[Event, None, str]:
        tried.append(prepared.spec)
        yield Stage("package", "")
        error = fails(prepared.spec)
        if error is not None:
            raise error
        return "shipped"

    monkeypatch.setattr(packing, "ship", ship)
    spec = make_spec({"teacher": "t", "data": "d", "out": str(folder.root)} | job)
    telling = packed(cast(Prepared, Job(spec)), (), {}, folder, 1)
    told: list[Event] = []
    while True:
        try:
            told.append(next(telling))
        except StopIteration as end:
            return tried, told, cast(Shipped, end.value)


def warnings(told: list[Event]) -> list[str]:
    return [event.text for event in told if isinstance(event, Note) and event.warning]


def test_a_sound_job_is_packed_as_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, told, found = pack(monkeypatch, folder_of(tmp_path), lambda spec: None)
    assert (len(tried), found, warnings(told)) == (1, "shipped", [])


def test_int8_is_given_up_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path)
    tried, told, found = pack(
        monkeypatch, folder, lambda spec: ValueError("versions 5 and 3") if spec.int8 else None
    )
    assert found == "shipped"
    assert [spec.int8 for spec in tried] == [True, False]
    assert tried[1].families == tried[0].families
    (said,) = warnings(told)
    assert "made without int8: ValueError: versions 5 and 3" in said
    # the whole traceback is kept for a report of the fault
    assert "in ship" in folder.failure.read_text()


def test_then_routers_are_scores_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, told, found = pack(
        monkeypatch,
        folder_of(tmp_path),
        lambda spec: RuntimeError("boom") if spec.families else None,
        two_head="frozen",
    )
    assert found == "shipped"
    assert (tried[-1].families, tried[-1].two_head, tried[-1].int8) == ((), "none", False)
    assert len(warnings(told)) == 2


def test_what_was_not_asked_for_is_not_tried_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        pack(monkeypatch, folder_of(tmp_path), lambda spec: RuntimeError("boom"),
             int8=False, families=())  # fmt: skip


@pytest.mark.parametrize(
    "error", [BadInput("disk", value=0, bound="room", remedy="Free some."), MissingExtra("x", "y")]
)
def test_what_a_user_can_mend_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)):
        pack(monkeypatch, folder_of(tmp_path), lambda spec: error)


def test_a_report_that_cannot_be_drawn_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_report(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(packing, "write_report", write_report)
    folder = folder_of(tmp_path)
    (said,) = warnings(list(reported(folder, cast(Any, None))))
    assert "no report could be drawn: RuntimeError: no font" in said
    assert "no font" in folder.failure.read_text()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("versions\n5 and 3"),
        KeyError("x"),
        OSError(28, "No space left"),
        AssertionError(),
        MemoryError(),
        RecursionError("deep"),
    ],
)
def test_an_error_after_the_search_says_the_command_that_goes_on(
    tmp_path: Path, error: Exception
) -> None:
    folder = folder_of(tmp_path)
    before = folder.ledger.read_bytes()
    with pytest.raises(Unfinished) as caught, nothing_lost(folder):
        raise error
    said = str(caught.value)
    assert f"understudy search --resume --out {folder.root}" in said
    assert type(error).__name__ in said
    assert "\n" not in said
    assert folder.ledger.read_bytes() == before
    assert type(error).__name__ in folder.failure.read_text()


def test_a_finished_run_is_routed_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    routed = f"understudy route {folder.root}"
    with pytest.raises(Unfinished, match=routed), nothing_lost(folder, again=True):
        raise ValueError


def test_what_can_be_mended_says_how_and_the_command(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    goes_on = r"Free some space\. Then: understudy search --resume"
    with pytest.raises(BadInput, match=goes_on), nothing_lost(folder):
        raise BadInput("a full disk", value=0, bound="room", remedy="Free some space.")


def test_before_there_are_candidates_nothing_is_promised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), nothing_lost(RunFolder(tmp_path / "none")):
        raise ZeroDivisionError


def test_a_stop_is_no_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), nothing_lost(folder_of(tmp_path)):
        raise KeyboardInterrupt
