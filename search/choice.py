"""Which candidate becomes the student: the best by reward among those that keep every limit."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import BadInput
from search.answers import Telling
from search.events import Note
from search.ledger import Record
from search.loop import best
from search.preparation import Prepared


def choose(prepared: Prepared, records: Sequence[Record]) -> Telling[Record]:
    """The winner of a search.

    Raises:
        BadInput: every candidate failed.
    """
    least = prepared.space.limits.min_accuracy
    winner = best(records, least)
    if winner is None:
        raise BadInput(
            "every candidate failed to train",
            value=[record.reason for record in records if record.failed][-1],
            bound="at least one student",
            remedy="Lower --learning-rate in a new run, or raise the limits on cost.",
        )
    if least is not None and winner.accuracy < least:
        nearest = max(record.accuracy for record in records if record.whole)
        yield Note(
            f"no candidate keeps --max-drop {prepared.spec.max_drop:g}, which asks for "
            f"{least:.2%} on validation: the nearest has {nearest:.2%} after its short training. "
            f"The best by reward is taken, at {winner.accuracy:.2%}; its full training may yet "
            "win back the rest",
            warning=True,
        )
    return winner
