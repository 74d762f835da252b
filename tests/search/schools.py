"""Jobs that are prepared without a teacher or data, and evaluators that only pretend to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np

from envs.compression.moves import PRESETS
from envs.graph.netspec import NetSpec
from envs.reward import ThresholdReward
from search.execution.evaluation import Evaluation, Job, Running
from search.job.events import Event
from search.job.spec import make_spec
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.space.learning_curve import Expectation
from search.space.limits import Limits
from search.space.space import Actions, Space
from search.space.training_plan import training_plan

MOVES = PRESETS["default"]
ROWS, VALIDATION, TEACHER, CHANCE = 1_000, 100, 0.99, 0.5
#: chance plus twice √(½ · ½ / 100)
ABOVE_CHANCE = 0.6


def pretended(network: NetSpec, share: float = 0.3, **job: Any) -> Prepared:
    """A job on a network: students of at most this share of its KB."""
    values = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x", "views": 0}
    spec = make_spec(values | job)
    plan = training_plan(spec, ROWS, network.classes)
    full = plan.final_epochs * ROWS
    expect = Expectation(TEACHER, plan.proxy_rows, full, 0.0, VALIDATION, CHANCE)
    kb = share * Space(network, MOVES, ThresholdReward()).teacher_cost.kb
    reward = ThresholdReward(c0=1 - share, a0=1.0, rho=0.01)
    space = Space(network, MOVES, reward, Limits(kb), expectation=expect)
    none: Any = None
    parts: Any = SimpleNamespace(validation=np.arange(VALIDATION))
    tap = space.layers[-1].node
    return Prepared(
        spec, none, network, none, parts, MOVES, reward, space, tap, none, none, TEACHER, plan
    )


#: the accuracy of a candidate of a job, as that is prepared when it is trained
Talent = Callable[[Prepared, Actions], float]


@dataclass
class Course:
    """What one evaluator was made for, and what it trained."""

    prepared: Prepared
    jobs: list[Job] = field(default_factory=list)
    closed: bool = False

    @property
    def actions(self) -> list[Actions]:
        return [job.actions for job in self.jobs]


class School:
    """Makes evaluators, as :data:`search.opening.pilots.Evaluators` does.

    Attributes:
        courses: one for each evaluator that was asked for.
    """

    def __init__(
        self, talent: Talent, fails: Callable[[Actions], bool] = lambda actions: False
    ) -> None:
        self.talent, self.fails = talent, fails
        self.courses: list[Course] = []

    def __call__(self, prepared: Prepared) -> _Pretender:
        self.courses.append(Course(prepared))
        return _Pretender(self, self.courses[-1])


class _Pretender:
    """Answers the last job first; one of them tells of its first epoch."""

    slots = 4

    def __init__(self, school: School, course: Course) -> None:
        self.school, self.course = school, course
        self.out: list[Job] = []
        self.told = False

    def submit(self, job: Job) -> None:
        self.course.jobs.append(job)
        self.out.append(job)

    def wait(self, timeout: float | None = None) -> Evaluation | Running | None:
        if not self.out:
            return None
        if not self.told:
            self.told = True
            return Running(self.out[0].actions, 1, self.out[0].epochs, 0.7, None, 1000.0, "here")
        job = self.out.pop()
        if self.school.fails(job.actions):
            return Evaluation(job.actions, 0.0, 0.1, "MemoryError: no")
        accuracy = self.school.talent(self.course.prepared, job.actions)
        curve = (accuracy,) * job.epochs
        return Evaluation(job.actions, accuracy, 0.1, "", job.epochs, curve, "fp32")

    def close(self) -> None:
        self.course.closed = True


Value = TypeVar("Value")


def heard(telling: Telling[Value]) -> tuple[Value, list[Event]]:
    """What a step of a job gives, and all that it tells on the way."""
    told: list[Event] = []
    while True:
        try:
            told.append(next(telling))
        except StopIteration as end:
            return end.value, told
