"""Whether a teacher makes sense on the data, before anything learns from it.

A student of a teacher that is wrong is wrong as well, and a job on it ends as if all were fine:
near chance any network "keeps" the teacher's accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from edge.errors import BadInput
from search.job.events import Note
from search.preparation.mends import MOST_ROWS, Ask, Mend, class_order, preparation
from teachers.data.source import Images
from teachers.formats.manifest import TeacherManifest

Rows = NDArray[np.int64]
Logits = NDArray[np.floating[Any]]

#: below this share of what could be won over chance a teacher is near chance
NEAR = 0.2
#: a teacher that is right more often is not asked again under other preparations
GOOD = 0.9
#: a class order explains so much more than another cause, if it is the cause
MARGIN = 0.02
#: how far below its stated accuracy is worth a word, beyond what the draw of rows explains
FAR, ODDS = 0.1, 1e-3
#: parts of a JSON's `accuracy` that say nothing of rows the teacher has not seen
SEEN = ("train", "fit", "distil")
#: rows from which outputs within [0, 1] are no accident
LEAST_ROWS = 20


@dataclass(frozen=True)
class Standing:
    """How right a teacher is on some rows.

    Attributes:
        right, rows: counts.
        chance: accuracy of answers as often as the teacher's, whatever the image.
    """

    right: int
    rows: int
    chance: float

    @property
    def accuracy(self) -> float:
        return self.right / self.rows

    @property
    def beyond_chance(self) -> float:
        """The share of what could be won over chance (Cohen's kappa); 0 where nothing can."""
        return (self.accuracy - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    @property
    def shown_better(self) -> bool:
        """Whether chance alone gives as many right answers in less than one draw of a hundred."""
        return bool(binom.sf(self.right - 1, self.rows, self.chance) < 0.01)

    @property
    def shown_near(self) -> bool:
        """Whether more rows would hardly show anything but chance: the 99 % bound is near it."""
        if self.right == self.rows:
            return False
        highest = float(beta.ppf(0.99, self.right + 1, self.rows - self.right))
        return not self.shown_better and highest < self.chance + NEAR * (1 - self.chance)


def standing(logits: Logits, labels: Rows) -> Standing:
    """The standing of a teacher with these logits N×K."""
    told = logits.argmax(1)
    shares = [np.bincount(of, minlength=logits.shape[1]) / len(labels) for of in (told, labels)]
    return Standing(int((told == labels).sum()), len(labels), float(shares[0] @ shares[1]))


def check_teacher_sense(
    manifest: TeacherManifest,
    names: tuple[str, ...],
    images: Images,
    labels: Rows,
    rows: Rows,
    logits: Logits,
    ask: Ask,
    *,
    named: bool = True,
) -> Iterator[Note]:
    """Notes on a teacher that is far from what it should be, with the cause where one is found.

    Args:
        manifest: the teacher's.
        names: of the labels' classes.
        images, labels: of all data.
        rows: those that the teacher was asked about; it has not learnt from them.
        logits: its answers to them, N×K.
        ask: the teacher, for more.
        named: whether the data name their classes.

    Raises:
        BadInput: its answers have nothing to do with the labels.
    """
    yield from _outputs(logits)
    truth = labels[rows]
    found = standing(logits, truth)
    stated = _stated(manifest)
    below = stated is not None and _far_below(found, stated[1])
    near = found.beyond_chance < NEAR
    mend = class_order(logits, truth, names, named=named)
    if mend is not None or found.accuracy < GOOD:
        some = np.random.default_rng(0).permutation(rows)[:MOST_ROWS]
        other = preparation(
            ask, images[some], labels[some], manifest.preprocess, manifest.channel_order
        )
        # an order of classes is found for much that is wrong in a regular way, such as red for
        # blue; the reverse is not so
        if mend is None or (other is not None and other.accuracy >= mend.accuracy - MARGIN):
            mend = other
    if found.shown_near:
        raise _at_chance(found, mend)
    if near:
        yield Note(
            f"the teacher is right on {found.accuracy:.1%} of {found.rows:,} validation rows, "
            f"where chance is {found.chance:.1%}. {_cause(mend)}",
            warning=True,
            name="teacher-near-chance",
        )
    elif below and stated is not None:
        yield Note(
            f"the teacher is right on {found.accuracy:.1%} of {found.rows:,} validation rows, and "
            f"its JSON states {stated[1]:.1%} ({stated[0]}). {_cause(mend)}",
            warning=True,
            name="teacher-below-stated",
        )
    elif mend is not None:
        yield Note(
            f"the teacher was trained with another {mend.cause}. {mend.told()}",
            warning=True,
            name=f"teacher-{mend.cause.replace(' ', '-')}",
        )


def _outputs(logits: Logits) -> Iterator[Note]:
    """A warning where a teacher's logits look like probabilities."""
    lowest, highest = float(logits.min(initial=0)), float(logits.max(initial=0))
    sums = logits.sum(1)
    share = len(logits) >= LEAST_ROWS and lowest >= 0 and highest > 0
    within = share and highest <= 1
    shares = share and bool(np.ptp(sums) <= 1e-3 * sums.max())
    if within or shares:
        what = f"add up to {sums.mean():.4g} in every row" if shares else "lie all in [0, 1]"
        yield Note(
            f"the teacher's outputs {what}: they are probabilities and not logits, so that the "
            "probabilities that are made of them are too even, and students learn little from "
            "them. Likely it ends in a softmax or sigmoid in a form that cannot be taken off, such "
            "as a mean over several networks: export it without that ending",
            warning=True,
            name="teacher-gives-probabilities",
        )


def _stated(manifest: TeacherManifest) -> tuple[str, float] | None:
    """The lowest accuracy that the JSON states for rows beyond the training ones, with its part."""
    unseen = {
        part: value
        for part, value in manifest.accuracy.items()
        if not part.lower().startswith(SEEN)
    }
    return min(unseen.items(), key=lambda item: item[1]) if unseen else None


def _far_below(found: Standing, stated: float) -> bool:
    by_chance = float(binom.cdf(found.right, found.rows, stated))
    return found.accuracy <= stated - FAR and by_chance < ODDS


def _cause(mend: Mend | None) -> str:
    if mend is not None:
        return mend.told()
    return (
        "Neither another order of the classes nor another mean and std nor another order of the "
        "channels mends it: likely these are other data, or other classes, than it was trained "
        "for, or its weights are not those of the trained network"
    )


def _at_chance(found: Standing, mend: Mend | None) -> BadInput:
    return BadInput(
        "the teacher's answers have nothing to do with the labels",
        value=f"{found.accuracy:.1%} right of {found.rows:,} validation rows",
        bound=f"clearly more than chance, {found.chance:.1%} here",
        remedy=_cause(mend).rstrip(".") + ".",
    )
