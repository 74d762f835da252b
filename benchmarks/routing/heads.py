"""Two-head students (AppealNet) on the same draws: the pair's own student with a predictor head.

The head is fitted on the draw's router part, the rest of the student frozen, so that its answers
and the baseline's stay the same; β is chosen on validation. It reads the student's features, which
the file of pairs does not hold: this needs the data, and the students that ``pairs`` has kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from benchmarks.quality import lines
from benchmarks.rivals.study import DATA
from benchmarks.routing import making
from benchmarks.routing.choice import best_score, difference
from benchmarks.routing.contenders import Line, area, figures
from benchmarks.routing.draws import Draw, draw
from benchmarks.routing.pairs import WITHHELD, Pair
from benchmarks.routing.running import Plan
from envs.layers import anatomy
from envs.surgery import load
from routers.intervals import figures_of
from routers.labels import student_right
from teachers.datasets import Dataset, load_dataset
from teachers.formats import load_teacher
from teachers.lesson import Exam, Lesson
from teachers.manifest import Teacher
from teachers.recipe import Recipe
from teachers.two_head import answer
from teachers.two_head_recipe import TwoHeadRecipe
from teachers.two_head_training import Floats, fit_two_head

NAME = "two-head frozen"
RECIPE = TwoHeadRecipe(ways=("frozen",), joint=Recipe(epochs=1))


def run(pairs: list[Pair], plan: Plan, kept: Path = making.OUT) -> None:
    """Fit a head for every pair and seed that has none yet; adds lines to those of the study."""
    for pair in pairs:
        done = {line["seed"] for line in lines.rows(plan.file(pair)) if line["kind"] == "head"}
        left = [seed for seed in plan.seeds if seed not in done]
        if not left:
            continue
        name = pair.about["data"]
        teacher = load_teacher(str(DATA / "teachers" / f"resnet18_{name}.safetensors"))
        look = teacher.manifest.preprocess
        data = load_dataset(str(DATA / "data" / name), look, teacher.manifest.class_names)
        for seed in left:
            plan.out.mkdir(parents=True, exist_ok=True)
            lines.append(plan.file(pair), fitted(draw(pair, seed), teacher, data, kept))


def fitted(of: Draw, teacher: Teacher, data: Dataset, kept: Path) -> Line:
    """The line of a draw."""
    torch.set_num_threads(1)
    pair, look = of.pair, teacher.manifest.preprocess
    weights = load_file(kept / pair.name / "student.safetensors")
    student = load(pair.network, {name: torch.from_numpy(w) for name, w in weights.items()}).eval()
    said = making.answers(pair.name, kept)[f"{WITHHELD}.teacher"]
    # withheld rows come first in a pair, in the order in which they were kept
    rows = pair.rows[of.router]
    lesson = Lesson(data.images, rows, of.labels("router"), said[of.router][np.newaxis], None, look)
    exam = Exam(data.images, pair.rows[of.validation], of.labels("validation"), "accuracy")
    right = of.right("validation")[1]

    def judge(score: Floats, logits: Floats) -> float:
        own = student_right(logits, of.labels("validation"))
        return figures_of(score, own, right, ["area"])["area"]

    tap = anatomy(pair.network).layers[-1].node
    outcome = fit_two_head(student, tap, lesson, exam, judge, RECIPE, seed=of.seed)
    score = answer(outcome.network, data.images, look, rows=pair.rows[of.test]).score
    checked = answer(outcome.network, data.images, look, rows=pair.rows[of.validation]).score
    baseline, best = best_score(of)
    return {
        "pair": pair.name,
        "seed": of.seed,
        "router": NAME,
        "kind": "head",
        **figures(of, score),
        "validation_area": area(of, "validation", checked),
        "beta": outcome.chosen.beta,
        "bytes": outcome.network.added().bytes,
        "baseline": baseline,
        "difference": difference(score, best, *of.right("test"), of.seed),
    }
