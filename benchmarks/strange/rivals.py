"""What a case is compared with: the uniform student by our trainer, and a network trained by hand.

Both keep the job's KB limit, and leave one file each: their answers about the test rows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.rivals.searching import settled
from benchmarks.rivals.sizing import scaling, uniform
from benchmarks.strange import data, hand
from benchmarks.strange.cases import Case
from benchmarks.strange.data import Labels
from benchmarks.strange.exports import FOLDING
from benchmarks.strange.networks import size_kb, widest
from benchmarks.strange.rebuild import found_in
from edge.files import write_bytes
from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, load
from search.execution.training_context import Distiller
from search.job.run_folder import RunFolder
from search.job.spec import make_spec
from search.preparation.prepare import prepare
from teachers.distillation.training import predict


def keep(path: Path, answers: Labels, kb: float) -> None:
    """Write a contender's answers, whole or not at all."""
    write_bytes(path, json.dumps({"kb": kb, "answers": answers.tolist()}).encode())


def kept(path: Path) -> tuple[Labels, float]:
    """What :func:`keep` wrote."""
    stored = json.loads(path.read_text())
    return np.array(stored["answers"], np.int64), float(stored["kb"])


def by_hand(case: Case, place: Path, seed: int, out: Path) -> None:
    """The network's own class at the largest width that keeps the limit, learnt from labels.

    Args:
        case: whose network and limit.
        place: folder of its data: all its training rows are learnt from, as a stranger would.
        seed: of weights and order.
        out: file for its answers.
    """
    images = data.read(place)
    channels, side, _ = images.shape
    folded = case.export in FOLDING
    torch.manual_seed(seed)
    net = widest(case.network, channels, len(images.names), side, case.max_kb, folded)
    hand.train(net, images, hand.RIVAL, seed=seed, flip=case.flip)
    keep(out, hand.answers(net, images), size_kb(net, folded))


def by_uniform_width(run: Path, stands: Path, place: Path, out: Path) -> None:
    """The uniform student at the limit, by the full training of a job that has been run.

    For runs that let none into their final round.

    Args:
        run: folder of the job.
        stands: folder in which it was started.
        place: folder of the case's data.
        out: file for its answers; a folder for the preparation lies beside it.
    """
    stored = RunFolder(run).stored_job()
    folder = RunFolder(out.with_suffix(""))
    spec = make_spec(stored.model_dump() | {"out": str(folder.root)})
    with found_in(stands):
        job = settled(prepare(spec, folder, trusted=True))
    facts = json.loads(RunFolder(run).facts.read_text())
    # what the run has settled about the training of its students
    job = replace(job, **{name: facts[name] for name in ("normalise",) if name in facts})
    network = job.network
    inheritance = Inheritance.of(network, job.teacher.module.state_dict(), spec.criterion)
    assert spec.max_kb is not None
    factor = uniform(inheritance, spec.max_kb, spec.seed).factor
    moves, actions = scaling(network, [1.0] * len(anatomy(network).layers), factor)
    room = replace(job.training_context(proxy=False), moves=moves)
    trainable = Distiller(room, job.recipe(proxy=False)).begin(actions, None)
    while not trainable.epoch(examine=True).done:
        pass
    weights = {name: torch.from_numpy(array) for name, array in trainable.weights().items()}
    student = compress(network, moves, actions).spec
    module = load(student, weights).eval()
    answers = predict(module, data.read(place).test, job.teacher.manifest.preprocess)
    keep(out, answers.logits.argmax(1), cost(student).kb)
