"""Whether the parts of a data set can say anything: enough rows of every class, alike in all parts.

Each check gives a remark with a name where something cannot be right, with likely causes and what
to do, and nothing on sound data, however small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.source import Images, Remark, Rows
from teachers.data.splits import LEAST_ROWS_A_CLASS, HeldOut

#: below this share of the training rows' classes, unseen rows say too little to begin with
LEAST_COVER = 0.5
#: half the sum of differences of class shares that is gross, if chance cannot explain it
FAR_SHARES = 0.25
#: standard deviations of a chi-square statistic that chance does not reach
UNLIKELY = 6.0
#: differences of brightness that are gross: on the scale of 0 to 1, and between single images
FAR_LEVEL = 0.06
FAR_SPREADS = 1.0
SAMPLE = 2000
#: most classes in a message
SHOWN = 5


def check_unseen(labels: Rows, own_rows: int, unseen: Rows | None, names: Sequence[str]) -> None:
    """Refuse rows, named as unseen by the teacher, that lack most of what the training rows have.

    Raises:
        BadInput: classes that make up half of the training table, or more, have no such row.
    """
    if unseen is None or not len(unseen):
        return
    shares = np.bincount(labels[:own_rows], minlength=int(labels.max()) + 1) / max(1, own_rows)
    lacking = np.flatnonzero(
        (np.bincount(labels[unseen], minlength=len(shares)) == 0) & (shares > 0)
    )
    # a few rows of many classes lack some by chance
    expected = shares[lacking] * len(unseen)
    if shares[lacking].sum() < LEAST_COVER or expected.sum() < LEAST_ROWS_A_CLASS:
        return
    cause = "They may be the rows of one split of another copy of these data."
    if (np.diff(labels[:own_rows]) >= 0).all():
        cause = (
            "The rows stand class by class, as in a folder, so the last are of the last classes."
        )
    raise BadInput(
        "the rows that the teacher has not seen lack most classes",
        value=f"{len(unseen):,} rows of {_named(np.unique(labels[unseen]), names)}, none of "
        f"{_named(lacking, names)}",
        bound="rows of every class",
        remedy=f"{cause} Name them as 'N per class', as a folder or as a list of files, or say "
        "--teacher-unseen none.",
    )


def part_remarks(
    images: Images, labels: Rows, held: HeldOut, names: Sequence[str]
) -> Iterator[Remark]:
    """What cannot be right about parts, by name; ``images`` are looked at a sample at a time."""
    parts = {
        "training": held.rest,
        "validation": held.validation,
        "calibration": held.calibration,
        "test": held.test,
    }
    few = _few_rows(labels, parts, names)
    if few:
        yield Remark(few, "few-rows-per-class")
    judges = {
        "test": held.test,
        "validation and calibration": np.concatenate([held.validation, held.calibration]),
    }
    told = [
        f"{name} rows ({reason})"
        for name, rows in judges.items()
        if (reason := _other_shares(labels[held.rest], labels[rows], names))
    ]
    if told:
        yield Remark(
            f"the classes are not as frequent as among the training rows in {' and in '.join(told)}"
            ": figures there are of another mix than the student learns; it may be meant, or rows "
            "may be sorted, or splits made by hand: shuffle before splitting",
            "class-shares-differ",
        )
    ours = _levels(images, held.rest)
    told = [
        f"{name} rows ({reason})"
        for name, rows in judges.items()
        if (reason := _other_levels(ours, _levels(images, rows)))
    ]
    if told:
        yield Remark(
            f"the images look other than the training rows in {' and in '.join(told)}: they may be "
            "inverted, scaled or stored otherwise, or of another camera; bring all of them by the "
            "same steps",
            "brightness-differs",
        )


def _few_rows(labels: Rows, parts: Mapping[str, Rows], names: Sequence[str]) -> str:
    """Parts in which classes are missing, or have too few rows for figures to mean anything.

    Fewer than five a class are too few, in the mean or, where that is not by chance, of one class:
    chance makes some classes of small data a little rarer.
    """
    classes = len(names) or int(labels.max()) + 1
    told = []
    for part, rows in parts.items():
        counts = np.bincount(labels[rows], minlength=classes)
        mean = len(rows) / classes
        # where classes have twenty rows, chance leaves none with four
        few = 1 if mean < 4 * LEAST_ROWS_A_CLASS else LEAST_ROWS_A_CLASS - 1
        lacking, rare = np.flatnonzero(counts == 0), np.flatnonzero(counts <= few)
        if len(lacking):
            told.append(f"{part} ({len(rows):,} rows) lacks {_named(lacking, names)}")
        elif mean < LEAST_ROWS_A_CLASS:
            told.append(f"{part} has {mean:.1f} rows a class")
        elif len(rare):
            told.append(f"{part} has {few} rows or fewer of {_named(rare, names)}")
    if not told:
        return ""
    return (
        f"too few rows: {', '.join(told)}. Figures there mean little, and what they choose is "
        f"chance: bring more rows (at least {LEAST_ROWS_A_CLASS} a class in every part), "
        "or name more as unseen by the teacher"
    )


def _other_shares(ours: Rows, theirs: Rows, names: Sequence[str]) -> str:
    """How classes are more or less frequent, where it is grossly so and not by chance."""
    classes = int(max(ours.max(), theirs.max())) + 1
    one, other = (np.bincount(labels, minlength=classes) for labels in (ours, theirs))
    shares, found = one / len(ours), other / len(theirs)
    distance = np.abs(shares - found).sum() / 2
    there = one + other > 0
    ratio = np.sqrt(len(theirs) / len(ours))
    squares = (one[there] * ratio - other[there] / ratio) ** 2 / (one + other)[there]
    freedom = max(1, int(there.sum()) - 1)
    unlikely = squares.sum() - freedom > UNLIKELY * np.sqrt(2 * freedom)
    if distance <= FAR_SHARES or not unlikely:
        return ""
    most = int(np.argmax(np.abs(shares - found)))
    return f"{_named([most], names)} {found[most]:.0%} in place of {shares[most]:.0%}"


def _levels(images: Images, rows: Rows) -> NDArray[np.float64]:
    """Of a sample of rows, n×2C: every channel's mean and spread in each image, from 0 to 1."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
    found = []
    for row in chosen:
        pixels = np.asarray(images[row], dtype=np.float64).reshape(-1, images.shape[-1]) / 255
        found.append(np.concatenate([pixels.mean(0), pixels.std(0)]))
    return np.array(found)


def _other_levels(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    """How brightness or contrast differ, where that is more than images differ from each other."""
    means, found = ours.mean(0), theirs.mean(0)
    spread = np.sqrt((ours.var(0) + theirs.var(0)) / 2)
    far = (np.abs(means - found) > FAR_LEVEL) & (np.abs(means - found) > FAR_SPREADS * spread)
    if not far.any():
        return ""
    most = int(np.argmax(np.where(far, np.abs(means - found), 0)))
    kind = "brightness" if most < ours.shape[1] // 2 else "contrast"
    return f"{kind} {found[most]:.2f} in place of {means[most]:.2f}"


def _named(classes: Sequence[int] | Rows, names: Sequence[str]) -> str:
    said = [repr(names[label]) if names else f"class {label}" for label in classes[:SHOWN]]
    more = f" and {len(classes) - SHOWN} more classes" if len(classes) > SHOWN else ""
    return ", ".join(said) + more
