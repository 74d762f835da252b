"""How fast accuracies rise in this job: a few pilot students tell before the search.

What a short training says of a full one depends on the data: handwritten digits are learnt to the
teacher's accuracy within a few epochs by nearly every student, photographs are not. So the exponent
of :mod:`search.expectation` is measured where it is needed. Pilots are students of one width, from
narrow to wide within the limits. Each is trained as a candidate is and examined after the first
and the last epoch; with gaps d = ln(e / e_T) it shows

    g = −ln(d_last / d_first) / ln(epochs),

and the median of the pilots is the job's. They are no candidates: no sampler proposed them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from search.answers import Telling
from search.evaluation import Evaluation, Evaluator, Job, next_of
from search.events import Note, Stage
from search.expectation import Expectation
from search.space import Actions, Space

PILOTS = 4
#: where pilots cannot tell: between what photographs and what digits showed
USUAL_GAIN = 0.25
#: a gap below this (an error of 1.05 times the teacher's) is chance on the rows that there are
LEAST_GAP = math.log(1.05)
MOST_GAIN = 2.0


def choose_pilots(space: Space, count: int = PILOTS) -> list[Actions]:
    """Students of one width within the limits, at most ``count``, spread over the sizes."""
    found: dict[str, Actions] = {}
    for level in range(1, len(space.moves.pool)):
        choices = [np.flatnonzero(mask) for mask in space.masks]
        even = tuple(int(legal[np.abs(legal - level).argmin()]) for legal in choices)
        actions = space.shrunk(even)
        found.setdefault(space.key(actions), actions)
    ordered = sorted(found.values(), key=lambda actions: space.cost(actions).bytes)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    return [ordered[round(place)] for place in places]


def fly(space: Space, evaluator: Evaluator, epochs: int, count: int = PILOTS) -> Telling[float]:
    """Train the pilots and measure g.

    Args:
        space: with an expectation, whose own g does not matter.
        evaluator: trains candidates of the job.
        epochs: of a candidate's proxy.
        count: of pilots.
    """
    assert space.expectation is not None
    if epochs < 2:
        yield Note(
            f"after a single epoch it cannot be told how accuracies rise: --proxy-gain {USUAL_GAIN}"
        )
        return USUAL_GAIN
    chosen = choose_pilots(space, count)
    yield Stage("pilots", f"{len(chosen)} students show how fast accuracies rise")
    first: dict[Actions, Evaluation] = {}
    last: dict[Actions, Evaluation] = {}
    for actions in chosen:
        evaluator.submit(Job(actions, 1))
    while len(last) < len(chosen):
        news = next_of(evaluator)
        if not isinstance(news, Evaluation):
            continue
        if news.reason or news.actions in first:
            last[news.actions] = news
        else:
            first[news.actions] = news
            evaluator.submit(Job(news.actions, epochs, news.state))
    pairs = [
        (first[actions].accuracy, last[actions].accuracy)
        for actions in chosen
        if not last[actions].reason
    ]
    gain = gain_of(pairs, epochs, space.expectation)
    shown = ", ".join(f"{one:.1%} to {other:.1%}" for one, other in pairs)
    yield Note(f"accuracies after epoch 1 and {epochs}: {shown}; --proxy-gain {gain:.2f}")
    return gain


def gain_of(pairs: Sequence[tuple[float, float]], epochs: int, expectation: Expectation) -> float:
    """g by the accuracies of pilots after the first and the last epoch, in [0, 2].

    A pilot that begins within a hair of its teacher shows nothing; without any other g is
    :data:`USUAL_GAIN`.
    """
    found = []
    for first, last in pairs:
        before, after = expectation.gap(first), expectation.gap(last)
        if before > 2 * LEAST_GAP:
            found.append(-math.log(max(after, LEAST_GAP) / before) / math.log(epochs))
    if not found:
        return USUAL_GAIN
    return min(MOST_GAIN, max(0.0, statistics.median(found)))
