"""A run's candidates in another order: who wins now, why, and how to ship the new winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from understudy.cards import card

if TYPE_CHECKING:
    from understudy.results import Results


@dataclass(frozen=True)
class Reranking:
    """Candidates before and after a change of thresholds.

    Attributes:
        told: everything, as ``understudy rerank --json`` prints it.
        ship: trains and ships the new winner.
    """

    told: Mapping[str, Any]
    ship: Callable[..., Results] = field(repr=False)

    @property
    def changed(self) -> bool:
        """Whether another candidate wins."""
        return bool(self.told["changed"])

    @property
    def winner(self) -> Mapping[str, Any]:
        """The candidate that wins now."""
        winner: Mapping[str, Any] = self.told["after"]["winner"]
        return winner

    @property
    def before(self) -> Mapping[str, Any]:
        """The candidate that won before."""
        winner: Mapping[str, Any] = self.told["before"]["winner"]
        return winner

    @property
    def why(self) -> list[str]:
        """Which threshold binds, what moved the winner, what the next best lacks."""
        return list(self.told["why"])

    @property
    def table(self) -> list[Mapping[str, Any]]:
        """The best candidates now, the winner first."""
        return list(self.told["table"])

    def finalize(self, **how: Any) -> Results:
        """Train the new winner in full and ship it, in a run of its own.

        Args:
            how: of a run in a folder ``out`` (its folder; else RUN-2 and so on); and ``progress``.
        """
        return self.ship(**how)

    def __repr__(self) -> str:
        return f"Reranking({_line(self.before)} → {_line(self.winner)})"

    def _repr_html_(self) -> str:
        lines = [("before", _line(self.before)), ("now", _line(self.winner))]
        return card("Re-ranking", " ".join(f"{line}." for line in self.why), lines)


def _line(row: Mapping[str, Any]) -> str:
    return f"candidate {row['number']}, {row['kb']:,.1f} KB, {row['expected']:.2%} expected"
