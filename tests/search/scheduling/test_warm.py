"""Earlier runs as evidence: read as they are, weighed by the present job's thresholds."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.reward import PaperReward
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.ledger.ledger import Ledger, Record
from search.samplers import SAMPLERS, Observation
from search.samplers.dedup import INSURANCE
from search.scheduling.evidence import begun_with, outcomes_of, read_candidates, warm_up
from search.scheduling.warm import check_warm
from search.space.learning_curve import Expectation
from search.space.space import Actions, Space
from search.space.training_plan import PROXY_ROWS
from tests.search.conftest import HALVES
from tests.search.evaluators import FakeEvaluator, play

TEACHER = b"the bytes of a teacher"
WEAK: Actions = (0, 1, 2, 1, 2)


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    (tmp_path / "t.safetensors").write_bytes(TEACHER)
    return make_spec(
        {
            "teacher": str(tmp_path / "t.safetensors"),
            "data": "digits",
            "out": str(tmp_path / "new"),
            "warm": (str(tmp_path / "old"),),
            "sampler": "evolution",
            "pool": HALVES.pool,
            "scaled": HALVES.scaled,
        }
    )


@pytest.fixture
def old(space: Space, job: JobSpec) -> RunFolder:
    """A run of twelve candidates, of which one failed, and one more that was stopped at a rung."""
    folder = RunFolder(job.warm[0])
    spec = job.model_copy(update={"out": job.warm[0], "warm": (), "sampler": "random"})
    folder.create(spec, {"teacher": sha256(TEACHER).hexdigest(), "data": "1"})
    reasons = iter(["no"])
    evaluator = FakeEvaluator(reasons=lambda actions: next(reasons, ""))
    play(space, folder.ledger, evaluator, SAMPLERS["random"](space, 0), budget=12)
    with ledger_of(space, folder) as ledger:
        ledger.add(Record("ab" * 12, WEAK, 0.3, 1.0, 1, 1, 1, 0.1, pruned=True))
    return folder


def ledger_of(space: Space, folder: RunFolder) -> Ledger:
    return Ledger(folder.ledger, [layer.node for layer in space.layers], space.moves.pool)


def warmed(space: Space, job: JobSpec) -> tuple[Any, list[str]]:
    sampler = SAMPLERS[job.sampler](space, 0, agent_rate=1, agent_units=4, baseline_decay=0.9)
    teacher = sha256(TEACHER).hexdigest()
    RunFolder(job.out).root.mkdir(exist_ok=True)
    events = warm_up(sampler, space, job, teacher, RunFolder(job.out))
    return sampler, [event.text for event in events if isinstance(event, Note)]


def test_rewards_are_those_of_the_present_job(toy: NetSpec, space: Space, old: RunFolder) -> None:
    here = Space(toy, HALVES, PaperReward(alpha=1, beta=2, c0=0.1, a0=0.2))
    with ledger_of(space, old) as ledger:
        records = list(ledger.records)
    outcomes = outcomes_of(read_candidates(old, old.stored_job()), here)
    assert [outcome.actions for outcome in outcomes] == [record.actions for record in records]
    for outcome, record in zip(outcomes, records, strict=True):
        assert outcome.accuracy == record.accuracy
        # Eq. 7 of the paper: neither factor is what the earlier run's reward made of it
        expected = 0.0 if record.failed else here.reward_of(record.actions, record.accuracy)
        assert outcome.reward == expected != record.reward or record.failed
    assert [o.failed for o in outcomes] == [r.failed for r in records]
    assert [o.pruned for o in outcomes] == [False] * 12 + [True]
    assert sum(outcome.failed for outcome in outcomes) == 1


def test_of_several_runs_the_furthest_says_what_a_network_is(space: Space, old: RunFolder) -> None:
    (failed, *_) = read_candidates(old, old.stored_job())
    assert failed.failed
    whole = failed._replace(accuracy=0.123, failed=False)
    stopped = whole._replace(accuracy=0.1, pruned=True)
    later = whole._replace(accuracy=0.125)
    for found, accuracy in (
        ([failed, whole], 0.123),
        ([whole, failed], 0.123),  # its worker died in the later run
        ([whole, stopped], 0.123),
        ([failed, stopped], 0.1),
        ([whole, later, stopped], 0.125),  # the last of equals
    ):
        (outcome,) = outcomes_of(found, space)
        assert (outcome.accuracy, outcome.failed) == (accuracy, False)


def test_a_run_in_a_database_is_evidence_too(
    space: Space, job: JobSpec, old: RunFolder, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    other = RunFolder(tmp_path / "database")
    spec = job.model_copy(update={"out": str(other.root), "warm": (), "storage": url})
    other.create(spec, {"teacher": sha256(TEACHER).hexdigest(), "data": "1"})
    layers = [layer.node for layer in space.layers]
    with ledger_of(space, old) as one, Ledger(other.ledger, layers, space.moves.pool, url) as two:
        for record in one.records:
            two.add(record)
    warm = job.model_copy(update={"warm": (str(other.root),)})
    check_warm(warm)
    _, notes = warmed(space, warm)
    assert notes == ["the search begins with what earlier runs say of 13 candidates"]


def test_epochs_count_by_the_images_that_were_seen(
    toy: NetSpec, job: JobSpec, old: RunFolder
) -> None:
    # this job's candidates see 6,000 images in an epoch, those of the earlier run saw 3,000
    expect = Expectation(0.99, images=6000, full=48_000, gain=0.5, rows=1000)
    here = Space(toy, HALVES, PaperReward(), expectation=expect)
    sampler, _ = warmed(here, job.model_copy(update={"sampler": "model-based"}))
    found = read_candidates(old, old.stored_job())
    assert (old.stored_job().proxy_rows, PROXY_ROWS) == (None, 3000)
    expected = [here.expected(one.accuracy, one.epochs / 2) for one in found if not one.failed]
    told = [one.accuracy for one in sampler.observations if not one.failed]
    assert told == pytest.approx(expected)


def test_a_run_that_is_going_on_is_read_and_left_alone(space: Space, old: RunFolder) -> None:
    with ledger_of(space, old):
        # its process is in the middle of a line
        with old.ledger.open("ab") as journal:
            journal.write(b'{"op_code": 4, "study_id": 0, "user_at')
        before = {path: path.read_bytes() for path in old.root.rglob("*") if path.is_file()}
        assert len(read_candidates(old, old.stored_job())) == 13
        assert {p: p.read_bytes() for p in old.root.rglob("*") if p.is_file()} == before


def test_a_sampler_begins_with_it(space: Space, job: JobSpec, old: RunFolder) -> None:
    sampler, notes = warmed(space, job)
    assert notes == ["the search begins with what earlier runs say of 13 candidates"]
    found = outcomes_of(read_candidates(old, old.stored_job()), space)
    whole = [outcome for outcome in found if not (outcome.failed or outcome.pruned)]
    best = sorted(whole, key=lambda outcome: outcome.reward, reverse=True)
    proposed = sampler.propose(8)
    assert proposed[:INSURANCE] == [outcome.actions for outcome in best[:INSURANCE]]
    assert not {outcome.actions for outcome in found} & set(proposed[INSURANCE:])


def test_a_resumed_search_begins_with_the_same(space: Space, job: JobSpec, old: RunFolder) -> None:
    first, _ = warmed(space, job)
    shutil.rmtree(old.root)
    check_warm(job)
    again, _ = warmed(space, job)
    assert again.save().to_bytes() == first.save().to_bytes()


def test_what_it_began_with_can_be_drawn(space: Space, job: JobSpec, old: RunFolder) -> None:
    assert begun_with(RunFolder(job.out), space) == []
    warmed(space, job)
    found = outcomes_of(read_candidates(old, old.stored_job()), space)
    points = begun_with(RunFolder(job.out), space)
    # neither the one that failed nor the one that was stopped
    assert points == [
        (space.cost(outcome.actions).kb, outcome.accuracy)
        for outcome in found
        if not (outcome.failed or outcome.pruned)
    ]
    assert len(points) == 11


def test_the_agent_says_that_it_learns_nothing_from_it(
    space: Space, job: JobSpec, old: RunFolder
) -> None:
    reinforce = job.model_copy(update={"sampler": "reinforce"})
    _, (note,) = warmed(space, reinforce)
    assert "--warm changes nothing" in note


def test_another_way_to_its_accuracies_is_told(space: Space, job: JobSpec, old: RunFolder) -> None:
    _, notes = warmed(space, job.model_copy(update={"seed": 7, "proxy_epochs": 9}))
    assert notes[0] == f"{old.root} came to its accuracies with another seed, proxy_epochs"


def test_what_may_not_be_proposed_here_is_no_evidence(
    toy: NetSpec, job: JobSpec, old: RunFolder
) -> None:
    moves = Moves(HALVES.pool, HALVES.scaled, protect=("stem",))
    space = Space(toy, moves, PaperReward())
    told: list[Observation] = []

    class Hearing:
        def warm(self, evidence: list[Observation]) -> int:
            told.extend(evidence)
            return 0

    list(warm_up(Hearing(), space, job, sha256(TEACHER).hexdigest(), RunFolder(job.out)))  # type: ignore[arg-type]
    assert 0 < len(told) < 13
    assert all(outcome.actions[0] == 2 for outcome in told)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"warm": ("nowhere",)}, "there is no earlier run"),
        ({"pool": (0.0, 0.25, 1.0)}, "another pool"),
        ({"scaled": "ko"}, "another scaled"),
        ({"metric": "balanced_accuracy"}, "another metric"),
    ],
)
def test_a_run_that_is_no_evidence_is_refused(
    job: JobSpec, old: RunFolder, changes: dict[str, Any], says: str
) -> None:
    check_warm(job)
    with pytest.raises(BadInput, match=says):
        check_warm(job.model_copy(update=changes))


def test_a_run_of_another_teacher_is_refused(space: Space, job: JobSpec, old: RunFolder) -> None:
    other = job.model_copy(update={"teacher": str(old.root / "t.onnx")})
    says = "an earlier run is of another teacher"
    # a file is known by its bytes before anything is loaded
    Path(job.teacher).write_bytes(b"another")
    with pytest.raises(BadInput, match=says):
        check_warm(job)
    check_warm(other)
    with pytest.raises(BadInput, match=says):
        list(warm_up(SAMPLERS["random"](space, 0), space, other, "12", RunFolder(job.out)))
    assert not RunFolder(job.out).root.exists()
