"""A worker called as Ray would call it, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.execution.worker import OUT_OF_MEMORY, Worker, reason_of
from tests.search.trainers import Pretending, accuracy_of

WELL, RAISES = 0, 1


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    worker = Worker(Pretending)
    worker.enter({"epochs": 3, "seconds": 0.0, "folder": str(tmp_path)})
    return worker


def test_an_epoch_a_call_and_examined_when_asked(worker: Worker) -> None:
    first = worker.begin((WELL, 2), [], examine=False)
    assert first is not None
    assert (first.epoch, first.epochs, first.accuracy, first.done) == (1, 3, None, False)
    second = worker.epoch(examine=True)
    assert second is not None
    assert second.accuracy == accuracy_of((WELL, 2), 2)
    assert second.seconds >= first.seconds
    third = worker.epoch(examine=True)
    assert third is not None
    assert third.done


def test_a_paused_candidate_is_let_go_and_can_be_taken_up(worker: Worker) -> None:
    worker.begin((WELL, 2), [], examine=False)
    assert worker.pause() == b"1"
    assert worker.epoch(examine=False) is None


def test_what_a_candidate_raises_is_its_own_failure(worker: Worker) -> None:
    step = worker.begin((RAISES, 2), [], examine=True)
    assert step is not None
    assert (step.done, step.accuracy, step.reason) == (True, None, "ValueError: no such network")
    # and the next one finds the worker as it was
    after = worker.begin((WELL, 2), [], examine=True)
    assert after is not None
    assert after.reason == ""


def test_a_process_in_the_place_of_one_that_died_says_that_it_knows_nothing() -> None:
    fresh = Worker(Pretending)
    assert fresh.begin((WELL,), [], examine=False) is None
    assert fresh.epoch(examine=False) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("wrong\nand more"), "ValueError: wrong"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(), f"{OUT_OF_MEMORY}: MemoryError"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 64 bytes"),
            f"{OUT_OF_MEMORY}: RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate "
            "memory: 64 bytes",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            f"{OUT_OF_MEMORY}: RuntimeError: CUDA out of memory. Tried to allocate 2 GiB",
        ),
    ],
)
def test_a_reason_is_one_line_and_names_memory(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert len(reason_of(ValueError("x" * 1000))) == 300
