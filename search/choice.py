"""Which candidate becomes the student: the best by reward among those that keep every limit."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import BadInput
from search.answers import Telling
from search.candidates import best
from search.events import Note, Stage
from search.latency import Measuring
from search.ledger import Record
from search.space import Space

#: candidates that are measured before the search is given up as too slow
MOST_MEASURED = 8
#: share of the limit that the winner may take where another can: two measurements differ
MARGIN = 0.97


def choose(
    space: Space, records: Sequence[Record], measure: Measuring | None = None
) -> Telling[Record]:
    """The winner of a search.

    Args:
        space: with the job's limits.
        records: of the ledger.
        measure: times a candidate as it would ship. Where there is a limit on latency, the winner
            keeps it when it is measured, not only by prediction; None trusts the prediction.

    Raises:
        BadInput: every candidate failed, or none keeps the limit on latency.
    """
    least = space.limits.min_accuracy
    winner = best(records, least)
    if winner is None:
        raise BadInput(
            "every candidate failed to train",
            value=[record.reason for record in records if record.failed][-1],
            bound="at least one student",
            remedy="Lower --learning-rate in a new run, or raise the limits on cost.",
        )
    if space.limits.max_ms is not None and measure is not None:
        winner = yield from _fast_enough(space, records, space.limits.max_ms, measure)
    if least is not None and winner.accuracy < least:
        nearest = max(record.accuracy for record in records if record.whole)
        yield Note(
            f"no candidate that may ship keeps --max-drop, which asks for {least:.2%} on "
            f"validation: the nearest of all has {nearest:.2%} after its short training. The best "
            f"by reward is taken, at {winner.accuracy:.2%}; its full training may win back the "
            "rest",
            warning=True,
        )
    return winner


def _fast_enough(
    space: Space, records: Sequence[Record], limit: float, measure: Measuring
) -> Telling[Record]:
    """The best that keeps the limit when it is timed.

    What is measured over what was predicted corrects the prediction for the next one, so a
    candidate that would hardly keep the limit is not even built.
    """
    yield Stage("latency", f"the winner is timed as it would ship, against {limit:g} ms")
    left, ratio = list(records), 1.0
    found: list[float] = []
    close: list[Record] = []
    while len(found) < MOST_MEASURED:
        left = [record for record in left if ratio * space.ms(record.actions) <= limit]
        winner = best(left, space.limits.min_accuracy)
        if winner is None:
            break
        predicted = space.ms(winner.actions)
        ms = measure(winner.actions)
        said = f"predicted {predicted:.3g} ms, measured {ms:.3g} ms"
        if ms <= MARGIN * limit:
            yield Note(f"{said}: within --max-ms {limit:g}")
            return winner
        if ms <= limit:
            close.append(winner)
        found.append(ms)
        # several that were too slow: never less careful than the last one taught
        ratio = max(ratio, ms / predicted)
        left.remove(winner)
        yield Note(
            f"{said}, more than --max-ms {limit:g} with a margin of {1 - MARGIN:.0%}: predictions "
            f"count {ratio:.2f} times from now on, and the next best is tried",
            warning=True,
        )
    if close:
        yield Note(f"the best within --max-ms {limit:g} is taken, without the margin", warning=True)
        return close[0]
    raise BadInput(
        "no candidate keeps the limit on latency when it is measured",
        value=f"--max-ms {limit:g}; measured {', '.join(f'{ms:.3g}' for ms in found)} ms",
        bound="a student that is as fast on this machine",
        remedy=f"Search anew with --max-ms {1.1 * limit:.2g} or more, or with a profile that was "
        "timed while the machine had nothing else to do.",
    )
