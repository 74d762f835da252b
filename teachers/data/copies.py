"""Rows with the same pixels: found after decoding, and kept in one part.

A copy of a training row in the test part is a row that both networks have learnt from: figures
there would be too rosy by its share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from edge.errors import BadInput
from teachers.data.image_file import block_rows
from teachers.data.source import Images, Remark, Rows

#: shares of the rows above which copies are a warning: of all rows, and of the rows of a table
MANY = 0.2
MANY_ACROSS = 0.1
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Copies:
    """Which rows have the same pixels.

    ``first``: N, of every row the first row with its pixels, which may be the row itself.
    ``claimed``: unseen rows were brought as pictures of their own, so that training rows that are
    copies of them are unseen too.
    """

    first: Rows
    claimed: bool = False

    @property
    def surplus(self) -> int:
        """How many rows repeat an earlier one."""
        return int((self.first != np.arange(len(self.first))).sum())

    def alone(self, rows: Rows) -> Rows:
        """One of ``rows`` for each set of copies: those that nobody repeats, and the first."""
        _, places = np.unique(self.first[rows], return_index=True)
        return np.sort(rows[places])

    def of(self, rows: Rows, among: Rows) -> Rows:
        """Those of ``among`` whose pixels some of ``rows`` have too, themselves included."""
        return among[np.isin(self.first[among], self.first[rows])]

    def apart(
        self, pool: Rows, rest: Rows, given: Rows, *, teacher_saw_rest: bool
    ) -> tuple[Rows, Rows, Rows]:
        """Rows to cut from, training rows, and the test table, so that no two share pixels.

        Training rows keep their copies: what the teacher has learnt from is honest nowhere else.
        Only where the unseen rows are ``claimed`` are training rows with their pixels given up.

        Raises:
            BadInput: every row of the test table, or every unseen row, is a copy.
        """
        if teacher_saw_rest and self.claimed:
            rest = np.setdiff1d(rest, self.of(pool, rest))
        kept = np.setdiff1d(pool, self.of(rest, pool))
        learnt = rest if teacher_saw_rest else kept
        tested = np.setdiff1d(given, self.of(learnt, given))
        if teacher_saw_rest:
            kept = np.setdiff1d(kept, self.of(tested, kept))
        for name, before, after in (
            ("the test table", given, tested),
            ("the rows that the teacher has not seen", pool, kept),
        ):
            if len(before) and not len(after):
                raise BadInput(
                    f"{name} are copies of other rows, pixel for pixel"
                    if name.startswith("the rows")
                    else f"{name} is a copy of other rows, pixel for pixel",
                    value=f"{len(before):,} rows, none of its own",
                    bound="pictures that stand in no other part",
                    remedy="Remove the copies; without such rows, some of the training rows serve.",
                )
        return kept, rest, tested

    def whole(self, rows: Rows, among: Rows) -> Rows:
        """``rows`` with all their copies in ``among``, sorted."""
        return np.sort(self.of(rows, among))

    def remark(
        self, labels: Rows, test_rows: int, unseen_rows: int, left_out: Rows
    ) -> Remark | None:
        """What is told of the copies, by a name where they are many; None where there are none.

        ``test_rows`` and ``unseen_rows`` are how many there were, ``left_out`` the rows that stand
        in no part because their copies stand in another.
        """
        if not self.surplus:
            return None
        share = self.surplus / len(self.first)
        text = (
            f"{self.surplus:,} of {len(self.first):,} images ({share:.1%}) repeat another one "
            "exactly: copies stay together in one part"
        )
        tested = int((left_out >= len(labels) - test_rows).sum())
        others = len(left_out) - tested
        if len(left_out):
            whose = [
                f"{count:,} of the {rows:,} {what}"
                for count, rows, what in (
                    (tested, test_rows, "rows of the test table"),
                    (others, unseen_rows or len(labels) - test_rows, "other rows"),
                )
                if count
            ]
            text += f", and {' and '.join(whose)} are left out for it"
        twisted = len(np.unique(self.first[labels != labels[self.first]]))
        if twisted:
            text += f"; {twisted:,} images stand under two labels"
        many = (
            share > MANY
            or tested > MANY_ACROSS * test_rows
            or others > MANY_ACROSS * (unseen_rows or len(labels))
        )
        if not many:
            return Remark(text)
        text += (
            ". Rows may have been copied from one split into another, or multiplied to balance "
            "classes; figures rest on fewer images than there are rows"
        )
        return Remark(text, "duplicates")


def find_copies(images: Images, *, claimed: bool = False) -> Copies:
    """Compare all images, uint8 N×H×W×C, by a hash of their pixels, some megabytes at a time."""
    digests = np.empty((len(images), DIGEST_BYTES), dtype=np.uint8)
    step = block_rows(images.shape[1:])
    for start in range(0, len(images), step):
        for row, image in enumerate(np.ascontiguousarray(images[start : start + step]), start):
            digest = hashlib.blake2b(image.data, digest_size=DIGEST_BYTES).digest()
            digests[row] = np.frombuffer(digest, dtype=np.uint8)
    keys = digests.view(f"V{DIGEST_BYTES}").ravel()
    _, places, groups = np.unique(keys, return_index=True, return_inverse=True)
    return Copies(places[groups].astype(np.int64), claimed)
