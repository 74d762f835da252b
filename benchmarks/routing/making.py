"""The work behind the file of pairs: two students of each teacher, and what both say of rows.

A student is the teacher with one width factor for every layer, distilled by the job's own recipe.
It learns from a part of the rows about which the teacher was asked; those that are left are what a
router may learn from. What is finished stands in the folder of a pair and is not made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as save_safetensors

from benchmarks.quality.making import where
from benchmarks.rivals.searching import settled
from benchmarks.rivals.sizing import Sized, uniform
from benchmarks.rivals.study import Plan, Study
from edge.files import write_bytes
from edge.session import Session
from envs.compression.layers import anatomy
from envs.export.export import to_onnx
from search.preparation.teacher_outputs import Asker
from teachers.distillation.distill import EpochReport, Outcome, distil
from teachers.distillation.metrics import accuracy

OUT = Path("runs/router_pairs")
SEED = 0
#: rows of a pass through a student
BATCH = 256


@dataclass(frozen=True)
class Task:
    """A pair to be made: the student's KB at most, and how many epochs it learns."""

    data: str
    kb: int
    epochs: int

    @property
    def name(self) -> str:
        """Of the pair, and of its folder."""
        return f"{self.data}-{self.kb}"


@dataclass(frozen=True)
class Asked:
    """Of the rows of one data set: how many the teacher is asked about, and how many are learnt.

    The others are withheld for the routers. ``augment``: as the job's option.
    """

    rows: int
    learnt: int
    augment: str


#: a job would withhold 4,500 rows of CIFAR-10 and 9,091 of MNIST: a draw is to leave some out
DATA = {"mnist": Asked(25_000, 12_000, "shift"), "cifar10": Asked(40_000, 32_000, "flip_shift")}
TASKS = (
    Task("cifar10", 300, 8),
    Task("mnist", 60, 10),
    Task("mnist", 300, 4),
    Task("cifar10", 670, 5),
)


def make(tasks: tuple[Task, ...] = TASKS, out: Path = OUT) -> None:
    """Make every pair that is not there yet, in one process of one thread."""
    torch.set_num_threads(1)
    studies: dict[str, Study] = {}
    for task in tasks:
        if (out / task.name / "about.json").exists():
            continue
        if task.data not in studies:
            say(f"{task.data}: the teacher answers, once")
            studies[task.data] = study_of(task.data, task.epochs, out)
        _make(task, studies[task.data], out)


def study_of(data: str, epochs: int, out: Path) -> Study:
    """A data set with the teacher's answers about the rows that were asked about."""
    asked = DATA[data]
    return Study(data, Plan(asked.rows, epochs, 1, out, (("augment", asked.augment),)))


def learnt_of(study: Study) -> NDArray[np.bool_]:
    """Of the rows of a study's lesson, those that the students of its pairs learn from."""
    learnt = np.zeros(len(study.distillation_set), dtype=bool)
    order = np.random.default_rng([SEED, 4]).permutation(len(learnt))
    learnt[order[: DATA[study.name].learnt]] = True
    return learnt


def _make(task: Task, study: Study, out: Path) -> None:
    say(f"{task.name}: trains")
    start, clock = time.perf_counter(), time.process_time()
    asked = DATA[task.data]
    learnt = learnt_of(study)
    student, outcome = _train(task, study, learnt)
    trained = time.process_time() - clock
    model = to_onnx(student.module, study.network.input_shape)
    # a mirrored digit is no digit
    arrays = _answers(study, model, ~learnt, out, flip=task.data == "cifar10")
    about = {
        "pair": task.name, "data": task.data, "kb": student.cost.kb, "macs": student.cost.macs,
        "factor": round(student.factor, 5), "epochs": task.epochs, "learnt": asked.learnt,
        "augment": asked.augment, "seed": SEED, "teacher_kb": study.kb,
        "validation": outcome.accuracy, "teacher_validation": study.accuracy,
        "test": accuracy(arrays["test.student"], arrays["test.labels"]),
        "teacher_test": study.test_accuracy, "mode": str(outcome.mode),
        "processor_seconds": round(trained, 1),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "commit": _commit(), "where": where(),
    }  # fmt: skip
    folder = out / task.name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.numpy() for name, value in student.module.state_dict().items()}
    write_bytes(folder / "student.safetensors", save_safetensors(weights))
    write_bytes(folder / "netspec.json", student.spec.to_json().encode())
    write_bytes(folder / "student.onnx", model)
    save_file(arrays, folder / "answers.safetensors")
    # last: it says that all the others are there
    write_bytes(folder / "about.json", json.dumps(about, indent=1).encode())
    say(json.dumps(about))


