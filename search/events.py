"""What a job tells while it runs. Whoever drives it (command line, service, test) shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """The job enters its next part."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Note:
    """Something the user should know, such as the thresholds in force."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Progress:
    """Work done of work to do, within the present stage."""

    done: int
    total: int
    text: str = ""


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
    """

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


@dataclass(frozen=True)
class Finished:
    """The job is done; ``result`` is what ``--json`` prints."""

    result: Mapping[str, Any]


Event = Stage | Note | Progress | CandidateDone | Finished
