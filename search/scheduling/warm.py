"""Earlier runs whose candidates a search may begin with: which ones can be used at all.

Loads neither torch nor Optuna, so that a run that is of no use is refused at once. What the runs
say is read in :mod:`search.scheduling.evidence`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edge.errors import BadInput
from envs.compression.moves import PRESETS, Moves
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec

#: fields of a job that an accuracy depends on, beside the teacher and the data
RECIPE = (
    "seed", "teacher_unseen", "criterion", "loss", "kd_weight", "ce_weight", "proxy_rows",
    "proxy_epochs", "batch_size", "learning_rate", "temperature",
)  # fmt: skip


def check_warm(spec: JobSpec) -> None:
    """Refuse earlier runs that are no evidence for this job.

    A run that goes on with evidence of its own (:attr:`RunFolder.evidence`) needs them no more.

    Raises:
        BadInput: a folder holds no run, or its candidates are no candidates of this job: another
            teacher, other moves, or accuracies by another metric.
    """
    if RunFolder(spec.out).evidence.exists():
        return
    path = Path(spec.teacher)
    # of an ONNX file with data beside it, or a function, it is known only when it is loaded
    known = path.suffix == ".safetensors" and path.is_file()
    teacher = hashlib.sha256(path.read_bytes()).hexdigest() if known else None
    for name in spec.warm:
        earlier = earlier_run(name)
        _check_job(name, earlier, spec)
        if teacher is not None:
            check_teacher_of(name, teacher)


def earlier_run(name: str) -> JobSpec:
    """The job of an earlier run.

    Raises:
        BadInput: the folder holds no run, or one without any candidate.
    """
    folder = RunFolder(name)
    if folder.job.is_file() and folder.inputs.is_file():
        job = folder.stored_job()
        if folder.ledger.is_file() or job.storage is not None:
            return job
    raise BadInput(
        "there is no earlier run",
        value=f"--warm {name}",
        bound="a folder with job.yaml and inputs.json, left by `understudy search`, and the run's "
        "ledger",
        remedy="Mend the path, or leave it out.",
    )


def check_teacher_of(name: str, teacher: str) -> None:
    """Refuse an earlier run of another teacher than the one with this fingerprint."""
    before = json.loads(RunFolder(name).inputs.read_text()).get("teacher")
    if before != teacher:
        raise BadInput(
            "an earlier run is of another teacher",
            value=f"--warm {name}, teacher's SHA-256 {before}",
            bound=teacher,
            remedy="Leave it out: what it says of its candidates is nothing about this one's.",
        )


def _check_job(name: str, earlier: JobSpec, spec: JobSpec) -> None:
    before, now = _moves(earlier), _moves(spec)
    pairs = {
        "pool": (list(before.pool), list(now.pool)),
        "scaled": (sorted(before.scaled), sorted(now.scaled)),
        "metric": (earlier.metric, spec.metric),
    }
    for field, (had, wanted) in pairs.items():
        if had != wanted:
            raise BadInput(
                f"an earlier run has another {field}",
                value=f"--warm {name}, {field} {had}",
                bound=f"{field} {wanted}, as in this job",
                remedy=f"Leave it out, or set --{field} as it was there.",
            )


def _moves(spec: JobSpec) -> Moves:
    preset = PRESETS[spec.preset]
    return Moves(spec.pool or preset.pool, spec.scaled or preset.scaled)


def differences(earlier: JobSpec, spec: JobSpec) -> list[str]:
    """Fields in which the two came to their accuracies otherwise."""
    return [name for name in RECIPE if getattr(earlier, name) != getattr(spec, name)]
