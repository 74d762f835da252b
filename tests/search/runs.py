"""Runs without any training: a folder with a job, a teacher's facts and invented candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.files import write_bytes
from search.analysis.scored_trials import Run, read_run
from search.job.run_folder import RunFolder
from search.job.spec import make_spec
from search.job.spec_file import to_yaml
from search.ledger.ledger import Ledger
from search.ledger.trial import Record
from search.space.teacher_stats import Facts, write_facts

LAYERS = ("conv1", "conv2", "fc")
POOL = (0.0, 0.5, 1.0)
#: a teacher of 1,000 KB that is right on 90 % of a validation part with ten classes; students see
#: 16 times the images of a proxy of three epochs in their full training
TEACHER = Facts(1_024_000, 256_000, 10**7, 0.9, 500, 10, LAYERS, POOL, 1_000, 48_000)


def candidate(number: int, kb: float, accuracy: float, **changes: Any) -> Record:
    """A candidate of a size and an accuracy."""
    values: dict[str, Any] = {
        "key": f"key{number}",
        "actions": (number % 3, number // 3 % 3, 2),
        "accuracy": accuracy,
        "reward": 1.0,
        "parameters": int(kb * 256),
        "bytes": int(kb * 1024),
        "macs": int(kb * 1000),
        "seconds": 2.0,
        "epochs": 3,
        "curve": (0.5, 0.6, accuracy),
    }
    return Record(**(values | changes))


def invented_run(out: Path, sizes_and_accuracies: Sequence[tuple[float, float]], **job: Any) -> Run:
    """A run with these candidates, numbered from 1 in this order."""
    records = [candidate(n, *pair) for n, pair in enumerate(sizes_and_accuracies, 1)]
    return run_of(out, records, **job)


def run_of(out: Path, records: Sequence[Record], **job: Any) -> Run:
    """A run with these records, whose accuracies are taken at their word."""
    folder = RunFolder(out)
    values = {"teacher": "t.safetensors", "data": "digits", "out": str(out), "proxy_gain": 0.0}
    values |= {"target": "balanced"}
    write_bytes(folder.job, to_yaml(make_spec(values | job)).encode())
    write_bytes(folder.inputs, b'{"teacher": "a", "data": "b"}')
    write_facts(folder, TEACHER)
    with Ledger(folder.ledger, LAYERS, POOL, job.get("storage")) as ledger:
        for record in records:
            ledger.add(record)
    return read_run(str(out))
