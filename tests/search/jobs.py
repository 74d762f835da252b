"""Small real jobs for the tests of search and service: a teacher of digits, and one finished run.

Both are made once per test session and shared by all who ask.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from edge.preprocess import Preprocess
from search.job.events import Event, Finished
from search.job.spec import JobSpec, make_spec
from search.samplers.single_threaded import one_thread
from teachers.data.datasets import load_dataset
from teachers.distillation.training import train_classifier
from teachers.formats import zoo
from teachers.formats.formats import save_teacher
from teachers.formats.manifest import TeacherManifest

ROOT = Path(__file__).resolve().parents[2]
#: what `understudy` on the command line does, without needing it installed
UNDERSTUDY = (sys.executable, "-c", "from service.cli.main import main; main()")
GREY8 = Preprocess(1, 8, 8, mean=(0.3053,), std=(0.3764,))
UNSEEN = 900


@dataclass(frozen=True)
class FinishedJob:
    """A job that was done: its specification, everything it told, and its result."""

    spec: JobSpec
    events: tuple[Event, ...]
    result: Mapping[str, Any]

    @property
    def out(self) -> Path:
        return Path(self.spec.out)


@cache
def scratch() -> Path:
    """A folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def digits_teacher() -> Path:
    """A small CNN (437 KB) trained on the first 897 digits; about 94 % on the 900 others."""
    data = load_dataset("digits", GREY8)
    torch.manual_seed(0)
    module = zoo.build("small_cnn", input_shape=GREY8.input_shape, classes=10)
    seen = slice(0, data.train_rows - UNSEEN)
    with one_thread():
        train_classifier(
            module, data.images[seen], data.labels[seen], GREY8, epochs=8, batch_size=64, seed=0
        )
    path = scratch() / "digits.safetensors"
    manifest = TeacherManifest("small_cnn", GREY8, data.class_names, unseen=f"last {UNSEEN} rows")
    save_teacher(module, manifest, path)
    return path


def small_job(out: Path, **changes: Any) -> JobSpec:
    """A job of seconds, whose agent learns fast enough for rewards to change its proposals."""
    values: dict[str, Any] = {
        "teacher": str(digits_teacher()),
        "data": "digits",
        "out": str(out),
        "max_kb": 90,
        "sampler": "reinforce",
        "budget": 8,
        "batch": 2,
        "workers": 2,
        "agent_units": 8,
        "agent_rate": 0.1,
        "proxy_rows": 400,
        "proxy_epochs": 4,
        "final_epochs": 8,
        "batch_size": 64,
        "appeals": 0.2,
        # of a few hundred rows; the default would leave nearly all to the student
        "router_rows": "withheld",
        # `auto` goes by the clock, and may choose otherwise in a run that is compared with this one
        "precision": "fp32",
        "layout": "contiguous",
    }
    return make_spec(values | changes)


@cache
def finished_job() -> FinishedJob:
    """A small job, run to its end in this process."""
    from search.pipeline import run

    # without patches a student of eight epochs errs often enough for routers to be fitted
    spec = small_job(scratch() / "job", mix="none")
    events = tuple(run(spec))
    (result,) = (event.result for event in events if isinstance(event, Finished))
    return FinishedJob(spec, events, result)
