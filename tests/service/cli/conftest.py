"""A finished job to inspect and predict with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search import jobs
from tests.search.jobs import FinishedJob

#: runs `understudy ARGUMENTS…` in a folder
Understudy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def job() -> FinishedJob:
    return jobs.finished_job()


@pytest.fixture
def understudy(tmp_path: Path) -> Understudy:
    """The command line in a process of its own, in an empty folder."""

    def call(*arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*jobs.UNDERSTUDY, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(jobs.ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call
