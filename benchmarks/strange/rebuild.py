"""Who is right on the test rows: what ships, as it ships, and finalists rebuilt from their run.

This is the one place of the benchmark that knows how a run keeps its students.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.strange.data import Labels, Pixels
from edge.bundle import load_bundle
from edge.runtime import EdgeRuntime, OnnxTeacher
from edge.session import CHUNK
from envs.compression.resolve import compress
from envs.compression.surgery import load
from search.job.run_folder import RunFolder
from search.ledger.ledger import journal_records
from search.preparation.validate import moves_of
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.training import predict
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher


def predictions(run: Path, key: str, images: Pixels, stands: Path | None = None) -> Labels:
    """The classes that a finalist of a finished run gives to images.

    Args:
        run: its folder.
        key: of the finalist, as in ``result.json``.
        images: uint8 N×H×W×C.
        stands: folder in which the run was started, where its teacher is a function found there.

    Raises:
        StopIteration: the run has no such candidate.
    """
    folder = RunFolder(run)
    spec = folder.stored_job()
    with found_in(stands):
        described = understand(load_teacher(spec.teacher, trusted=True))
    record = next(one for one in journal_records(folder.ledger) if one.key == key)
    student = compress(described.network, moves_of(spec), record.actions)
    stored = Checkpoint.from_bytes((folder.trained / f"{key}.safetensors").read_bytes())
    weights = {name: torch.from_numpy(array.copy()) for name, array in stored.arrays.items()}
    module = load(student.spec, weights).eval()
    look = described.teacher.manifest.preprocess
    found: Labels = predict(module, images, look).logits.argmax(1)
    return found


def shipped(run: Path, images: Pixels) -> Labels:
    """The classes that a bundle's student gives to uint8 N×H×W×C, from the file that ships."""
    runtime = EdgeRuntime(load_bundle(RunFolder(run).bundle))
    parts = [
        runtime.logits(images[start : start + CHUNK]).argmax(1)
        for start in range(0, len(images), CHUNK)
    ]
    return np.concatenate(parts)


def teacher_answers(run: Path, images: Pixels) -> Labels:
    """The classes that the teacher of a run gives, from the file for its cloud side."""
    folder = RunFolder(run)
    manifest = load_bundle(folder.bundle).manifest
    cloud = OnnxTeacher(folder.cloud_teacher, manifest.preprocess, len(manifest.class_names))
    parts = [
        cloud(manifest.preprocess.to_input(images[start : start + CHUNK])).argmax(1)
        for start in range(0, len(images), CHUNK)
    ]
    return np.concatenate(parts)


@contextmanager
def found_in(folder: Path | None) -> Iterator[None]:
    """Modules of a folder can be imported meanwhile, as where one stands in it."""
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
