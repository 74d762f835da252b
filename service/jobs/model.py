"""What the store holds, as plain typed values: jobs and their states, content, keys, uploads."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Json = dict[str, Any]


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    CHECKING = "checking"
    SEARCHING = "searching"
    TRAINING = "training"
    ROUTING = "routing"
    PACKAGING = "packaging"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: states in which an engine works for the job, in the order in which they follow each other
RUNNING = (State.CHECKING, State.SEARCHING, State.TRAINING, State.ROUTING, State.PACKAGING)
#: states that nothing follows unless somebody asks
ENDED = (State.DONE, State.FAILED, State.CANCELLED)


def _legal() -> dict[State, frozenset[State]]:
    """What may follow what: stages go forward, may be left out, and a lost engine queues again."""
    table = {State.QUEUED: frozenset({State.CHECKING, State.FAILED, State.CANCELLED})}
    for place, state in enumerate(RUNNING):
        table[state] = frozenset({*RUNNING[place + 1 :], *ENDED, State.QUEUED})
    for state in ENDED:  # resumed, or gone on with under a larger budget
        table[state] = frozenset({State.QUEUED})
    return table


LEGAL: Mapping[State, frozenset[State]] = _legal()


class IllegalTransition(ValueError):
    """A change of state that no rule allows."""

    def __init__(self, before: State, after: State) -> None:
        super().__init__(
            f"a job that is {before} cannot become {after}; it may become "
            f"{', '.join(sorted(LEGAL[before]))}"
        )
        self.before, self.after = before, after


class Conflict(RuntimeError):
    """What was asked does not fit what is there now, such as resuming a job that runs."""


class QuotaExceeded(RuntimeError):
    """A limit of a key is reached.

    Attributes:
        what: of the limits: "bytes", "queued" or "running".
        value: as it would be.
        bound: that the key has.
        retry_after: seconds after which it is worth asking again.
    """

    def __init__(self, what: str, value: int, bound: int, retry_after: float = 30.0) -> None:
        super().__init__(f"the key's limit of {what} is reached: {value:,} of {bound:,}")
        self.what, self.value, self.bound, self.retry_after = what, value, bound, retry_after


class StoreUnavailable(RuntimeError):
    """The database does not answer, or is locked for too long; ask again later."""


class Wanted(StrEnum):
    """What the user asked for last."""

    RUN = "run"
    CANCEL = "cancel"
    DELETE = "delete"


class Scope(StrEnum):
    """What a key may do; each scope includes those before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Whether whoever has this scope may do what needs the other."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str, at: float | None = None) -> str:
    """A ULID behind a prefix: sorts by time, and 80 random bits that nobody guesses."""
    milliseconds = int((time.time() if at is None else at) * 1000) & (2**48 - 1)
    number = milliseconds << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


@dataclass(frozen=True)
class Limits:
    """What one key may use at most; None is no limit."""

    bytes: int | None = None
    queued: int | None = None
    running: int | None = None


@dataclass(frozen=True)
class Teacher:
    """A teacher that was uploaded; its files lie in the content store under ``sha256``.

    ``state``: checking, ready or refused, the last with its ``problem``.
    """

    id: str
    tenant: str
    name: str
    sha256: str
    bytes: int
    files: list[Json]
    created_at: float
    created_by: str
    state: str = "checking"
    inspection: Json | None = None
    problem: Json | None = None


@dataclass(frozen=True)
class Dataset:
    """Data that were uploaded; the folder that ``--data`` takes lies in the content store."""

    id: str
    tenant: str
    name: str
    sha256: str
    bytes: int
    format: str
    created_at: float
    created_by: str
    state: str = "checking"
    facts: Json | None = None
    problem: Json | None = None


@dataclass(frozen=True)
class Job:
    """One job; the fields are the columns of the table ``jobs``.

    Attributes:
        kind: of engine: search, route, finalize, or null in benchmarks.
        dataset_id: None where ``spec["data"]`` names an embedded one, such as digits.
        spec: fields of :class:`search.job.spec.JobSpec` without teacher, data and out.
        reason: why it is in its state, in a sentence, or empty.
        problem: of a job that failed: what a BadInput says, in its parts.
        attempt: how often an engine was started; ``losses``: how many of these were lost without
            having got any further, one after the other.
        stage: of the run, in the words of its own events.
        handle: of the runner's process.
        folder: of the job, below the service's.
        summary: figures for lists and pages.
        wanted: what the user asked for last.
        not_before: a lost job waits until then.
    """

    id: str
    tenant: str
    name: str
    kind: str
    state: State
    spec: Json
    created_at: float
    created_by: str
    updated_at: float
    parent_id: str | None = None
    teacher_id: str | None = None
    dataset_id: str | None = None
    reason: str = ""
    problem: Json | None = None
    priority: int = 0
    attempt: int = 0
    losses: int = 0
    max_attempts: int = 5
    started_at: float | None = None
    finished_at: float | None = None
    stage: str = ""
    runner: str = ""
    handle: Json | None = None
    folder: str = ""
    summary: Json = field(default_factory=dict)
    wanted: Wanted = Wanted.RUN
    not_before: float = 0.0
    lease_by: str | None = None
    lease_until: float | None = None


@dataclass(frozen=True)
class Transition:
    """One change of a job's state: when, why, and by whom."""

    id: int
    job_id: str
    at: float
    before: State | None
    after: State
    reason: str
    by: str


@dataclass(frozen=True)
class Key:
    """A key to the service; of the secret only a digest and its first letters are kept."""

    id: str
    tenant: str
    name: str
    scope: Scope
    prefix: str
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None
    limits: Limits = Limits()


@dataclass(frozen=True)
class Upload:
    """An upload under way: ``received`` of ``bytes`` bytes are on the disk.

    ``kind``: teacher or dataset.
    """

    id: str
    tenant: str
    kind: str
    name: str
    bytes: int
    received: int
    created_at: float
    created_by: str
    expires_at: float
    sha256: str | None = None


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to which thing, and when."""

    id: int
    at: float
    tenant: str
    who: str
    action: str
    target: str
    detail: Json


@dataclass(frozen=True)
class Replay:
    """The answer that was given before under the same Idempotency-Key.

    ``status`` is None while the first request is still being answered.
    """

    digest: str
    status: int | None
    body: Any


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list; ``cursor`` gives the next one, None after the last."""

    items: list[T]
    cursor: str | None = None
