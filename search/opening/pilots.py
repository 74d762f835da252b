"""The plain students of a job, trained before the search: its first candidates and its yardstick.

They settle three things that depend on the data, and that nobody should have to guess:

- whether students that have no normalisation learn better with a batch norm for the time of their
  training (:mod:`envs.compression.training_norms`): one of them is trained both ways;
- how long a proxy has to be before it is more than chance;
- how fast accuracies rise from a proxy to a full training (:mod:`search.space.learning_curve`): two
  of them are trained in full, and with gaps d = ln(e / e_T) each shows g = −ln(d_full / d_proxy) /
  ln(images of the full training / images of the proxy).

They stand in the ledger and in the budget as all other candidates, and may win.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from edge.errors import BadInput
from envs.compression.training_norms import bare_convolutions
from search.execution.evaluation import Evaluation, Evaluator, Job, next_of
from search.job.events import CandidateRunning, Note, Stage
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.space.baselines import plain_students
from search.space.learning_curve import Expectation
from search.space.space import Actions, Space

#: where the plain students cannot tell: between what photographs and what digits showed
USUAL_GAIN = 0.25
#: a gap below this (an error of 1.05 times the teacher's) is chance on the rows that there are
LEAST_GAP = math.log(1.05)
MOST_GAIN = 2.0
#: share of its gap that a student is expected to keep at least, so that two different proxies are
#: never expected to end alike
LEAST_LEFT = 0.3
#: share of the budget that plain students may take
MOST_OF_BUDGET = 1 / 3
#: proxies at chance are made so many times as long, so often
LENGTHENED, LENGTHENINGS = 3, 2

#: an evaluator that trains proxies as a job is prepared; whoever asks closes it
Evaluators = Callable[[Prepared], Evaluator]
#: whether no more plain students are to be trained, by those that were
Enough = Callable[[Collection[Evaluation]], bool]


@dataclass(frozen=True)
class Flown:
    """What the proxies of the plain students settled.

    Attributes:
        prepared: the job, with its plan and its normalisation decided.
        evaluations: of the plain students, by origin.
    """

    prepared: Prepared
    evaluations: Mapping[str, Evaluation]


def pilots_of(space: Space, budget: int) -> dict[str, Actions]:
    """The plain students that a budget has room for; the uniform one always."""
    count = max(1, int(budget * MOST_OF_BUDGET))
    return dict(list(plain_students(space).items())[:count])


def fly(
    prepared: Prepared, evaluators: Evaluators, enough: Enough = lambda found: False
) -> Telling[Flown]:
    """Train the proxies of the plain students, as long as it takes.

    Args:
        prepared: the job.
        evaluators: makes one for a job.
        enough: asked after every plain student; True goes on with those that there are.

    Raises:
        BadInput: not even a student as large as the teacher learns anything.
    """
    pilots = pilots_of(prepared.space, prepared.spec.budget)
    yield Stage("pilots", f"{len(pilots)} plain students, to vary and to beat")
    prepared, found = yield from _settle_norms(prepared, pilots, evaluators, enough)
    for _ in range(LENGTHENINGS):
        if not _at_chance(prepared, found) or enough(found.values()):
            break
        longer = prepared.plan.lengthened(LENGTHENED)
        if prepared.spec.proxy_epochs is not None or longer == prepared.plan:
            break
        yield Note(
            f"proxies of {prepared.plan.proxy_steps:,} steps stand at chance: they are made "
            f"{LENGTHENED} times as long"
        )
        prepared = replace(prepared, plan=longer)
        found = yield from _evaluated(prepared, pilots, evaluators, enough)
    if len(found) < len(pilots):
        yield Note(
            f"--minutes are short: {len(found)} of {len(pilots)} plain students are trained",
            warning=True,
        )
    if _at_chance(prepared, found):
        yield from _explain_chance(prepared, evaluators)
    return Flown(prepared, found)


def _settle_norms(
    prepared: Prepared, pilots: Mapping[str, Actions], evaluators: Evaluators, enough: Enough
) -> Telling[tuple[Prepared, dict[str, Evaluation]]]:
    """The pilots' proxies, with batch norms where these help."""
    way, bare = prepared.spec.normalise, bare_convolutions(prepared.network)
    with_norms = replace(prepared, normalise=bool(bare) and way != "none")
    found = yield from _evaluated(with_norms, pilots, evaluators, enough)
    name = next(iter(pilots))
    if not bare or way != "auto" or name not in found or enough(found.values()):
        return with_norms, found
    other = yield from _evaluated(prepared, {name: pilots[name]}, evaluators)
    first, second = found[name].accuracy, other[name].accuracy
    expectation = prepared.space.expectation
    assert expectation is not None
    # at chance neither shows anything: longer proxies follow, and few rows are what norms are for
    undecided = second <= expectation.above_chance
    shown = f"{first:.1%} with, {second:.1%} without"
    if first >= second or undecided:
        yield Note(
            f"{len(bare)} convolutions without normalisation get a batch norm for the time of "
            f"their training ({shown})"
        )
        return with_norms, found
    yield Note(f"students train without batch norms, as their teacher has none ({shown})")
    rest = {key: actions for key, actions in pilots.items() if key != name}
    found = other
    if not enough(found.values()):
        found |= yield from _evaluated(prepared, rest, evaluators, enough)
    return prepared, found


