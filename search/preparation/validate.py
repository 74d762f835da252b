"""What can be refused before torch and ray are loaded: paths, teacher, data, moves, folder.

A job that cannot work should end in a second, not after the libraries and the data are in memory.
"""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

from edge.errors import BadInput, check_member
from edge.profile import read_profile
from envs.compression.moves import PRESETS, Moves
from search.job.choices import check_choices
from search.job.goal import goal_of
from search.job.machine import image_budget
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.scheduling.warm import check_warm
from teachers.data.datasets import check_table, open_for
from teachers.formats.factory import is_factory
from teachers.formats.formats import check_teacher

CONNECT_SECONDS = 3.0


def check_inputs(
    spec: JobSpec, resume: bool = False, own_folder: bool = True, trusted: bool = False
) -> None:
    """Look at everything a job names, reading no more than is needed.

    Args:
        spec: the job.
        resume: its folder has to hold the run; otherwise it must not exist.
        own_folder: False where the caller has claimed the folder and answers for it.
        trusted: whether the teacher may be a Python function.

    Raises:
        BadInput: says what to mend.
    """
    if own_folder:
        RunFolder(spec.out).check(spec, resume)
    if resume:
        _check_there(spec)
    check_choices(spec)
    moves_of(spec)
    goal_of(spec)
    check_warm(spec)
    if spec.storage is not None:
        from search.ledger.storage import check_storage  # Optuna takes half a second

        check_storage(spec.storage)
    _check_ray(spec.ray)
    _check_gpus(spec.gpus)
    if spec.profile is not None:
        read_profile(Path(spec.profile))
    manifest = check_teacher(spec.teacher, trusted=trusted)
    preprocess = replace(manifest.preprocess, resize=spec.resize)
    beside = Path(spec.teacher).parent
    found = open_for(spec.data, manifest, unseen=spec.teacher_unseen, beside=beside)
    check_table(
        found.table,
        preprocess,
        manifest.classes,
        max_bytes=image_budget(spec.memory_gb),
        folder=RunFolder(spec.out).cache,
    )


#: data that install with the package, by name (:mod:`teachers.data.digits`)
EMBEDDED = ("digits", "sklearn.digits")


def _check_there(spec: JobSpec) -> None:
    """Teacher and data of a run may have been moved since it began."""
    for name, value in (("teacher", spec.teacher), ("data", spec.data)):
        named = is_factory(value) if name == "teacher" else value in EMBEDDED
        if not named and not Path(value).exists():
            raise BadInput(
                f"the run's {name} is not where it was",
                value=value,
                bound="the one that the run began with; its digest is compared",
                remedy=f"Say where it is now: --{name}.",
            )


def _check_ray(address: str) -> None:
    """Knock at a remote cluster; Ray itself would go on trying for half a minute."""
    if address in ("local", "auto"):
        return
    place = re.fullmatch(r"ray://([^:/\s]+):(\d{1,5})", address)
    reason = "no such form"
    if place:
        try:
            socket.create_connection((place[1], int(place[2])), timeout=CONNECT_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            reason = f"{error}"
    raise BadInput(
        "no Ray cluster answers",
        value=f"--ray {address} ({reason})",
        bound="local, auto (a cluster on this machine) or ray://HOST:PORT",
        remedy="Start one with `ray start --head`, or use --ray local.",
    )


def _check_gpus(gpus: float) -> None:
    """Several candidates may share a GPU, but none has parts of two."""
    if gpus > 1 and gpus != int(gpus):
        raise BadInput(
            "a candidate cannot have that many GPUs",
            value=f"--gpus {gpus:g}",
            bound="a part of one, as .25, or a whole number",
            remedy=f"Say --gpus {int(gpus)}.",
        )


def moves_of(spec: JobSpec) -> Moves:
    """The preset with the job's own pool and fields in place of its own.

    Raises:
        BadInput: no such preset, or a pool that cannot be used.
    """
    check_member("preset", spec.preset, PRESETS, "Choose one of these for --preset.")
    preset = PRESETS[spec.preset]
    return Moves(
        preset.pool if spec.pool is None else spec.pool,
        preset.scaled if spec.scaled is None else spec.scaled,
        spec.protect,
    )
