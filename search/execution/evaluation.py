"""What the search asks of whoever distils, and what comes back.

The search hands out jobs and waits; how many are under way at once, and where, is the evaluator's
business. Nothing here knows Ray.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from search.space.space import Actions


@dataclass(frozen=True)
class Job:
    """One candidate handed out.

    Attributes:
        actions: of the candidate. At any time at most one job is out for the same actions.
        epochs: train until so many are done. Below the recipe's epochs the candidate pauses
            there, and its evaluation brings ``state``.
        state: what an earlier evaluation of the same actions brought, to go on from; None to
            begin.
    """

    actions: Actions
    epochs: int
    state: object | None = None


@dataclass(frozen=True)
class Evaluation:
    """What has become of a job.

    Attributes:
        actions: of the candidate.
        accuracy: at the end of the job; 0 where it failed.
        seconds: of distillation, all jobs of the candidate together.
        reason: why it failed; empty where it did not.
        epochs: done, those of earlier jobs included.
        curve: accuracy after each of those epochs, nan where it was not measured. A shorter
            curve, down to none, leaves the epochs after it unknown.
        mode: how the steps ran, such as "bf16 channels_last".
        state: opaque, kept where it was trained: what a later job goes on from. None once the
            recipe is finished, or it failed.
    """

    actions: Actions
    accuracy: float
    seconds: float
    reason: str = ""
    epochs: int = 0
    curve: tuple[float, ...] = ()
    mode: str = ""
    state: object | None = None


@dataclass(frozen=True)
class Running:
    """News of a candidate under way, after an epoch.

    Attributes:
        actions: of the candidate.
        epoch, epochs: done, and of the whole recipe.
        loss: mean over the epoch.
        accuracy: on the validation part; None where it was not measured.
        samples_per_second: of its training steps.
        where: the worker, in a word or two.
    """

    actions: Actions
    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    samples_per_second: float
    where: str = ""


class Evaluator(Protocol):
    """Distils candidates, several at a time where it can."""

    @property
    def slots(self) -> int:
        """Candidates at a time, as of now; at least 1."""

    def submit(self, job: Job) -> None:
        """Hand out a candidate: it begins at once, or when a slot is free. Never blocks."""

    def wait(self, timeout: float | None = None) -> Evaluation | Running | None:
        """The next candidate that is finished or paused, or news of one under way.

        Args:
            timeout: seconds; None waits for as long as anything is under way.

        Returns:
            None when the time is over, or where nothing is under way.
        """

    def close(self) -> None:
        """Give everything back, whatever is under way."""


def next_of(evaluator: Evaluator, timeout: float | None = None) -> Evaluation | Running | None:
    """What :meth:`Evaluator.wait` brings next, where something is under way.

    Raises:
        RuntimeError: the evaluator knows of nothing: it has lost a candidate.
    """
    began = time.monotonic()
    news = evaluator.wait(timeout)
    if news is None and (timeout is None or time.monotonic() - began < timeout / 2):
        raise RuntimeError("the evaluator has lost a candidate that was handed out to it")
    return news