def _evaluated(
    prepared: Prepared,
    pilots: Mapping[str, Actions],
    evaluators: Evaluators,
    enough: Enough = lambda found: False,
) -> Telling[dict[str, Evaluation]]:
    """Proxies of the pilots, trained to their end; of one at least, until it is ``enough``."""
    if not pilots:
        return {}
    names = {actions: name for name, actions in pilots.items()}
    evaluator = evaluators(prepared)
    found: dict[str, Evaluation] = {}
    try:
        for actions in names:
            evaluator.submit(Job(actions, prepared.plan.proxy_epochs))
        while len(found) < len(names) and not (found and enough(found.values())):
            news = next_of(evaluator)
            if isinstance(news, Evaluation):
                found[names[news.actions]] = news
            elif news is not None:
                yield CandidateRunning(
                    key=names[news.actions],
                    number=1 + list(pilots).index(names[news.actions]),
                    kb=prepared.space.cost(news.actions).kb,
                    epoch=news.epoch,
                    epochs=news.epochs,
                    loss=news.loss,
                    accuracy=news.accuracy,
                    samples_per_second=news.samples_per_second,
                    where=news.where,
                )
    finally:
        evaluator.close()
    return {name: found[name] for name in pilots if name in found}


def _at_chance(prepared: Prepared, found: Mapping[str, Evaluation]) -> bool:
    """Whether all that were trained learnt nothing; one that failed shows nothing."""
    expectation = prepared.space.expectation
    assert expectation is not None
    trained = [one.accuracy for one in found.values() if not one.reason]
    # where one class is most of the rows, a good teacher may itself be within luck of chance
    halfway = ((expectation.chance or 0.0) + expectation.teacher) / 2
    return bool(trained) and max(trained) <= min(expectation.above_chance, halfway)


def _explain_chance(prepared: Prepared, evaluators: Evaluators) -> Telling[None]:
    """Tell whether students are too small to learn, or cannot learn at all."""
    space, plan = prepared.space, prepared.plan
    whole = tuple(space.moves.keep for _ in space.layers)
    found = yield from _evaluated(prepared, {"teacher-sized": whole}, evaluators)
    reason = found["teacher-sized"].reason
    if reason:
        yield Note(
            f"plain students stay at chance after {plan.proxy_steps:,} steps, and one as large as "
            f"the teacher could not be trained to compare: {reason}",
            warning=True,
            name="pilots-at-chance",
        )
        return
    if _at_chance(prepared, found):
        assert space.expectation is not None
        raise BadInput(
            "students learn nothing from this teacher on these rows",
            value=f"{found['teacher-sized'].accuracy:.1%} after {plan.proxy_steps:,} steps, even "
            "from one as large as the teacher",
            bound=f"more than chance, {space.expectation.above_chance:.1%} on "
            f"{len(prepared.parts.validation):,} validation rows",
            remedy="Look at the labels, at mean and std in the teacher's JSON, and at the "
            "teacher's own accuracy; or set --learning-rate lower, --proxy-epochs higher, or "
            "--loss none.",
        )
    yield Note(
        f"plain students within the limits stay at chance after {plan.proxy_steps:,} steps, one as "
        f"large as the teacher comes to {found['teacher-sized'].accuracy:.1%}: the limits are most "
        "likely too tight for this task",
        warning=True,
        name="pilots-at-chance",
    )


def gains_of(
    pairs: Sequence[tuple[float, float]], epochs: int, expectation: Expectation
) -> tuple[float, float]:
    """g and its standard deviation, by accuracies after the proxy and after the full training.

    A student that begins within a hair of its teacher shows nothing; without any other g is
    :data:`USUAL_GAIN`, give or take as much. One that ends there shows only that g is large: no
    more is believed than that a gap shrinks to :data:`LEAST_LEFT` of itself.
    """
    more = math.log(max(math.e, expectation.full / (expectation.images * epochs)))
    found = []
    for proxy, full in pairs:
        before, after = expectation.gap(proxy), expectation.gap(full)
        if before > 2 * LEAST_GAP:
            gain = -math.log(max(after, LEAST_GAP) / before) / more
            found.append(min(MOST_GAIN, -math.log(LEAST_LEFT) / more, max(0.0, gain)))
    if not found:
        return USUAL_GAIN, USUAL_GAIN
    spread = statistics.stdev(found) if len(found) > 1 else statistics.mean(found) / 2
    return statistics.mean(found), spread
