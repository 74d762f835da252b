"""The winner's training outlives whoever does it: each epoch is on disk before it is told of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import ray
from ray.exceptions import WorkerCrashedError

from edge.errors import BadInput
from search.execution.cluster import cluster
from search.execution.worker import Step
from search.execution.worker_pool import Resources
from search.finalists.train import Course, Trained, together, train_fully
from search.job.events import Note
from tests.search.trainers import Pretending, accuracy_of

pytestmark = pytest.mark.long

EPOCHS = 4
WELL, RAISES, DIES, DIES_ONCE = 0, 1, 4, 5


@pytest.fixture(scope="module", autouse=True)
def _own_ray() -> Iterator[None]:
    with cluster("local", 2):
        yield


def train(folder: Path, action: int) -> Iterator[Step | Trained]:
    for _, news in together({"winner": training(folder, action)}):
        assert not isinstance(news, Note)
        yield news


def training(folder: Path, action: int, name: str = "winner", seconds: float = 0.0) -> Course:
    room = ray.put({"epochs": EPOCHS, "seconds": seconds, "folder": str(folder)})
    return train_fully(room, Pretending, (action, 3), folder / f"{name}.checkpoint", Resources())


def epochs_of(news: list[Step | Trained]) -> list[int]:
    return [one.epoch for one in news if isinstance(one, Step)]


def test_a_training_that_is_left_goes_on_after_the_epoch_on_disk(tmp_path: Path) -> None:
    first = list(islice(train(tmp_path, WELL), 2))
    assert epochs_of(first) == [1, 2]
    assert (tmp_path / "winner.checkpoint").read_bytes() == b"2"
    rest = list(train(tmp_path, WELL))
    assert epochs_of(rest) == [3, 4]
    last = rest[-1]
    assert isinstance(last, Trained)
    assert last.accuracy == accuracy_of((WELL, 3), EPOCHS)
    assert last.weights["done"] == EPOCHS
    assert [path.name for path in tmp_path.iterdir()] == ["winner.checkpoint"]  # nothing half done


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    assert epochs_of(list(train(tmp_path, DIES_ONCE))) == [1, 2, 3, 4]


def test_a_training_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashedError):
        list(train(tmp_path, DIES))


def test_a_training_that_fails_by_itself_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="full training failed") as refused:
        list(train(tmp_path, RAISES))
    assert "ValueError: no such network" in str(refused.value)


def test_several_go_on_at_once_and_stop_together(tmp_path: Path) -> None:
    courses = {name: training(tmp_path, WELL, name, 0.3) for name in ("one", "two")}
    rounds = together(courses)
    told = [name for name, _ in islice(rounds, 5)]
    assert {"one", "two"} <= set(told[:3])  # neither waits for the end of the other
    rounds.close()
    rest = {name: training(tmp_path, WELL, name) for name in ("one", "two")}
    done = [(name, news) for name, news in together(rest) if isinstance(news, Trained)]
    assert sorted(name for name, _ in done) == ["one", "two"]
