"""The opening of a search: plain students come first, and a resumed run trains none again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.files import write_bytes
from envs.graph.netspec import NetSpec
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.ledger.ledger import Ledger, Record
from search.opening.opening import open_search, openers, origins_of, reopened
from search.opening.pilots import gains_of
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.samplers.random import RandomSampler
from search.scheduling.halving import Halving
from search.scheduling.loop import search
from search.space.baselines import plain_students
from search.space.space import Actions
from search.space.teacher_stats import read_facts
from teachers.distillation.checkpoint import Checkpoint
from tests.search.evaluators import EPOCHS, FakeEvaluator
from tests.search.schools import CHANCE, TEACHER, School, heard, pretended

PROXY, FULL = 0.8, 0.95


class InFull:
    """Trains plain students in full, as :data:`search.opening.opening.InFull` does, and puts them
    away."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.trained: list[Actions] = []

    def __call__(self, prepared: Prepared, chosen: Sequence[Record]) -> Telling[dict[str, float]]:
        yield Note("in full")
        self.trained += [record.actions for record in chosen]
        for record in chosen:
            content = Checkpoint({"w": np.zeros(1)}, {"accuracy": FULL}).to_bytes()
            write_bytes(self.folder.trained / f"{record.key}.safetensors", content)
        return {record.key: FULL for record in chosen}


@pytest.fixture
def job(toy: NetSpec) -> Prepared:
    return pretended(toy)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def ledger(job: Prepared, folder: RunFolder) -> Iterator[Ledger]:
    folder.root.mkdir(parents=True)
    with ledger_of(job, folder) as opened:
        yield opened


def ledger_of(job: Prepared, folder: RunFolder) -> Ledger:
    return Ledger(folder.ledger, [layer.node for layer in job.space.layers], job.moves.pool)


def school(fails: Actions | None = None) -> School:
    """Students that learn better with norms."""
    return School(
        lambda prepared, _: PROXY if prepared.normalise else 0.7, lambda actions: actions == fails
    )


def test_the_ledger_begins_with_the_plain_students(
    job: Prepared, folder: RunFolder, ledger: Ledger
) -> None:
    in_full = InFull(folder)
    found, told = heard(open_search(job, ledger, folder, school(), in_full))
    plain, origins = plain_students(job.space), origins_of(job.space)
    records = ledger.records
    assert [record.actions for record in records] == list(plain.values())
    assert [origins[record.key] for record in records] == list(plain)
    assert [record.proposed for record in records] == [1, 2, 3, 4]
    assert {record.epochs for record in records} == {job.plan.proxy_epochs}
    assert openers(records, folder) == list(plain.values())
    # two of them were trained in full, and count with what they reached
    assert in_full.trained == [plain["uniform"], plain["largest"]]
    assert found.space.reached == {record.key: FULL for record in records[:2]}
    for record in records[:2]:
        assert record.accuracy == PROXY
        assert record.reward == found.space.reward_of(record.actions, FULL)
    # the others with what that says of them
    assert found.space.expectation is not None
    gain, spread = gains_of([(PROXY, FULL)] * 2, job.plan.proxy_epochs, found.space.expectation)
    assert (found.space.expectation.gain, found.space.expectation.spread) == (gain, spread)
    for record in records[2:]:
        expected = found.space.expectation(PROXY, job.plan.proxy_epochs)
        assert PROXY < expected < TEACHER
        assert record.reward == found.space.reward_of(record.actions, expected)
    assert f"--proxy-gain {gain:.2f}" in next(e.text for e in told[::-1] if isinstance(e, Note))


def test_a_resumed_run_finds_it_all_in_its_folder(
    job: Prepared, folder: RunFolder, ledger: Ledger, toy: NetSpec
) -> None:
    origins = origins_of(job.space)
    assert reopened(job, folder, origins) is None
    # the proxies had to be made longer
    slow = School(lambda p, _: PROXY if p.plan.proxy_epochs >= 30 and p.normalise else CHANCE)
    found, _ = heard(open_search(job, ledger, folder, slow, InFull(folder)))
    again = reopened(pretended(toy), folder, origins)
    assert again is not None
    assert again.plan == found.plan
    assert again.plan.proxy_epochs == 30
    assert again.normalise is found.normalise is True
    assert again.space.expectation == found.space.expectation
    assert again.space.reached == found.space.reached
    assert again.facts() == found.facts() == replace(read_facts(folder), pilots=0)


def test_a_run_that_was_stopped_between_ledger_and_facts_writes_nothing_twice(
    job: Prepared, folder: RunFolder, ledger: Ledger, toy: NetSpec
) -> None:
    heard(open_search(job, ledger, folder, school(), InFull(folder)))
    before = list(ledger.records)
    folder.facts.unlink()
    later = pretended(toy)
    assert reopened(later, folder, origins_of(job.space)) is None
    found, _ = heard(open_search(later, ledger, folder, school(), InFull(folder)))
    # what stands in the ledger stands, and stands there once
    assert list(ledger.records) == before
    assert found.space.reached.keys() == {record.key for record in before[:2]}


