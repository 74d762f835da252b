"""What a job tells while it runs. Whoever drives it (command line, service, test) shows it."""

from __future__ import annotations

import re
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
    """Something the user should know, such as the thresholds in force.

    Attributes:
        text: in one sentence or two.
        warning: whether it is shown as one.
        name: of a warning about sense (a figure, a part or a network that cannot be right), such
            as "teacher-near-chance"; it then stands by that name in the result. Empty for what is
            merely told.
    """

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

    result: Mapping[str, Any]


Event = Stage | Note | Progress | CandidateRunning | CandidateDone | Finished
