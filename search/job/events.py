"""Events of a job: plain data that it tells while it runs, and that anybody may show.

Each has a ``kind`` and is a JSON object on request, so that a run can be followed from another
process (:mod:`search.job.event_log`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Stage:
    """The job enters its next part."""

    kind: ClassVar[str] = "stage"

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Note:
    """Something the user should know, such as the thresholds in force.

    Attributes:
        text: in one sentence or two.
        warning: whether it is shown as one.
        name: of a warning about sense (a figure, a part or a network that cannot be right), such
            as "teacher-near-chance"; it then stands by that name in the result. Empty for what is
            merely told.
    """

    kind: ClassVar[str] = "note"

    text: str
    warning: bool = False
    name: str = ""

    @property
    def named_text(self) -> str:
        """As a manifest keeps it, where a warning is one text."""
        return f"{self.name}: {self.text}" if self.name else self.text


def has_name(warning: str) -> bool:
    """Whether a manifest's warning is a named one, and no caveat of the figures."""
    return re.match(r"[a-z0-9]+(-[a-z0-9]+)+: ", warning) is not None


@dataclass(frozen=True)
class Progress:
    """Work done of work to do, within the present stage."""

    kind: ClassVar[str] = "progress"

    done: int
    total: int
    text: str = ""


@dataclass(frozen=True)
class CandidateRunning:
    """A candidate under way has finished an epoch.

    Attributes:
        key: of the candidate, as in its :class:`CandidateDone`.
        number: 1, 2, … in the order in which candidates were handed out.
        kb: its size.
        epoch, epochs: done, and of the whole training.
        loss: mean over the epoch.
        accuracy: on the validation part; None where it was not measured.
        samples_per_second: of its training steps.
        where: the worker.
    """

    kind: ClassVar[str] = "candidate_running"

    key: str
    number: int
    kb: float
    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    samples_per_second: float
    where: str = ""


@dataclass(frozen=True)
class CandidateDone:
    """A candidate stands in the ledger.

    Attributes:
        number: 1, 2, … in the order of the ledger.
        budget: how many there will be.
        reward, accuracy, kb: of this candidate.
        best_reward, best_accuracy, best_kb: of the best so far.
        replayed: it was read from the ledger, not distilled now.
        reason: why it failed; empty where it did not.
        key: of the candidate.
        pruned: it was stopped at a rung; its figures are those of that epoch.
        epochs, seconds: that it trained for.
        mode: how its steps ran, such as "bf16 channels_last".
    """

    kind: ClassVar[str] = "candidate_done"

    number: int
    budget: int
    reward: float
    accuracy: float
    kb: float
    best_reward: float
    best_accuracy: float
    best_kb: float
    replayed: bool
    reason: str
    key: str = ""
    pruned: bool = False
    epochs: int = 0
    seconds: float = 0.0
    mode: str = ""


@dataclass(frozen=True)
class Finished:
    """The job is done; ``result`` is what ``--json`` prints."""

    kind: ClassVar[str] = "finished"

    result: Mapping[str, Any]


@dataclass(frozen=True)
class Started:
    """A process takes up the run; only the file of events tells it."""

    kind: ClassVar[str] = "started"

    pid: int


@dataclass(frozen=True)
class Stopped:
    """The process that worked on the run ends without finishing it; only the file tells it.

    ``reason``: in a sentence, or empty where somebody stopped it.
    """

    kind: ClassVar[str] = "stopped"

    reason: str = ""


#: what a job tells
Event = Stage | Note | Progress | CandidateRunning | CandidateDone | Finished

#: what stands in the file of events
Logged = Event | Started | Stopped

KINDS: dict[str, type[Logged]] = {
    event.kind: event
    for event in (
        *(Stage, Note, Progress, CandidateRunning, CandidateDone, Finished),
        *(Started, Stopped),
    )
}
#: numbers that JSON has no word for
_NO_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_dict(event: Logged) -> dict[str, Any]:
    """An event as a JSON object; :func:`from_dict` reads it back."""
    found: dict[str, Any] = {"kind": event.kind}
    for field in fields(event):
        value = getattr(event, field.name)
        unspeakable = isinstance(value, float) and not math.isfinite(value)
        found[field.name] = str(value) if unspeakable else value
    return found


def from_dict(values: Mapping[str, Any]) -> Logged:
    """The event of a JSON object; fields that it does not know, of a later version, are left out.

    Raises:
        ValueError: no event of a known kind.
    """
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"no event of a known kind: {values.get('kind')!r}")
    given: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in values:
            value = values[field.name]
            number = "float" in str(field.type) and isinstance(value, str)
            given[field.name] = _NO_NUMBERS.get(value, value) if number else value
        elif field.default is MISSING:
            raise ValueError(f"an event of kind {kind.kind} without {field.name}")
    return kind(**given)
