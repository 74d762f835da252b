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

UNSEEN_FORMS = "'last N', 'first N' or 'START:STOP' rows of the training table, 'all' or 'none'"


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


def parse_unseen(text: str | None, train_rows: int) -> Rows | None:
    """The training rows that the teacher never saw, or None where nobody says.

    Accepts "last 5000 rows of train.parquet", "last 5000", "first 5000", "START:STOP" (STOP
    excluded), "all", and "none" or None. BadInput for anything else and for rows outside the
    training table's ``train_rows``.
    """
    words = (text or "none").strip().lower()
    if words == "none":
        return None
    if words == "all":
        return np.arange(train_rows, dtype=np.int64)
    edge = re.fullmatch(r"(last|first)\s+([\d,_]+)(\s+rows)?(\s+of\s+\S+)?", words)
    span = re.fullmatch(r"(\d+)\s*:\s*(\d+)", words)
    if edge:
        count = int(re.sub(r"[,_]", "", edge[2]) or 0)
        start, stop = (train_rows - count, train_rows) if edge[1] == "last" else (0, count)
    elif span:
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


def hold_out(labels: Rows, train_rows: int, *, unseen: Rows | None, seed: int) -> HeldOut:
    """Cut validation, calibration and, where there is no test table, test.

    ``labels`` covers the whole data set; rows from ``train_rows`` on are the test table and, if
    there are any, all of the test part. With ``unseen`` the parts come from those rows alone and
    none of them is left in ``rest``; without, or where the teacher saw none of the training table,
    they are cut at random from all of it. Cuts are stratified by label and depend on ``seed``.
    """
    has_test = len(labels) > train_rows
    train = np.arange(train_rows, dtype=np.int64)
    if unseen is not None and len(unseen) < train_rows:
        pool, rest = unseen, np.setdiff1d(train, unseen)
        shares = UNSEEN_WITH_TEST if has_test else UNSEEN_WITHOUT_TEST
    else:
        pool, rest = train, np.empty(0, dtype=np.int64)
        shares = RANDOM_WITH_TEST if has_test else RANDOM_WITHOUT_TEST
    rng = np.random.default_rng([seed, 0])
    counts = [round(share * len(pool)) for share in shares]
    if len(rest):
        counts[0] = len(pool) - counts[1] - counts[2]
    validation, calibration, test, left = _cut(pool, labels, counts, rng)
    rest = np.sort(np.concatenate([rest, left]))
    if has_test:
        test = np.arange(train_rows, len(labels), dtype=np.int64)
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
) -> Parts:
    """Withhold the router part from the training rows; the others are for distillation.

    Its size is ``errors_wanted / error_rate``, so that about that many errors of the student are
    expected in it, but at least 50 rows or a tenth of the rows (whichever is more) and at most
    ``max_share`` of them. Stratified by label.
    """
    rows = len(held.rest)
    # Compared before dividing, because a tiny rate would overflow.
    enough = error_rate * rows > errors_wanted
    wanted = math.ceil(errors_wanted / error_rate) if enough else rows
    least = max(LEAST_ROUTER_ROWS, math.ceil(LEAST_ROUTER_SHARE * rows))
    size = min(max(wanted, least), max(1, int(max_share * rows)))
    rng = np.random.default_rng([seed, 1])
    router, distillation = _cut(held.rest, labels, [size], rng)
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
