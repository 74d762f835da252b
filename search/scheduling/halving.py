"""Successive halving: which candidates are worth the rest of their training.

Optuna's pruner decides. Candidates pause at rungs, after 1, N, N², … epochs of the proxy
training, and about one in N of those that meet at a rung goes on; the best always does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from typing import TypeVar

from edge.errors import BadInput

Name = TypeVar("Name", bound=Hashable)


class Halving:
    """The rungs of one search.

    Attributes:
        factor: one in so many goes on; 1 stops nobody.
        epochs: of a training that nobody stops.
        rungs: epochs at which candidates are compared, ascending; none where ``factor`` is 1.
    """

    def __init__(self, epochs: int, factor: int = 1) -> None:
        """Lay out the rungs.

        Raises:
            BadInput: there is no epoch to stop at before the last one.
        """
        if factor > 1 and epochs < 2:
            raise BadInput(
                "there is nothing to halve",
                value=f"--halving {factor} with --proxy-epochs {epochs}",
                bound="2 proxy epochs or more",
                remedy="Raise --proxy-epochs, or leave --halving at 1.",
            )
        self.factor, self.epochs = factor, epochs
        rungs: list[int] = []
        if factor > 1:
            while factor ** len(rungs) < epochs:
                rungs.append(factor ** len(rungs))
        self.rungs = tuple(rungs)

    @property
    def stops(self) -> tuple[int, ...]:
        """The rungs, and the end of the training."""
        return (*self.rungs, self.epochs)

    def after(self, epoch: int) -> int:
        """The first stop later than ``epoch``."""
        return next(stop for stop in self.stops if stop > epoch)

    def survivors(self, rewards: Mapping[Name, float]) -> set[Name]:
        """Who goes on, of candidates that are all at the same rung; ``rewards`` are those for the
        accuracy there.

        Equal rewards share their fate, and the order does not matter.
        """
        values = sorted(rewards.values())
        # the pruner judges who comes last; whoever beats a survivor survives
        cut = bisect_left(values, True, key=lambda value: self._goes_on(value, values))
        return {name for name, value in rewards.items() if value in values[cut:]}

    def _goes_on(self, value: float, values: list[float]) -> bool:
        rung = Rung(self.factor)
        others = list(values)
        others.remove(value)
        for other in others:
            rung.enter(other)
        return rung.enter(value)


class Rung:
    """A rung that candidates reach one by one: each is compared with those before it."""

    def __init__(self, factor: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=factor)
        # in memory; the ledger's own study holds what came of it
        self.study = optuna.create_study(direction="maximize", pruner=pruner)

    def enter(self, reward: float) -> bool:
        """Whether a candidate with this reward goes on."""
        trial = self.study.ask()
        trial.report(reward, step=1)
        return not trial.should_prune()
