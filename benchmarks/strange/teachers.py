"""A case's data and teacher, made once and kept by what they follow from."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.strange import data, exports, hand
from benchmarks.strange.cases import Case
from benchmarks.strange.data import Images
from benchmarks.strange.networks import NETWORKS
from edge.files import write_bytes


class Skipped(Exception):
    """A case that this machine cannot run; says why."""


@dataclass(frozen=True)
class Ready:
    """What a job is started with.

    Attributes:
        teacher: the value of ``--teacher``, as seen from ``folder``.
        data: the value of ``--data``.
        folder: where the stranger stands: the command line finds a function's module there.
        images: the arrays of the case's data.
    """

    teacher: str
    data: Path
    folder: Path
    images: Images


def ready(case: Case, made: Path, python: str | None) -> Ready:
    """Make what is missing of a case's data and teacher.

    Args:
        case: whose.
        made: folder of data and teachers, shared by all runs of the benchmark.
        python: interpreter that has Keras; None for this one.

    Raises:
        Skipped: the case needs Keras, and there is none.
    """
    made = made.resolve()
    places = made / "data" / case.data_folder, made / "data" / case.taught_folder
    for place, rows in zip(places, (case.rows, case.taught or case.rows), strict=True):
        with alone(place):
            data.write(case.data, rows, case.form, place)
    folder = made / "teachers" / case.teacher_folder
    module = f"stranger_{case.digest(case.teacher_folder)}"
    is_function = case.export == "function"
    teacher = f"{module}:teacher" if is_function else str(folder / "teacher.onnx")
    with alone(folder), alone(made / "weights" / case.weights_folder):
        if not (folder / "made").exists():
            _make(case, made, places[1], folder, module, python)
            write_bytes(folder / "made", b"")
    return Ready(teacher, places[0] / "data", folder, data.read(places[0]))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process at a time fills a folder; the others wait, and find it filled."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(
    case: Case, made: Path, learnt_from: Path, folder: Path, module: str, python: str | None
) -> None:
    images = data.read(learnt_from)
    exports.manifest(images, folder)
    if case.export == "keras":
        lacking = exports.has_keras(python)
        if lacking:
            raise Skipped(f"Keras 3 with the torch backend, onnx and onnxscript: {lacking}")
        exports.keras(python or "python", case.width, learnt_from / "arrays.npz", folder)
        return
    channels, side, _ = images.shape
    torch.manual_seed(0)
    net = NETWORKS[case.network](case.width, channels, len(images.names), side)
    weights = made / "weights" / case.weights_folder / "weights.pt"
    if weights.exists():
        net.load_state_dict(torch.load(weights, weights_only=True))
    else:
        hand.train(net, images, hand.TEACHER, flip=case.flip)
        torch.save(net.state_dict(), weights.with_suffix(".part"))
        weights.with_suffix(".part").replace(weights)
    net.eval()
    if case.export == "function":
        write_bytes(folder / "weights.pt", weights.read_bytes())
        exports.function(case.network, case.width, images, folder, module)
    else:
        exports.EXPORTS[case.export](net, images, folder)
