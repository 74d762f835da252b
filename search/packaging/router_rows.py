"""Which rows the routers are fitted on: ``--router-rows``.

A way gives the student's logits on some rows, with their labels; a new one is one function here and
one line in :data:`WAYS`. Rows of the validation, calibration and test parts are never among them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from edge.files import write_array
from search.execution.training_context import Distiller
from search.execution.worker import Step
from search.job.events import Note, Progress, Stage
from search.job.run_folder import RunFolder
from search.preparation.teacher_outputs import Telling
from search.space.space import Actions
from teachers.distillation.distill import Diverged
from teachers.distillation.training import predict

if TYPE_CHECKING:  # preparation checks the names below
    from search.packaging.measure import Measure
    from search.preparation.prepared import Prepared

#: students that are trained on all rows but those of a fold
FOLDS = 5

#: logits N×K and labels N
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
Way: TypeAlias = "Callable[[Prepared, Actions, Measure, RunFolder], Telling[Rows]]"


def withheld(
    prepared: Prepared, actions: Actions, measure: Measure, folder: RunFolder
) -> Telling[Rows]:
    """The router part, which the student has not learnt from, as the file that ships answers."""
    yield Stage("routers", "fit and rank on rows the student has not learnt from")
    return measure.logits("router")


def learnt(
    prepared: Prepared, actions: Actions, measure: Measure, folder: RunFolder
) -> Telling[Rows]:
    """The distillation part, the paper's own choice (Zhang V-B).

    The student errs less often on what it has learnt from, so errors are fewer than they will be,
    and not quite the same ones.
    """
    yield Stage("routers", "fit and rank on the rows that the student has learnt from")
    return measure.logits("distillation")


def folds(
    prepared: Prepared, actions: Actions, measure: Measure, folder: RunFolder
) -> Telling[Rows]:
    """Both parts: every distillation row as a student answers it that has not learnt from it.

    For that, :data:`FOLDS` students of the same description are trained like the one that ships,
    each without its fold; they answer in fp32, whatever ships. A fold that diverges is left out.
    What they say is kept in the run's folder, so that no fold is trained twice.
    """
    epochs = FOLDS * prepared.plan.final_epochs
    yield Stage("folds", f"{FOLDS} students, each trained without a part of the rows")
    found = [measure.logits("router")]
    labels = prepared.labels("distillation")
    for number, (kept, held) in enumerate(_folds(prepared)):
        path = folder.trained / f"fold-{number}-{_mark(prepared, actions, held)}.npy"
        if not path.exists():
            try:
                for step in _trained(prepared, actions, kept, held, path):
                    done = number * prepared.plan.final_epochs + step.epoch
                    yield Progress(done, epochs, f"fold {number + 1}: loss {step.loss:.3f}")
            except Diverged as error:
                yield Note(f"fold {number + 1} is left out: {error}", warning=True)
                write_array(path, np.zeros((0, prepared.network.classes), np.float32))
        logits: NDArray[np.float32] = np.load(path, allow_pickle=False)
        found.append((logits, labels[held[: len(logits)]]))
    yield Stage("routers", "fit and rank on all training rows, by students that did not see them")
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


WAYS: dict[str, Way] = {"auto": withheld, "withheld": withheld, "learnt": learnt, "folds": folds}


def _folds(prepared: Prepared) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places in the distillation part, learnt from and held back, of every fold."""
    labels = prepared.labels("distillation")
    # a class of fewer rows than folds is missing in some, which cannot be helped
    kind = StratifiedKFold if np.bincount(labels).max() >= FOLDS else KFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        cut = kind(FOLDS, shuffle=True, random_state=prepared.spec.seed)
        return list(cut.split(labels, labels))


def _trained(
    prepared: Prepared,
    actions: Actions,
    kept: NDArray[np.int64],
    held: NDArray[np.int64],
    path: Path,
) -> Iterator[Step]:
    """Train a student as the finalists are, and keep what it says of the rows held back."""
    room = prepared.training_context(proxy=False)
    room = replace(room, distillation_set=room.distillation_set.part(kept))
    device = prepared.own_device
    trainable = Distiller(room, prepared.recipe(proxy=False), device).begin(actions, None)
    threads = torch.get_num_threads()
    # as many as a worker has: narrow students gain nothing from more, and wait where others work
    torch.set_num_threads(prepared.spec.threads)
    try:
        done = False
        while not done:
            step = trainable.epoch(examine=False)
            done = step.done
            yield step
    finally:
        torch.set_num_threads(threads)
        trainable.close()
    look, rows = prepared.teacher.manifest.preprocess, prepared.parts.distillation[held]
    said = predict(trainable.module, prepared.data.images, look, rows=rows, device=device)
    write_array(path, said.logits)


def _mark(prepared: Prepared, actions: Actions, held: NDArray[np.int64]) -> str:
    """Of all that a fold's student depends on, within a run."""
    made = [list(actions), repr(prepared.recipe(proxy=False)), prepared.spec.seed]
    digest = sha256(json.dumps(made).encode())
    digest.update(prepared.parts.distillation[held].tobytes())
    return digest.hexdigest()[:16]
