"""Who trains which candidate: jobs handed to a fixed crew of Ray actors, and what goes wrong there.

A crew's worker answers one call at a time, an epoch each. If its process or its node dies, the
candidate goes back to the queue and to the next free worker, and Ray starts the worker again as
soon as there is room; until it answers, the others do the work. Ray's own retries would wait for
the dead node.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from search.execution.evaluation import Evaluation, Job, Running
from search.execution.timeouts import TrialTimeout
from search.execution.worker import OUT_OF_MEMORY, Opener, Place, Step
from search.execution.worker_pool import Paused, Resources, Slot, Task, inner, on_its_way, why

#: deaths of its worker after which a candidate is given up. One that kills its worker costs as
#: many starts; were it fewer, nodes that come and go would cost candidates that only had bad luck
DEATHS = 6
#: deaths in a row of a worker that has not even entered, after which it is given up
FALSE_STARTS = 5
#: seconds between two knocks at a worker that is being started again
KNOCK = 0.2


class RayEvaluator:
    """A fixed crew of actors; implements :class:`search.execution.evaluation.Evaluator`."""

    def __init__(
        self,
        room: ObjectRef[Any],
        opener: Opener,
        workers: int,
        resources: Resources,
        patience: TrialTimeout,
    ) -> None:
        """Start the crew; it comes to work one by one, as its processes are up.

        Args:
            room: what all candidates share, in the object store.
            opener: how a worker makes a trainer of it.
            workers: candidates at a time.
            resources: of each.
            patience: how long a candidate may take.
        """
        self.room, self.patience, self.memory_mb = room, patience, resources.memory_mb
        self.queue: deque[Task] = deque()
        self.news: deque[Evaluation | Running] = deque()
        self.calls: dict[Any, tuple[Slot, Callable[[Slot, Any], None]]] = {}
        self.knocks: list[tuple[float, Slot]] = []
        self.crew = [
            Slot(f"worker {number}", resources.actor(opener)) for number in range(1, workers + 1)
        ]
        for slot in self.crew:
            self._enter(slot)

    @property
    def slots(self) -> int:
        """Workers that are up; at least 1, for the one that is still to come."""
        return max(1, sum(slot.place is not None for slot in self.crew))

    @property
    def places(self) -> list[Place]:
        """Where the workers are that are up."""
        return [slot.place for slot in self.crew if slot.place is not None]

    def submit(self, job: Job) -> None:
        """Hand out a candidate: it begins at once, or when a worker is free. Never blocks."""
        task = Task(job)
        task.again()
        self.queue.append(task)
        self._hand_out()

    def wait(self, timeout: float | None = None) -> Evaluation | Running | None:
        """The next candidate that is finished or paused, or news of one under way.

        Raises:
            RuntimeError: no worker can be started at all.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.news:
            if not self.queue and not any(slot.task for slot in self.crew):
                return None
            now = time.monotonic()
            if now >= end:
                return None
            self._turn(min(end, self._next_duty()) - now)
        return self.news.popleft()

    def attend(self, timeout: float) -> bool:
        """Whether the whole crew is up within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while any(slot.place is None for slot in self.crew):
            now = time.monotonic()
            if now >= end:
                return False
            self._turn(min(end, self._next_duty()) - now)
        return True

    def close(self) -> None:
        """End the crew, whatever is under way."""
        for slot in self.crew:
            # where the cluster itself is gone, the crew is too
            with suppress(RayError, ConnectionError):
                ray.kill(slot.actor)
        self.crew, self.calls, self.knocks = [], {}, []
        self.queue.clear()
        self.news.clear()

    # --- one turn of the loop

    def _turn(self, seconds: float) -> None:
        """Hear one answer, for at most ``seconds``, and do what is due."""
        wait = max(0.0, seconds)
        if self.calls:
            answered, _ = ray.wait(
                list(self.calls), num_returns=1, timeout=None if math.isinf(wait) else wait
            )
            for reference in answered:
                slot, then = self.calls.pop(reference)
                then(slot, reference)
        else:
            time.sleep(min(wait, KNOCK))
        now = time.monotonic()
        due = [slot for when, slot in self.knocks if when <= now]
        self.knocks = [(when, slot) for when, slot in self.knocks if when > now]
        for slot in due:
            self._enter(slot)
        self._end_the_late(now)
        self._hand_out()

    def _next_duty(self) -> float:
        """When something is due, whoever answers before."""
        return min(
            [when for when, _ in self.knocks]
            + [self._limit(slot)[0] for slot in self.crew if slot.task and not slot.sentence],
            default=math.inf,
        )

    def _call(self, slot: Slot, reference: Any, then: Callable[[Slot, Any], None]) -> None:
        slot.called = time.monotonic()
        self.calls[reference] = (slot, then)

    def _hand_out(self) -> None:
        for slot in self.crew:
            if not self.queue:
                return
            if slot.place is not None and slot.task is None:
                self._begin(slot, self.queue.popleft())

    # --- what a worker is asked, and what it answers

    def _enter(self, slot: Slot) -> None:
        self._call(slot, slot.actor.enter.remote(self.room), self._entered)

    def _entered(self, slot: Slot, reference: Any) -> None:
        try:
            slot.place = ray.get(reference)
        except RayTaskError as error:
            if not self.places:
                # no candidate's fault: every worker would fail in the same way
                raise RuntimeError(f"{slot.name} cannot begin: {inner(error)}") from None
            self._retire(slot, error)
        except RayError as error:
            self._lost(slot, error)
        else:
            slot.false_starts = 0

    def _begin(self, slot: Slot, task: Task) -> None:
        slot.task, slot.began, slot.sentence = task, time.monotonic(), ""
        paused = task.paused
        state = [paused.state] if paused else []
        examine = len(task.curve) + 1 >= task.job.epochs
        call = slot.actor.begin.remote(task.job.actions, state, examine)
        self._call(slot, call, self._stepped)

    def _stepped(self, slot: Slot, reference: Any) -> None:
        task = slot.task
        assert task is not None
        try:
            step: Step | None = ray.get(reference)
        except RayTaskError as error:
            self._finish(slot, task, reason=inner(error))
        except RayError as error:
            self._lost(slot, error)
        else:
            if step is None:
                self._lost(slot, RayError("its process ended without a word"))
            else:
                self._heard(slot, task, step)

    def _heard(self, slot: Slot, task: Task, step: Step) -> None:
        reason = step.reason
        if step.accuracy is not None and not math.isfinite(step.accuracy):
            reason = reason or f"its accuracy is {step.accuracy}"
        if reason:
            self._finish(slot, task, step, reason=reason)
            return
        self.patience.epoch_took(time.monotonic() - slot.called)
        # it begins at its first epoch again where its state was lost with a node
        accuracy = math.nan if step.accuracy is None else step.accuracy
        task.curve = [*task.curve[: step.epoch - 1], accuracy]
        assert slot.place is not None
        self.news.append(
            Running(
                task.job.actions,
                step.epoch,
                step.epochs,
                step.loss,
                step.accuracy,
                step.samples_per_second,
                f"{slot.name} on {slot.place.host}",
            )
        )
        if step.done or step.epoch >= task.job.epochs:
            self._finish(slot, task, step)
        else:
            examine = step.epoch + 1 >= task.job.epochs
            self._call(slot, slot.actor.epoch.remote(examine), self._stepped)

    def _finish(
        self, slot: Slot, task: Task, step: Step | None = None, *, reason: str = ""
    ) -> None:
        """Tell what became of a task, and free its slot."""
        slot.task = None
        if reason.startswith(OUT_OF_MEMORY):
            # what it has in pieces would be missing to the next candidate
            self._renew(slot)
        before = task.paused.seconds if task.paused else 0.0
        seconds = before + (step.seconds if step else time.monotonic() - slot.began)
        curve, state = tuple(task.curve), None
        if step is not None and not step.done and not reason:
            # owned by the driver: it outlives the worker, and if its node dies the candidate
            # begins again
            state = Paused(slot.actor.pause.remote(), seconds, curve)
        failed = bool(reason) or step is None or step.accuracy is None
        accuracy = 0.0 if failed or step is None else step.accuracy
        assert accuracy is not None
        self.news.append(
            Evaluation(
                task.job.actions,
                accuracy,
                seconds,
                reason,
                epochs=len(curve),
                curve=curve,
                mode=step.mode if step else "",
                state=state,
            )
        )

    # --- what can go wrong

    def _lost(self, slot: Slot, error: RayError) -> None:
        """A worker is gone: its candidate goes to another, and itself is called in again."""
        if slot.place is None:
            # while it is being started again it only says that it is not there yet
            slot.false_starts += not on_its_way(error)
        slot.place, task = None, slot.task
        slot.task = None
        if slot.false_starts >= FALSE_STARTS:
            self._retire(slot, error)
        else:
            self.knocks.append((time.monotonic() + KNOCK, slot))
        if task is None:
            return
        if slot.sentence:
            slot.task = task
            self._finish(slot, task, reason=slot.sentence)
            return
        task.deaths += 1
        if task.deaths >= DEATHS:
            slot.task = task
            limit = f" (it may have {self.memory_mb} MB)" if self.memory_mb else ""
            reason = f"its worker died {task.deaths} times: {why(error)}{limit}"
            self._finish(slot, task, reason=reason)
        else:
            task.again()
            self.queue.appendleft(task)

    def _renew(self, slot: Slot) -> None:
        """Give a slot a new process; Ray starts it."""
        if slot.place is not None:
            ray.kill(slot.actor, no_restart=False)
            slot.place = None
            self.knocks.append((time.monotonic() + KNOCK, slot))

    def _retire(self, slot: Slot, error: RayError) -> None:
        self.crew.remove(slot)
        if not self.crew:
            raise RuntimeError(f"no worker can be started: {why(error)}") from None

    def _limit(self, slot: Slot) -> tuple[float, str]:
        return self.patience.limit(slot.began, slot.called)

    def _end_the_late(self, now: float) -> None:
        for slot in self.crew:
            if slot.task is None or slot.sentence:
                continue
            limit, sentence = self._limit(slot)
            if now >= limit:
                slot.sentence = sentence
                # Ray starts it again at once
                ray.kill(slot.actor, no_restart=False)
