"""The opening of a search: plain students are trained, and what they settle is kept.

Their proxies are the first lines of the ledger, and two of them are trained in full at once: what a
search finds has to beat them, and how they rose is what is expected of all others. A run that was
stopped finds it all in its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edge.errors import BadInput
from search.execution.evaluation import Evaluator
from search.execution.trial_cache import Evaluations, Remembering
from search.finalists.finalists import accuracies_of, train_baselines
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.ledger.ledger import Ledger, Record
from search.opening.pilots import Evaluators, fly, gains_of
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.samplers.dedup import network_digest
from search.scheduling.trial_state import Candidates
from search.space.baselines import BASELINES, plain_students
from search.space.space import Actions, Space
from search.space.teacher_stats import Facts, known_gain, read_facts, write_facts

#: trains plain students in full; gives key → accuracy
InFull = Callable[[Prepared, Sequence[Record]], Telling[dict[str, float]]]
#: whether full trainings end in time, by the seconds of their proxies
InTime = Callable[[Prepared, Sequence[float]], bool]


def origins_of(space: Space) -> dict[str, str]:
    """Key of each plain student → its origin."""
    return {
        network_digest(space, actions).hex(): name
        for name, actions in plain_students(space).items()
    }


def openers(records: Sequence[Record], folder: RunFolder) -> list[Actions]:
    """The plain students that a run's ledger begins with: what its search proposes first."""
    return [record.actions for record in records[: read_facts(folder).pilots]]


def reopened(prepared: Prepared, folder: RunFolder, origins: Mapping[str, str]) -> Prepared | None:
    """The job as an earlier process settled it; None where nothing is settled yet."""
    try:
        facts = read_facts(folder)
        gain = known_gain(prepared.spec, folder)
    except BadInput:  # not written yet, or damaged
        return None
    if gain is None:
        return None
    found = _settled(prepared, facts)
    found.space.expect(gain, facts.spread)
    found.space.reached |= accuracies_of(folder, origins)
    write_facts(folder, replace(found.facts(), pilots=facts.pilots))
    return found


def _settled(prepared: Prepared, facts: Facts) -> Prepared:
    plan = prepared.plan
    if facts.proxy_epochs is not None:
        plan = replace(plan, proxy_epochs=facts.proxy_epochs)
    expectation = prepared.space.expectation
    if facts.guess is None and expectation is not None:
        # by an earlier version, whose proposals rest on proxies near chance as on any other
        prepared.space.expectation = replace(expectation, chance=None)
    return replace(prepared, plan=plan, normalise=facts.normalise)


def open_search(
    prepared: Prepared,
    ledger: Ledger,
    folder: RunFolder,
    evaluators: Evaluators,
    in_full: InFull,
    in_time: InTime = lambda prepared, proxies: True,
) -> Telling[Prepared]:
    """Train the plain students; gives the job as it is settled then.

    Args:
        prepared: the job.
        ledger: of the run, where they become the first lines.
        folder: of the run: proxies of an earlier process are taken from there.
        evaluators: makes one for a job.
        in_full: trains some of them in full.
        in_time: whether there is time for full trainings.

    Raises:
        BadInput: no student learns anything.
    """
    flown = yield from fly(
        prepared,
        lambda job: _remembering(job, folder, evaluators),
        lambda found: not in_time(prepared, [max(one.seconds for one in found)]),
    )
    prepared = flown.prepared
    candidates = Candidates(prepared.space, ledger, prepared.spec.budget)
    records = {
        name: candidates.record_of(evaluation, 0) for name, evaluation in flown.evaluations.items()
    }
    if prepared.spec.proxy_gain is None:
        chosen = [record for name, record in records.items() if name in BASELINES and record.whole]
        while chosen and not in_time(prepared, [record.seconds for record in chosen]):
            chosen.pop()
        prepared.space.reached |= yield from in_full(prepared, chosen)
        yield from _expect(prepared, chosen)
    else:
        prepared.space.expect(prepared.spec.proxy_gain)
    for number, evaluation in enumerate(flown.evaluations.values(), 1):
        # as the first proposals, which the search finds answered
        record = candidates.record_of(evaluation, number)
        if ledger.get(record.key) is None:
            ledger.add(record)
    write_facts(folder, replace(prepared.facts(), pilots=len(flown.evaluations)))
    return prepared


def _remembering(prepared: Prepared, folder: RunFolder, evaluators: Evaluators) -> Evaluator:
    """An evaluator that finds the proxies that an earlier process of the run has finished."""
    norms = "norms" if prepared.normalise else "none"
    known = folder.pilots / f"{norms}-{prepared.plan.proxy_epochs}"
    return Remembering(prepared.space, evaluators(prepared), Evaluations(known))


def _expect(prepared: Prepared, trained: Sequence[Record]) -> Telling[None]:
    """How fast accuracies rise, by those that were trained in full."""
    space = prepared.space
    assert space.expectation is not None
    pairs = [
        (record.accuracy, space.reached[record.key])
        for record in trained
        if record.key in space.reached
    ]
    gain, spread = gains_of(pairs, prepared.plan.proxy_epochs, space.expectation)
    space.expect(gain, spread)
    shown = ", ".join(f"{proxy:.1%} to {full:.1%}" for proxy, full in pairs)
    yield Note(
        f"accuracies after the proxy and after the full training: {shown or 'none'}; "
        f"--proxy-gain {gain:.2f}"
    )


def full_training(folder: RunFolder, threads: int) -> InFull:
    """Trains plain students in full in a run's folder, on so many threads together."""

    def train(prepared: Prepared, chosen: Sequence[Record]) -> Telling[dict[str, float]]:
        if not chosen:
            return {}
        return (yield from train_baselines(prepared, chosen, folder, threads))

    return train
