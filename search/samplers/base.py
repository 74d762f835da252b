"""What the search asks of whoever proposes candidates, and what it tells in return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search.space.space import Actions
from teachers.distillation.checkpoint import Checkpoint


@dataclass(frozen=True)
class Observation:
    """What became of a proposal.

    Attributes:
        actions: as proposed. Another proposal that rounds to the same network has an outcome of
            its own, with the same figures.
        accuracy: on the validation part, that its full training is expected to reach; 0 where it
            failed.
        reward: under the job's thresholds; 0 where it failed.
        failed: there is no accuracy.
        pruned: it was stopped at a rung, so what is expected of it rests on fewer epochs.
        key: digest of the network after rounding, where it is known already: equal for duplicates.
    """

    actions: Actions
    accuracy: float
    reward: float
    failed: bool = False
    pruned: bool = False
    key: str = ""


class Sampler(Protocol):
    """Who proposes candidates.

    A sampler is asked for action vectors and later told what became of them: a batch at a time
    and in the order of proposal, or in streaming mode one at a time and in the order of arrival.
    Given the same seed, the same evidence, and the same questions and answers in the same order
    it makes the same proposals, which is what resuming rests on.
    """

    def propose(self, count: int) -> list[Actions]:
        """``count`` legal action vectors within the limits."""

    def tell(self, observations: Sequence[Observation]) -> None:
        """What became of proposals, each of them once.

        In synchronous mode all that was proposed last, in that order; in streaming mode a group
        as it arrived, while other proposals are still out.
        """

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        """Propose these first, before any proposal of its own; asked before the first one."""

    def warm(self, evidence: Sequence[Observation]) -> int:
        """What earlier jobs found out about candidates of this space; before the first proposal.

        Nothing of it was proposed here, and nothing of it is in this job's ledger. Rewards are
        under the present job's thresholds; a candidate may break its limits.

        Returns:
            How many outcomes it learns from; 0 from a sampler that learns only from proposals of
            its own, or not at all.
        """

    def save(self) -> Checkpoint:
        """All that the next proposals depend on, those that are still out included."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where another sampler of the same kind, space, seed and settings was saved.

        Raises:
            ValueError, KeyError: the checkpoint is none of this sampler's; it is then in no state
                to be used.
        """
