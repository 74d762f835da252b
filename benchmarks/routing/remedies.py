"""What might beat the best score where the families do not; each measured, none of it shipped.

A remedy is a function of a draw that gives a score of its test rows, or None where the pair lacks
what it needs, and one line in :data:`REMEDIES`. Three ideas, and mixtures of them:

- *useful*: the label is "an appeal wins something", teacher right and student wrong, in place of
  "the student is wrong". On rows that the teacher was trained on, and the router part is made of
  those, the two are nearly the same; so there is a form that is fitted on validation rows
  (*unseen*), which a job could not then choose routers on.
- *classes*: the teacher's own weak classes, its accuracy by predicted class on validation.
- *blend*: a logistic regression on a few scores; *line*: on all derived features; *flip*: with what
  the student says of the mirrored image, which makes the edge work twice, or, *in doubt*, only
  where the first look leaves doubt.

*both* are router and validation rows together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.routing.choice import best_score, difference
from benchmarks.routing.contenders import Line, figures, head_of, made_of
from benchmarks.routing.draws import Draw
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx.features import FEATURES

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Describe = Callable[[Draw, Rows], Floats]

BLENDED = ("margin", "temperature", "entropy", "energy", "max_logit_pnorm")
#: rows of a class that are added to its own, with the accuracy of all classes together
PRIOR = 20.0


def blended(draw: Draw, rows: Rows) -> Floats:
    """Five scores of some rows, N×5; constants from the router part."""
    said = [
        SCORES[name]
        .tuned(draw.logits("router"), draw.labels("router"))
        .score(draw.pair.logits[rows])
        for name in BLENDED
    ]
    return np.stack(said, axis=1)


def derived(draw: Draw, rows: Rows) -> Floats:
    """The derived features, N×F."""
    return FEATURES["derived"].compute(draw.pair.logits[rows]).astype(np.float64)


def both_views(draw: Draw, rows: Rows) -> Floats:
    """The blended scores of the image, and of its mirror image where there is one."""
    assert draw.pair.flipped is not None
    seen, other = draw.pair.logits[rows], draw.pair.flipped[rows]
    mean = (_softmax(seen) + _softmax(other)) / 2
    own = mean[np.arange(len(rows)), seen.argmax(axis=1)]
    agree = (seen.argmax(axis=1) == other.argmax(axis=1)).astype(np.float64)
    extra = [np.log(own + 1e-9), agree, SCORES["margin"].score(other)]
    return np.concatenate([blended(draw, rows), np.stack(extra, axis=1)], axis=1)


def with_classes(draw: Draw, rows: Rows) -> Floats:
    """The derived features, and the teacher's accuracy on the predicted class."""
    column = class_accuracy(draw)[draw.pair.logits[rows].argmax(axis=1)]
    return np.concatenate([derived(draw, rows), column[:, None]], axis=1)


def class_accuracy(draw: Draw, wrong_only: bool = False) -> Floats:
    """The teacher's accuracy on validation by the class that the student predicts, K values.

    ``wrong_only``: on rows that the student gets wrong. Drawn towards that of all classes.
    """
    student, teacher = draw.right("validation")
    logits = draw.logits("validation")
    kept = student == 0 if wrong_only else np.ones(len(student), dtype=bool)
    predicted, hits = logits.argmax(axis=1)[kept], teacher[kept].astype(np.float64)
    width = logits.shape[1]
    won = np.bincount(predicted, weights=hits, minlength=width) + PRIOR * hits.mean()
    found: Floats = won / (np.bincount(predicted, minlength=width) + PRIOR)
    return found


def line(
    draw: Draw, describe: Describe, parts: tuple[str, ...], useful: bool, C: float = 1.0
) -> Floats:
    """A logistic regression on described rows of some parts, at the natural rate."""
    rows = np.concatenate([draw.places(part) for part in parts])
    right = np.concatenate([labels(draw, part, useful) for part in parts])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
    model.fit(describe(draw, rows), right)
    found: Floats = model.predict_proba(describe(draw, draw.test))[:, 1]
    return found


def family(draw: Draw, name: str, describe: Describe, part: str) -> Floats:
    """A family on described rows of one part, at the natural rate, with useful labels."""
    rows = draw.places(part)
    seen, asked = (describe(draw, of).astype(np.float32) for of in (rows, draw.test))
    return FAMILIES[name](seen, labels(draw, part, useful=True), draw.seed).score(asked)