def test_plain_students_that_were_trained_before_a_stop_are_not_trained_again(
    job: Prepared, folder: RunFolder, ledger: Ledger, toy: NetSpec
) -> None:
    plain = list(plain_students(job.space).values())

    def stopped_after(count: int) -> School:
        def talent(prepared: Prepared, actions: Actions) -> float:
            if sum(len(course.jobs) for course in interrupted.courses) and len(done) == count:
                raise KeyboardInterrupt
            done.append(actions)
            return PROXY if prepared.normalise else 0.7

        done: list[Actions] = []
        interrupted = School(talent)
        return interrupted

    with pytest.raises(KeyboardInterrupt):
        heard(open_search(job, ledger, folder, stopped_after(3), InFull(folder)))
    assert not ledger.records
    goes_on, later = school(), pretended(toy)
    heard(open_search(later, ledger, folder, goes_on, InFull(folder)))
    with_norms, without = goes_on.courses
    # the last one handed out was answered first
    assert with_norms.actions == plain[:1]
    assert without.actions == plain[:1]
    assert [record.actions for record in ledger.records] == plain


def test_one_that_failed_before_a_stop_has_another_chance(
    job: Prepared, folder: RunFolder, ledger: Ledger, toy: NetSpec
) -> None:
    plain = plain_students(job.space)
    heard(open_search(job, ledger, folder, school(fails=plain["tapered"]), InFull(folder)))
    again = school()
    heard(open_search(pretended(toy), ledger, folder, again, InFull(folder)))
    assert [course.actions for course in again.courses] == [[plain["tapered"]], []]


@pytest.mark.parametrize(("seconds", "trained"), [(0.25, 2), (0.15, 1), (0.05, 0)])
def test_where_time_is_short_fewer_are_trained_in_full(
    job: Prepared, folder: RunFolder, ledger: Ledger, seconds: float, trained: int
) -> None:
    # a proxy of the school takes .1 s, and a full training is made to take as long
    in_full = InFull(folder)
    heard(
        open_search(
            job, ledger, folder, school(), in_full, lambda _, proxies: sum(proxies) <= seconds
        )
    )
    assert len(in_full.trained) == trained
    # one is always there to ship
    assert len(ledger.records) == (4 if trained else 1)


def test_a_gain_that_the_job_names_spares_the_full_trainings(
    folder: RunFolder, toy: NetSpec, job: Prepared, ledger: Ledger
) -> None:
    named, in_full = pretended(toy, proxy_gain=0.4), InFull(folder)
    found, _ = heard(open_search(named, ledger, folder, school(), in_full))
    assert in_full.trained == []
    assert found.space.reached == {}
    assert found.space.expectation is not None
    assert found.space.expectation.gain == 0.4
    again = reopened(pretended(toy, proxy_gain=0.4), folder, origins_of(job.space))
    assert again is not None
    assert again.space.expectation == found.space.expectation


def test_one_that_failed_is_not_trained_in_full(
    job: Prepared, folder: RunFolder, ledger: Ledger
) -> None:
    plain, in_full = plain_students(job.space), InFull(folder)
    heard(open_search(job, ledger, folder, school(fails=plain["largest"]), in_full))
    assert in_full.trained == [plain["uniform"]]
    assert [record.failed for record in ledger.records] == [False, True, False, False]
    assert [record.reward > 0 for record in ledger.records] == [True, False, True, True]


def test_a_small_budget_has_room_for_the_uniform_one_alone(
    toy: NetSpec, folder: RunFolder, ledger: Ledger
) -> None:
    small = pretended(toy, budget=3)
    in_full = InFull(folder)
    heard(open_search(small, ledger, folder, school(), in_full))
    assert len(ledger.records) == 1
    assert in_full.trained == [plain_students(small.space)["uniform"]]


def test_the_search_goes_on_from_them_and_distils_none_again(
    job: Prepared, folder: RunFolder, ledger: Ledger
) -> None:
    found, _ = heard(open_search(job, ledger, folder, school(), InFull(folder)))
    given = openers(ledger.records, folder)
    sampler, evaluator = RandomSampler(found.space, 0), FakeEvaluator()
    sampler.begin_with(given)
    told = list(
        search(
            found.space,
            sampler,
            evaluator,
            ledger,
            budget=6,
            batch=2,
            halving=Halving(EPOCHS),
            first=len(given),
        )
    )
    assert len(evaluator.asked) == 2
    assert not set(evaluator.asked) & set(given)
    assert [record.actions for record in ledger.records] == [*given, *evaluator.asked]
    replayed = [event for event in told if getattr(event, "replayed", False)]
    assert len(replayed) == len(given)


def test_a_student_of_the_search_is_none_of_those_that_were_given_to_it(
    job: Prepared, folder: RunFolder, ledger: Ledger
) -> None:
    # a budget of 6 has room for two of the four; the search may propose a third by itself
    small = replace(job, spec=job.spec.model_copy(update={"budget": 6}))
    heard(open_search(small, ledger, folder, school(), InFull(folder)))
    other = plain_students(job.space)["tapered"]
    ledger.add(replace(ledger.records[0], key="another", actions=other))
    assert len(ledger.records) == 3
    assert openers(ledger.records, folder) == list(plain_students(job.space).values())[:2]
