"""The five parts of a data set, which share no row.

*distillation* teaches the student; *router* is withheld from it, so that the student's errors
there are honest; *validation* chooses student and router; *calibration* sets the threshold; *test*
is opened once. Validation, calibration and test come from rows that the teacher never saw wherever
those are known: on its own training rows a teacher is nearly always right, and every promise about
the pair would be too rosy there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.copies import Copies

Rows = NDArray[np.int64]

# How the rows that the teacher never saw are shared out, with and without a test table.
UNSEEN_WITH_TEST = (0.5, 0.5, 0.0)
UNSEEN_WITHOUT_TEST = (0.3, 0.3, 0.4)
# Shares of the training table where nobody names such rows: validation, calibration, test.
RANDOM_WITH_TEST = (0.1, 0.1, 0.0)
RANDOM_WITHOUT_TEST = (0.1, 0.1, 0.2)

LEAST_ROUTER_ROWS = 50
#: below so many training rows the router withholds at most such a share
ROUTER_SHARES, MOST_ROUTER_SHARE = ((4_000, 0.03), (12_000, 0.1), (30_000, 0.2)), 1 / 3
LEAST_ROUTER_SHARE = 0.1

# Validation and calibration have so many rows a class where the data allow, and take at most such
# a share of the rows they are cut from.
LEAST_ROWS_A_CLASS = 5
# And so many where they are taken from what the student learns from: of a class of thirty rows
# every one that is kept back costs it more than the figures win.
SPARED_ROWS_A_CLASS = 3
MOST_SHARE = 0.2
MOST_SHARE_OF_UNSEEN = 1 / 3

UNSEEN_FORMS = (
    "'last N', 'first N', 'N per class' or 'START:STOP' rows of the training table, 'all' or 'none'"
)

_EDGE = re.compile(r"(last|first)\s+([\d,_]+)(\s*%)?(\s+rows)?(\s+of\s+\S.*)?")
_SPAN = re.compile(r"(\d+)\s*:\s*(\d+)")
_PER_CLASS = re.compile(
    r"(?:the\s+)?(?:(last|first)\s+)?([\d,_]+)(\s*%)?(?:\s+rows|\s+images)?"
    r"\s+(?:per|of\s+every|of\s+each|a|each|every)\s+class"
)


@dataclass(frozen=True)
class HeldOut:
    """Rows held out before a student exists, and ``rest``, the training rows that remain.

    Sorted row numbers into the data set. ``teacher_unseen`` says that validation and calibration
    are rows that the teacher never saw; where it is False every figure there carries a warning.
    """

    validation: Rows
    calibration: Rows
    test: Rows
    rest: Rows
    teacher_unseen: bool


@dataclass(frozen=True)
class Parts:
    """The five parts as sorted row numbers into the data set; ``teacher_unseen`` as in HeldOut."""

    distillation: Rows
    router: Rows
    validation: Rows
    calibration: Rows
    test: Rows
    teacher_unseen: bool

    def counts(self) -> dict[str, int]:
        """Part → number of rows."""
        return {
            field.name: len(getattr(self, field.name))
            for field in fields(self)
            if field.name != "teacher_unseen"
        }


def is_spelled(text: str) -> bool:
    """Whether rows are named by words and numbers, as :func:`parse_unseen` reads them."""
    words = text.strip().lower()
    forms = (_EDGE, _SPAN, _PER_CLASS)
    return words in ("", "none", "all") or any(form.fullmatch(words) for form in forms)


def parse_unseen(text: str | None, train_rows: int, labels: Rows | None = None) -> Rows | None:
    """The training rows that the teacher never saw, or None where nobody says.

    Accepts "last 5000 rows of train.parquet", "last 5000", "first 10%", "START:STOP" (STOP
    excluded), "50 per class" (the last 50 of every class, given the ``labels`` of the table),
    "all", and "none" or None. BadInput for anything else and for rows outside the training table's
    ``train_rows``.
    """
    words = (text or "none").strip().lower()
    if words == "none":
        return None
    if words == "all":
        return np.arange(train_rows, dtype=np.int64)
    if (each := _PER_CLASS.fullmatch(words)) and labels is not None:
        return _per_class(each, labels[:train_rows], str(text))
    if edge := _EDGE.fullmatch(words):
        count = _count(edge[2], edge[3], train_rows)
        start, stop = (train_rows - count, train_rows) if edge[1] == "last" else (0, count)
    elif span := _SPAN.fullmatch(words):
        start, stop = int(span[1]), int(span[2])
    else:
        raise BadInput(
            "rows unseen by the teacher are not understood",
            value=repr(text),
            bound=UNSEEN_FORMS,
            remedy="Correct it in the teacher's JSON or on the command line.",
        )
    if not 0 <= start < stop <= train_rows:
        raise BadInput(
            "rows unseen by the teacher lie outside the training table",
            value=repr(text),
            bound=f"at least one of its {train_rows} rows, and none beyond",
            remedy="Correct it, or take the data that the teacher's owner split.",
        )
    return np.arange(start, stop, dtype=np.int64)


def _count(number: str, per_cent: str | None, rows: int) -> int:
    count = int(re.sub(r"[,_]", "", number) or 0)
    return round(count * rows / 100) if per_cent else count


def _per_class(words: re.Match[str], labels: Rows, text: str) -> Rows:
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = _count(words[2], words[3], len(rows))
        if not 0 < count <= len(rows):
            raise BadInput(
                "a class has too few rows for those that the teacher never saw",
                value=f"{text!r}, class {label} with {len(rows)} training rows",
                bound=f"1 to {len(rows)} rows of it",
                remedy="Name fewer, or take the data that the teacher's owner split.",
            )
        chosen.append(rows[:count] if words[1] == "first" else rows[-count:])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def hold_out(
    labels: Rows,
    train_rows: int,
    *,
    unseen: Rows | None,
    seed: int,
    copies: Copies | None = None,
    least: int = LEAST_ROWS_A_CLASS,
    spared: int = SPARED_ROWS_A_CLASS,
) -> HeldOut:
    """Cut validation, calibration and, where there is no test table, test.

    ``labels`` covers the whole data set; rows from ``train_rows`` on are the test table and, if
    there are any, all of the test part. With ``unseen`` the parts come from those rows alone and
    none of them is left in ``rest``; without, or where the teacher saw none of the training table,
    they are cut at random from all of it. Rows of the test table that are named as ``unseen`` serve
    as any others of these. Cuts are stratified by label and depend on ``seed``.

    Of rows with the same pixels, as ``copies`` finds them, one stands for all, which stay in its
    part. Validation and calibration have ``least`` rows a class where the rows allow, and
    ``spared`` where they are cut from what the student learns from.
    """
    train = np.arange(train_rows, dtype=np.int64)
    given = np.arange(train_rows, len(labels), dtype=np.int64)
    given = given if unseen is None else np.setdiff1d(given, unseen)
    has_test = len(given) > 0
    if unseen is not None and not np.isin(train, unseen).all():
        pool, rest = unseen, np.setdiff1d(train, unseen)
        shares = UNSEEN_WITH_TEST if has_test else UNSEEN_WITHOUT_TEST
        most = MOST_SHARE_OF_UNSEEN
    else:
        pool = train if unseen is None else np.union1d(train, unseen)
        rest = np.empty(0, dtype=np.int64)
        shares = RANDOM_WITH_TEST if has_test else RANDOM_WITHOUT_TEST
        most, least = MOST_SHARE, min(least, spared)
    everyone = pool
    if copies is not None:
        seen = len(rest) > 0
        pool, rest, given = copies.apart(pool, rest, given, teacher_saw_rest=seen)
        everyone, pool = pool, copies.alone(pool)
    rng = np.random.default_rng([seed, 0])
    counts = [round(share * len(pool)) for share in shares]
    if len(rest):
        counts[0] = len(pool) - counts[1] - counts[2]
    enough = min(least * len(np.unique(labels)), int(most * len(pool)))
    for part in (0, 1):
        short = max(0, enough - counts[part])
        counts[part] += short
        if len(rest):
            counts[2] -= short
    validation, calibration, test, left = _cut(pool, labels, counts, rng)
    if copies is not None:
        validation, calibration, test, left = (
            copies.whole(part, everyone) for part in (validation, calibration, test, left)
        )
    rest = np.sort(np.concatenate([rest, left]))
    if has_test:
        test = given
    parts = (("validation", validation), ("calibration", calibration), ("test", test))
    for name, rows in (*parts, ("training", rest)):
        if len(rows) == 0:
            raise BadInput(
                f"too few rows: none is left for the {name} part",
                value=f"{train_rows} training rows, {len(pool)} of them to cut from",
                bound="at least one row in every part",
                remedy="Bring more rows, or fewer that count as unseen by the teacher.",
            )
    return HeldOut(validation, calibration, test, rest, teacher_unseen=unseen is not None)


def router_share(rows: int) -> float:
    """Most of so many training rows that the router may withhold from the student.

    Every row that it withholds costs a student that learns from few more than a router wins by it.
    """
    return next((share for most, share in ROUTER_SHARES if rows < most), MOST_ROUTER_SHARE)


def withhold_router(
    held: HeldOut,
    labels: Rows,
    *,
    error_rate: float,
    seed: int,
    errors_wanted: int = 100,
    max_share: float = 1 / 3,
    copies: Copies | None = None,
) -> Parts:
    """Withhold the router part from the training rows; the others are for distillation.

    Its size is ``errors_wanted / error_rate``, so that about that many errors of the student are
    expected in it, but at least 50 rows or a tenth of the rows (whichever is more) and at most
    ``max_share`` of them. Stratified by label; ``copies`` of a row stay in its part.
    """
    rows = len(held.rest)
    # Compared before dividing, because a tiny rate would overflow.
    enough = error_rate * rows > errors_wanted
    wanted = math.ceil(errors_wanted / error_rate) if enough else rows
    least = max(LEAST_ROUTER_ROWS, math.ceil(LEAST_ROUTER_SHARE * rows))
    size = min(max(wanted, least), max(1, int(max_share * rows)))
    rng = np.random.default_rng([seed, 1])
    pool = held.rest if copies is None else copies.alone(held.rest)
    router, distillation = _cut(pool, labels, [min(size, max(1, int(max_share * len(pool))))], rng)
    if copies is not None:
        router, distillation = (copies.whole(part, held.rest) for part in (router, distillation))
    if len(router) == 0 or len(distillation) == 0:
        raise BadInput(
            "too few training rows to withhold a part for the router",
            value=f"{rows} rows",
            bound=f"at least {math.ceil(1 / max_share)}",
            remedy="Bring more rows.",
        )
    return Parts(
        distillation=distillation,
        router=router,
        validation=held.validation,
        calibration=held.calibration,
        test=held.test,
        teacher_unseen=held.teacher_unseen,
    )


def _cut(pool: Rows, labels: Rows, counts: list[int], rng: np.random.Generator) -> list[Rows]:
    """Cut ``pool`` into parts of ``counts`` rows and the remainder, each sorted.

    Every class is spread evenly over the whole order that is cut, so each part has its share of
    each class to within a row or so, whatever the sizes, and a class of one row is no special case.
    """
    shuffled = rng.permutation(pool)
    order = np.argsort(labels[shuffled], kind="stable")
    grouped = shuffled[order]
    _, starts, sizes = np.unique(labels[grouped], return_index=True, return_counts=True)
    rank = np.arange(len(grouped)) - np.repeat(starts, sizes)
    # Row i of a class of n stands at (i + u) / n of the way; u, drawn per class, keeps rare
    # classes from all falling into the same part.
    place = (rank + np.repeat(rng.random(len(sizes)), sizes)) / np.repeat(sizes, sizes)
    spread = grouped[np.argsort(place, kind="stable")]
    cuts = np.cumsum(counts)
    return [np.sort(part) for part in np.split(spread, cuts)]
