"""AppealNet's head for the student that ships, where a job asks for one: ``--two-head``.

The head stands in the ranking beside the routers that read logits. It needs none of its own files
where it wins: the student's graph gives logits and score. Trained jointly, the student itself
changes, and it is the changed one that all routers are then fitted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from edge.errors import BadInput
from edge.files import write_bytes
from envs.compression.layers import anatomy
from envs.graph.netspec import NetSpec
from routers.evaluation.metrics import area_under, deferral_curve
from routers.selection.labels import student_right
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from teachers.distillation.checkpoint import Checkpoint
from teachers.two_head.two_head import Timing, time_both, to_bytes, two_head_to_onnx
from teachers.two_head.two_head_recipe import TwoHeadRecipe
from teachers.two_head.two_head_training import BetaTrial, Judge, TwoHeadOutcome, fit_two_head


@dataclass(frozen=True)
class Headed:
    """A student with a predictor head.

    Attributes:
        onnx: ``image`` in, ``logits`` and ``score`` out.
        state: both heads and the trunk, for :func:`teachers.two_head.two_head.from_bytes`.
        weights: of the student alone.
        changed: they are no longer what they were: it was trained jointly.
        bytes: that the head adds to the file.
        timing: with and without the head.
    """

    onnx: bytes
    state: bytes
    weights: Mapping[str, NDArray[np.float32]]
    changed: bool
    bytes: int
    timing: Timing


def give_head(
    prepared: Prepared,
    student: NetSpec,
    module: fx.GraphModule,
    plain: bytes,
    teacher_right: NDArray[np.int64],
    folder: RunFolder,
) -> Telling[Headed | None]:
    """Train a head for a trained student; None where its last layer leaves no room for one.

    Args:
        prepared: the job.
        student: description of the student.
        module: with its weights.
        plain: its ONNX file.
        teacher_right: of every validation row, 0 or 1.
        folder: of the run, where every trial is put away: none is made twice.
    """
    way, room = prepared.spec.two_head, prepared.training_context(proxy=False)
    judge = judging(prepared.labels("validation"), teacher_right)
    kept = _Kept(folder.trained, sha256(plain + way.encode()).hexdigest()[:16])
    recipe = TwoHeadRecipe(ways=("frozen",) if way == "frozen" else ("joint",))
    try:
        found = fit_two_head(
            module, anatomy(student).layers[-1].node, prepared.whole_images, room.validation_set,
            judge, recipe,
            seed=prepared.spec.seed, device=prepared.own_device, earlier=kept.trials(),
            on_trial=kept.keep,
        )  # fmt: skip
    except BadInput as error:
        yield Note(f"no two-head student: {error}", warning=True)
        return None
    yield Note(f"two-head student: {found.note}")
    return _headed(found, student, plain)


def judging(labels: NDArray[np.int64], teacher_right: NDArray[np.int64]) -> Judge:
    """The area under the deferral curve of a two-head student, on rows of these labels."""

    def judge(score: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
        return area_under(deferral_curve(score, student_right(logits, labels), teacher_right))

    return judge


def _headed(found: TwoHeadOutcome, student: NetSpec, plain: bytes) -> Headed:
    onnx = two_head_to_onnx(found.network, student.input_shape)
    weights = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in found.network.student_weights().items()
    }
    return Headed(
        onnx,
        to_bytes(found.network),
        weights,
        found.chosen.way == "joint",
        max(0, len(onnx) - len(plain)),
        time_both(plain, onnx),
    )


class _Kept:
    """Trials in the run's folder."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark

    def trials(self) -> Iterator[BetaTrial]:
        for path in sorted(self.folder.glob(f"two-head-{self.mark}-*.safetensors")):
            yield BetaTrial.restore(Checkpoint.from_bytes(path.read_bytes()))

    def keep(self, trial: BetaTrial) -> None:
        name: Any = f"two-head-{self.mark}-{trial.way}-{trial.beta!r}.safetensors"
        write_bytes(self.folder / name, trial.save().to_bytes())
