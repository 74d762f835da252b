"""Who takes part in the last round: the best by reward that keep every limit on cost, and the
plain students, so that what ships is never worse than what anybody would have tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from edge.errors import BadInput
from search.job.events import Note, Stage
from search.ledger.ledger import Record
from search.preparation.latency import Measuring
from search.preparation.teacher_outputs import Telling
from search.scheduling.trial_state import ranked
from search.space.baselines import BASELINES
from search.space.space import Space

#: candidates that may be measured and found too slow before the search is given up
MOST_MEASURED = 8
#: share of the limit that the winner may take where another can: two measurements differ
MARGIN = 0.97


def choose(
    space: Space,
    records: Sequence[Record],
    count: int = 1,
    measure: Measuring | None = None,
    plain: Mapping[str, str] | None = None,
) -> Telling[list[Record]]:
    """The finalists of a search, best first.

    The limit on accuracy is not looked at: a short training says little of what the full one
    reaches. But where there is one, the most accurate candidate takes part as well.

    Args:
        space: with the job's limits.
        records: of the ledger.
        count: finalists, if there are so many.
        measure: times a candidate as it would ship. Where there is a limit on latency, a finalist
            keeps it when it is measured, not only by prediction; None trusts the prediction.
        plain: key of a plain student → its origin, as of :mod:`search.space.baselines`. The uniform
            and the largest one, and the best of the others, take part beside the finalists.

    Raises:
        BadInput: every candidate failed, or none keeps the limits on cost.
    """
    whole = ranked(records)
    if not whole:
        raise BadInput(
            "every candidate failed to train",
            value=[record.reason for record in records if record.failed][-1],
            bound="at least one student",
            remedy="Lower --learning-rate in a new run, or raise the limits on cost.",
        )
    # those of another run, ranked anew, were distilled under other limits
    left = [record for record in whole if space.fits(record.actions)]
    if not left:
        raise BadInput(
            "no candidate keeps the limits on cost",
            value=f"{len(whole)} candidates, {space.limits.options()}",
            bound="at least one that does",
            remedy="Raise the limits, or search anew with them.",
        )
    plain = plain or {}
    rivals = _rivals(left, plain)
    searched = [record for record in left if record.key not in plain] or left
    surest = sorted(left, key=lambda record: -record.accuracy)
    if space.limits.max_ms is None or measure is None:
        found = searched[:count]
        if space.limits.min_accuracy is not None:
            found += [] if surest[0] in found else surest[:1]
        return found + [record for record in rivals if record not in found]
    limit = space.limits.max_ms
    yield Stage("latency", f"the best are timed as they would ship, against {limit:g} ms")
    found = yield from _fast_enough(space, left, count, limit, measure)
    found += [
        record
        for record in rivals
        if record not in found and measure(record.actions) <= MARGIN * limit
    ]
    if space.limits.min_accuracy is not None:
        with suppress(BadInput):  # they are fast enough whom the reward chose
            fast = yield from _fast_enough(space, surest, 1, limit, measure)
            found += [] if fast[0] in found else fast
    return found


def _rivals(records: Sequence[Record], plain: Mapping[str, str]) -> list[Record]:
    """The plain students of the last round, of records by reward, best first."""
    there = [record for record in records if record.key in plain]
    named = [record for record in there if plain[record.key] in BASELINES]
    others = [record for record in there if record not in named]
    return named + others[:1]


def _fast_enough(
    space: Space, left: list[Record], count: int, limit: float, measure: Measuring
) -> Telling[list[Record]]:
    """The best that keep the limit when they are timed.

    What is measured over what was predicted corrects the prediction for the next one, so a
    candidate that would hardly keep the limit is not even built.
    """
    ratio, found, close = 1.0, list[Record](), list[Record]()
    slow: list[float] = []
    while len(found) < count and len(slow) < MOST_MEASURED:
        left = [record for record in left if ratio * space.ms(record.actions) <= limit]
        if not left:
            break
        candidate = left.pop(0)
        predicted, ms = space.ms(candidate.actions), measure(candidate.actions)
        said = f"predicted {predicted:.3g} ms, measured {ms:.3g} ms"
        if ms <= MARGIN * limit:
            yield Note(f"{said}: within --max-ms {limit:g}")
            found.append(candidate)
            continue
        if ms <= limit:
            close.append(candidate)
        slow.append(ms)
        # several that were too slow: never less careful than the last one taught
        ratio = max(ratio, ms / predicted)
        yield Note(
            f"{said}, more than --max-ms {limit:g} with a margin of {1 - MARGIN:.0%}: predictions "
            f"count {ratio:.2f} times from now on, and the next best is tried",
            warning=True,
        )
    if found:
        return found
    if close:
        yield Note(f"the best within --max-ms {limit:g} is taken, without the margin", warning=True)
        return close[:1]
    raise BadInput(
        "no candidate keeps the limit on latency when it is measured",
        value=f"--max-ms {limit:g}; measured {', '.join(f'{ms:.3g}' for ms in slow)} ms",
        bound="a student that is as fast on this machine",
        remedy=f"Search anew with --max-ms {1.1 * limit:.2g} or more, or with a profile that was "
        "timed while the machine had nothing else to do.",
    )
