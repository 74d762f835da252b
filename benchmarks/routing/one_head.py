"""One two-head student that is trained on the spot: the smallest pair, from weights that are kept.

Eq. 10, which needs no teacher, and one β, against as many epochs more of the same student on the
same labels; both are judged with a teacher that is always right. Needs $UNDERSTUDY_DATA's images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from benchmarks.rivals.study import DATA
from benchmarks.routing import arms
from benchmarks.routing.appealnet import arm_of
from benchmarks.routing.pairs import Pair
from envs.compression.layers import anatomy
from envs.compression.surgery import load
from routers.evaluation.intervals import SHARES
from routers.evaluation.metrics import appeals_for, auroc, deferral_curve
from search.packaging.two_head import judging
from teachers.data.datasets import load_dataset
from teachers.distillation.distill import distil
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.formats.formats import load_teacher
from teachers.two_head.two_head import answer
from teachers.two_head.two_head_recipe import TwoHeadRecipe
from teachers.two_head.two_head_training import fit_two_head

PAIR = "mnist-60"
STUDENT = Path(__file__).resolve().parents[1] / "data" / f"student_{PAIR}.safetensors"
ROWS, EPOCHS, BETA = 12_000, 3, 0.1


def trained(pair: Pair, data: Path = DATA) -> Iterator[str]:
    """Train both students, and tell what came of it on the pair's test rows."""
    name = pair.about["data"]
    if not (data / "data" / name).exists():
        yield f"no two-head student was trained: {data / 'data' / name} is not there"
        return
    torch.set_num_threads(1)
    teacher = load_teacher(str(data / "teachers" / f"resnet18_{name}.safetensors")).manifest
    look = teacher.preprocess
    known = load_dataset(str(data / "data" / name), look, teacher.class_names)
    weights = {key: torch.from_numpy(value) for key, value in load_file(STUDENT).items()}
    student, tap = load(pair.network, weights), anatomy(pair.network).layers[-1].node
    rows = np.setdiff1d(np.arange(known.train_rows), pair.rows)
    rows = np.sort(np.random.default_rng([arms.SEED, 6]).permutation(rows)[:ROWS])
    nothing_said = np.zeros((1, len(rows), pair.logits.shape[1]), np.float32)
    distillation_set = DistillationSet(
        known.images, rows, known.labels[rows], nothing_said, None, look
    )
    recipe = replace(arms.joint_recipe(name), epochs=EPOCHS)

    looked = pair.of("validation")
    validation_set = ValidationSet(known.images, pair.rows[looked], pair.labels[looked], "accuracy")
    plain = load(pair.network, weights)
    distil(plain, None, distillation_set, recipe, seed=arms.SEED, validation_set=validation_set)
    judge = judging(validation_set.labels, np.ones(len(looked), np.int64))
    heads = TwoHeadRecipe(betas=(BETA,), joint=recipe, black_box=True, most_drop=1.0)
    network = fit_two_head(
        student, tap, distillation_set, validation_set, judge, heads, seed=arms.SEED
    ).network

    test = pair.of("test")
    numbers, labels = pair.rows[test], pair.labels[test]
    said = answer(network, known.images, look, rows=numbers)
    before = predict(plain, known.images, look, rows=numbers)
    both = (arm_of(before.logits, None, labels), arm_of(said.logits, said.trust, labels))
    accuracy, oracle = both[0].right.mean(), np.ones(len(test), np.int64)
    for told, arm in zip(("margin", "head"), both, strict=True):
        score = arm.margin if arm.trust is None else arm.trust
        curve = deferral_curve(score, arm.right, oracle)
        rates = [appeals_for(curve, accuracy + share / 100 * (1 - accuracy)) for share in SHARES]
        told_rates = "/".join("-" if rate is None else f"{100 * rate:.1f}" for rate in rates)
        yield (
            f"{told:<8}student {100 * arm.right.mean():.2f} %, "
            f"AUROC {auroc(score, arm.right):.3f}; "
            f"AR in % at {'/'.join(map(str, SHARES))} % AccI: {told_rates}"
        )