def _train(task: Task, study: Study, learnt: NDArray[np.bool_]) -> tuple[Sized, Outcome]:
    """The job's final recipe on the rows that are learnt from; the best epoch on validation."""
    student = uniform(study.inheritance, float(task.kb), SEED)
    study.plan = replace(study.plan, epochs=task.epochs)
    job = study.prepared(float(task.kb), SEED)
    outcome = distil(
        student.module,
        None,
        study.distillation_set.part(np.flatnonzero(learnt)),
        job.recipe(proxy=False),
        seed=SEED,
        validation_set=job.training_context(proxy=False).validation_set,
        on_epoch=lambda report: say(_told(task, report)),
    )
    return student, outcome


def _answers(
    study: Study, model: bytes, left: NDArray[np.bool_], out: Path, flip: bool
) -> dict[str, NDArray[Any]]:
    """``part.kind`` → rows, labels and what both networks say, on the four parts."""
    rows, teacher = _rows(study, left, out)
    session = Session(model, "student.onnx")
    found: dict[str, NDArray[Any]] = {}
    for part, numbers in rows.items():
        found[f"{part}.rows"] = numbers
        found[f"{part}.labels"] = study.data.labels[numbers]
        found[f"{part}.teacher"] = teacher[part]
        found[f"{part}.student"] = _logits(study, session, numbers)
        if flip:
            found[f"{part}.flipped"] = _logits(study, session, numbers, flip=True)
    return found


def _rows(
    study: Study, left: NDArray[np.bool_], out: Path
) -> tuple[dict[str, NDArray[np.int64]], Mapping[str, NDArray[np.float32]]]:
    """Rows of the four parts that a router may see, and the teacher's logits there."""
    tap = anatomy(study.network).layers[-1].node
    asker = Asker(study.teacher, study.data, out / study.name / "cache", tap)
    parts, distillation_set = study.parts, study.distillation_set
    rows = {"withheld": distillation_set.rows[left]}
    said = {"withheld": np.ascontiguousarray(distillation_set.logits[0][left])}
    for part in ("validation", "calibration", "test"):
        rows[part] = getattr(parts, part)
        said[part] = np.array(settled(asker.answers(part, rows[part])).logits[0])
    return rows, said


def _logits(
    study: Study, session: Session, rows: NDArray[np.int64], flip: bool = False
) -> NDArray[np.float32]:
    """What the file that ships says of rows, or of their mirror images."""
    look, found = study.teacher.manifest.preprocess, []
    for start in range(0, len(rows), BATCH):
        images = study.data.images[rows[start : start + BATCH]]
        pixels = np.ascontiguousarray(images[:, :, ::-1]) if flip else images
        found.append(session.run(look.to_input(pixels), "logits", (study.network.classes,)))
    return np.concatenate(found)


def answers(name: str, out: Path = OUT) -> dict[str, NDArray[Any]]:
    """What :func:`make` kept of a pair: ``part.kind`` → array, in float32."""
    found: dict[str, NDArray[Any]] = load_file(out / name / "answers.safetensors")
    return found


def about(name: str, out: Path = OUT) -> dict[str, Any]:
    """How a pair was made, with the student's description."""
    found: dict[str, Any] = json.loads((out / name / "about.json").read_text())
    return found | {"netspec": json.loads((out / name / "netspec.json").read_text())}


def _told(task: Task, report: EpochReport) -> str:
    return (
        f"{task.name}: epoch {report.epoch} of {report.epochs}, validation {report.accuracy:.4f}, "
        f"{report.samples_per_second:.0f} rows a second"
    )


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def say(line: str) -> None:
    """To whoever watches, with the time."""
    sys.stderr.write(time.strftime("%H:%M:%S ") + line + "\n")
    sys.stderr.flush()