def gain(draw: Draw, describe: Describe) -> Floats:
    """What keeping a row is expected to be worth: P(only student right) − P(only teacher right).

    From a logistic regression on validation rows with three outcomes. Were the probabilities
    exact, no order of the rows had a larger area.
    """
    student, teacher = draw.right("validation")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(describe(draw, draw.validation), student - teacher)
    chances = model.predict_proba(describe(draw, draw.test))
    found: Floats = chances @ model[-1].classes_.astype(np.float64)
    return found


def weak_classes(draw: Draw) -> Floats:
    """1 − P(student wrong)·P(teacher right | student wrong, predicted class)."""
    score = SCORES["temperature"].tuned(draw.logits("router"), draw.labels("router"))
    trust = score.score(draw.logits("test"))
    helps = class_accuracy(draw, wrong_only=True)[draw.logits("test").argmax(axis=1)]
    found: Floats = 1 - (1 - trust) * helps
    return found


def labels(draw: Draw, part: str, useful: bool) -> Rows:
    """N of 0 and 1, 0 = appeal: where the student is wrong, or only where the teacher mends it."""
    student, teacher = draw.right(part)
    found: Rows = 1 - (1 - student) * teacher if useful else student
    return found


def flip(draw: Draw, parts: tuple[str, ...], useful: bool) -> Floats | None:
    """:func:`line` on both views."""
    return None if draw.pair.flipped is None else line(draw, both_views, parts, useful)


def flip_in_doubt(draw: Draw, share: float) -> Floats | None:
    """:func:`flip` for the least trusted rows alone, as many as are ``share`` of the router part.

    All others are trusted more than any of these, in the order of the first look.
    """
    looked_twice = flip(draw, ROUTER, useful=True)
    if looked_twice is None:
        return None
    score = SCORES["temperature"].tuned(draw.logits("router"), draw.labels("router"))
    once = score.score(draw.logits("test"))
    doubt = once < np.quantile(score.score(draw.logits("router")), share)
    found: Floats = np.where(doubt, looked_twice, 1 + once)
    return found


def _softmax(logits: NDArray[np.float32]) -> Floats:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


Remedy = Callable[[Draw], Floats | None]
ROUTER, UNSEEN, BOTH = ("router",), ("validation",), ("router", "validation")
REMEDIES: dict[str, Remedy] = {
    "blend": partial(line, describe=blended, parts=ROUTER, useful=False),
    "blend useful": partial(line, describe=blended, parts=ROUTER, useful=True),
    "blend useful unseen": partial(line, describe=blended, parts=UNSEEN, useful=True),
    "line": partial(line, describe=derived, parts=ROUTER, useful=False),
    "line useful": partial(line, describe=derived, parts=ROUTER, useful=True),
    "line unseen": partial(line, describe=derived, parts=UNSEEN, useful=False),
    "line useful unseen": partial(line, describe=derived, parts=UNSEEN, useful=True),
    "line both": partial(line, describe=derived, parts=BOTH, useful=False),
    "line useful both": partial(line, describe=derived, parts=BOTH, useful=True),
    "smooth useful both": partial(line, describe=derived, parts=BOTH, useful=True, C=0.01),
    "line classes useful": partial(line, describe=with_classes, parts=ROUTER, useful=True),
    "gain unseen": partial(gain, describe=derived),
    "gain blend unseen": partial(gain, describe=blended),
    "weak classes": weak_classes,
    "rf useful": partial(family, name="rf", describe=derived, part="router"),
    "rf useful unseen": partial(family, name="rf", describe=derived, part="validation"),
    "rf classes useful": partial(family, name="rf", describe=with_classes, part="router"),
    "gbdt useful": partial(family, name="gbdt", describe=derived, part="router"),
    "flip": partial(flip, parts=ROUTER, useful=False),
    "flip useful": partial(flip, parts=ROUTER, useful=True),
    "flip useful unseen": partial(flip, parts=UNSEEN, useful=True),
    "flip in doubt, 20 %": partial(flip_in_doubt, share=0.2),
    "flip in doubt, 40 %": partial(flip_in_doubt, share=0.4),
}


def tried(draw: Draw, name: str) -> Line | None:
    """The line of a remedy: its area on test, and the paired difference to the best score."""
    score = REMEDIES[name](draw)
    if score is None:
        return None
    baseline, best = best_score(draw)
    return head_of(draw, name, "remedy") | {
        "made_of": of_remedies(),
        **figures(draw, score),
        "baseline": baseline,
        "difference": difference(score, best, *draw.right("test"), draw.seed, resamples=300),
    }


def of_remedies() -> str:
    """:func:`made_of` the lines of remedies."""
    return made_of("families", "features", "confidence", "scores", "knn")
