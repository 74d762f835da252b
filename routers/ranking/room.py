"""What limits on size leave for a router beside its student."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import BadInput

#: KB that every score that needs no fitting fits into: what a limit on the pair leaves for one
SCORE_KB = 1.0


@dataclass(frozen=True)
class Room:
    """Limits on a pair, as its student leaves them.

    Attributes:
        student_kb: of fp32 weights.
        wished_kb: of student and router: a router above it is chosen where no other is as good.
        most_kb: of both: a router above it is out of the race.
    """

    student_kb: float = 0.0
    wished_kb: float | None = None
    most_kb: float | None = None

    def pair_kb(self, router_bytes: int) -> float:
        """Student and router."""
        return self.student_kb + router_bytes / 1024

    def holds(self, router_bytes: int) -> bool:
        """Whether the pair keeps the hard limit."""
        return self.most_kb is None or self.pair_kb(router_bytes) <= self.most_kb + 1e-9

    def suits(self, router_bytes: int) -> bool:
        """Whether it keeps the wish."""
        return self.wished_kb is None or self.pair_kb(router_bytes) <= self.wished_kb + 1e-9

    def refusal(self, smallest: tuple[int, str]) -> BadInput:
        """Of routers of which not even the smallest, of so many bytes and this name, has room."""
        size, name = smallest
        least = self.pair_kb(size)
        return BadInput(
            "no router keeps the limit on the pair",
            value=f"--max-pair-kb {self.most_kb:g}; the student takes {self.student_kb:,.1f} KB",
            bound=f"at least {least:.4g} KB, with the smallest router, {name} "
            f"of {size / 1024:.2g} KB",
            remedy="Raise --max-pair-kb, or search a smaller student: --max-kb.",
        )


ANY_ROOM = Room()
