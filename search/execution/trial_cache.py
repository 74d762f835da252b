"""What distillations have given, shared by searches of one recipe: nothing is trained twice.

A candidate is a JSON file by its key; a folder holds one recipe. Who wants to train a candidate
claims it first, and whoever else wants it meanwhile waits and takes the result. Claims are locks
of files: one of a process that dies is free again. All searches have to see the same folder.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge.files import write_bytes
from search.execution.evaluation import Evaluation, Evaluator, Job, Running
from search.execution.worker import Worker
from search.samplers.dedup import network_digest
from search.space.space import Actions, Space


class Evaluations:
    """Evaluations of one recipe, by the key of the candidate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, actions: Actions) -> Evaluation | None:
        """What is known of a candidate, as if it had been proposed with ``actions``."""
        path = self._path(key)
        if not path.exists():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(actions, **(values | {"curve": tuple(values["curve"])}))

    def put(self, key: str, evaluation: Evaluation) -> None:
        """Keep what a training gave; a state to go on from is not kept."""
        values = asdict(replace(evaluation, state=None))
        del values["actions"], values["state"]
        write_bytes(self._path(key), json.dumps(values).encode())

    def once(self, key: str, actions: Actions, train: Callable[[], Evaluation]) -> Evaluation:
        """What is known of a candidate; or else ``train`` is called, in one process only."""
        with self._path(key).with_suffix(".lock").open("w") as claim:
            fcntl.flock(claim, fcntl.LOCK_EX)
            found = self.get(key, actions)
            if found is None:
                found = train()
                self.put(key, found)
            return found

    def keys(self) -> Iterable[str]:
        """Of all candidates that are known."""
        return (path.stem for path in self.folder.glob("*.json"))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


class Remembering:
    """An evaluator that asks another one only for what is not known, and keeps what that gives.

    A candidate that failed is not kept: what killed its process may not be there the next time.
    """

    def __init__(self, space: Space, evaluator: Evaluator, known: Evaluations) -> None:
        self.space, self.evaluator, self.known = space, evaluator, known
        self._answered: list[Evaluation] = []

    @property
    def slots(self) -> int:
        """Of the evaluator that trains."""
        return self.evaluator.slots

    def submit(self, job: Job) -> None:
        """Hand out a candidate that is not known."""
        found = self.known.get(self._key(job.actions), job.actions)
        if found is None:
            self.evaluator.submit(job)
        else:
            self._answered.append(found)

    def wait(self, timeout: float | None = None) -> Evaluation | Running | None:
        """What is known first, then what the other one brings."""
        if self._answered:
            return self._answered.pop(0)
        news = self.evaluator.wait(timeout)
        if isinstance(news, Evaluation) and not news.reason and news.state is None:
            self.known.put(self._key(news.actions), news)
        return news

    def close(self) -> None:
        """Give back what trains."""
        self.evaluator.close()

    def _key(self, actions: Actions) -> str:
        return network_digest(self.space, actions).hex()


class InProcess:
    """An evaluator that trains in this very process, one candidate at a time."""

    slots = 1

    def __init__(self, space: Space, worker: Worker, known: Evaluations) -> None:
        self.space, self.worker, self.known = space, worker, known
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        """It begins when somebody waits."""
        self._jobs.append(job)

    def wait(self, timeout: float | None = None) -> Evaluation | None:
        """The next candidate, trained to the end; None where none is handed out."""
        if not self._jobs:
            return None
        actions = self._jobs.pop(0).actions
        key = network_digest(self.space, actions).hex()
        return self.known.once(key, actions, lambda: self._train(actions))

    def close(self) -> None:
        """Forget what is handed out."""
        self._jobs.clear()

    def _train(self, actions: Actions) -> Evaluation:
        step = self.worker.begin(actions, [], examine=False)
        assert step is not None
        while not step.done:
            step = self.worker.epoch(examine=False)
            assert step is not None
        return Evaluation(
            actions,
            accuracy=step.accuracy or 0.0,
            seconds=step.seconds,
            reason=step.reason,
            epochs=step.epoch,
            mode=step.mode,
        )
