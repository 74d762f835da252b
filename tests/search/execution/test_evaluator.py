"""The crew of workers against real processes: order, pauses, and everything that goes wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from search.execution.cluster import cluster
from search.execution.evaluation import Evaluation, Job, Running
from search.execution.evaluator import DEATHS, RayEvaluator
from search.execution.timeouts import TrialTimeout
from search.execution.worker_pool import Paused, Resources
from search.space.space import Actions
from tests.search.trainers import Pretending, accuracy_of

#: Ray takes seconds to start and as many to end
pytestmark = pytest.mark.long

EPOCHS = 2
RAISES, HANGS, HOARDS, DIES, DIES_ONCE, DIVERGES, IS_NAN = range(1, 8)


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    with cluster("local", 3):
        yield


@pytest.fixture(scope="module")
def crew(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEvaluator]:
    room = {"epochs": EPOCHS, "seconds": 0.0, "folder": str(tmp_path_factory.mktemp("crew"))}
    evaluator = RayEvaluator(
        ray.put(room), Pretending, 2, Resources(memory_mb=512), TrialTimeout(minutes=0.25)
    )
    assert evaluator.attend(60)
    yield evaluator
    evaluator.close()


def everything(evaluator: RayEvaluator) -> tuple[dict[Actions, Evaluation], list[Running]]:
    """What becomes of all that was submitted."""
    done, news = {}, []
    while (one := evaluator.wait(30)) is not None:
        if isinstance(one, Evaluation):
            assert one.actions not in done
            done[one.actions] = one
        else:
            news.append(one)
    return done, news


def test_every_job_is_told_of_epoch_by_epoch_and_comes_back_once(crew: RayEvaluator) -> None:
    jobs = [Job((0, number), EPOCHS) for number in range(5)]
    for job in jobs:
        crew.submit(job)
    done, news = everything(crew)
    assert set(done) == {job.actions for job in jobs}
    for actions, evaluation in done.items():
        assert evaluation.accuracy == accuracy_of(actions, EPOCHS)
        assert (evaluation.reason, evaluation.state) == ("", None)
        assert (evaluation.epochs, evaluation.mode) == (EPOCHS, "fp32 contiguous")
        assert evaluation.curve[-1] == evaluation.accuracy
        mine = [one for one in news if one.actions == actions]
        assert [one.epoch for one in mine] == [1, 2]
        assert {one.epochs for one in mine} == {EPOCHS}
    assert crew.slots == 2
    assert crew.wait(0) is None  # nothing is under way


def test_a_paused_candidate_goes_on_on_whatever_worker(crew: RayEvaluator) -> None:
    crew.submit(Job((0, 9), 1))
    first = everything(crew)[0][0, 9]
    assert isinstance(first.state, Paused)
    assert (first.epochs, first.curve) == (1, (accuracy_of((0, 9), 1),))
    crew.submit(Job((0, 9), EPOCHS, first.state))
    done, news = everything(crew)
    last = done[0, 9]
    assert [one.epoch for one in news] == [2]
    assert last.curve == (accuracy_of((0, 9), 1), accuracy_of((0, 9), 2))
    assert last.seconds >= first.seconds
    assert last.state is None


def test_a_state_that_is_lost_costs_its_epochs_and_no_more(crew: RayEvaluator) -> None:
    lost = Paused(_never.remote(), seconds=1.0, curve=(0.5,))
    crew.submit(Job((0, 8), EPOCHS, lost))
    done, _ = everything(crew)
    assert done[0, 8].accuracy == accuracy_of((0, 8), EPOCHS)
    assert (done[0, 8].reason, done[0, 8].epochs) == ("", EPOCHS)


@ray.remote(max_retries=0, num_cpus=0)
def _never() -> bytes:
    raise SystemError("as an object that went with its node")


def test_what_fails_by_itself_is_recorded_and_the_rest_goes_on(crew: RayEvaluator) -> None:
    wrong = {
        (RAISES, 0): "ValueError: no such network",
        (HOARDS, 0): "out of memory",
        (HANGS, 0): "it hung: not done in 0.25 minutes (--candidate-minutes)",
        (DIVERGES, 0): "Diverged: training diverged: the loss is not finite in epoch 1",
        (IS_NAN, 0): "its accuracy is nan",
        (DIES, 0): f"its worker died {DEATHS} times",
    }
    well = [(0, number) for number in range(4)] + [(DIES_ONCE, 0)]
    for actions in [*wrong, *well]:
        crew.submit(Job(actions, EPOCHS))
    done, _ = everything(crew)
    assert set(done) == {*wrong, *well}
    for actions, reason in wrong.items():
        assert done[actions].reason.startswith(reason), done[actions].reason
        assert (done[actions].accuracy, done[actions].state) == (0, None)
        assert "\n" not in done[actions].reason
    for actions in well:
        assert (done[actions].reason, done[actions].accuracy) == (
            "",
            accuracy_of(actions, EPOCHS),
        )
    assert crew.attend(30)
    assert crew.slots == 2


def test_a_worker_that_is_killed_while_idle_is_not_missed(crew: RayEvaluator) -> None:
    for place in crew.places:
        os.kill(place.pid, signal.SIGKILL)
    crew.submit(Job((0, 7), EPOCHS))
    done, _ = everything(crew)
    assert done[0, 7].reason == ""


def test_a_worker_that_was_replaced_unnoticed_is_called_in_again(crew: RayEvaluator) -> None:
    assert crew.attend(30)
    before = {place.pid for place in crew.places}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    # long enough for Ray to have put new processes in their places
    time.sleep(8)
    for number in range(4):
        crew.submit(Job((0, number), EPOCHS))
    done, _ = everything(crew)
    assert len(done) == 4
    assert {one.reason for one in done.values()} == {""}
    assert before.isdisjoint(place.pid for place in crew.places)


def test_a_room_that_nobody_can_enter_ends_the_search(own_ray: None) -> None:
    evaluator = RayEvaluator(ray.put({}), _unopenable, 1, Resources(), TrialTimeout())
    evaluator.submit(Job((0,), EPOCHS))
    with pytest.raises(RuntimeError, match=r"worker 1 cannot begin: KeyError: 'teacher'"):
        evaluator.wait(30)
    evaluator.close()


def _unopenable(room: dict[str, Any]) -> Pretending:
    return Pretending(room["teacher"])
