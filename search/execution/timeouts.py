"""How long a candidate may take before it counts as hung."""

from __future__ import annotations

from dataclasses import dataclass

#: without a limit of the user's: an epoch may take so many times the longest so far,
FACTOR = 30
#: seconds that it may always take,
LEAST = 600.0
#: and seconds before anybody has ended an epoch
FIRST = 7200.0


@dataclass
class TrialTimeout:
    """The limit on a candidate's time.

    ``minutes`` is the user's, on all epochs of one job of a candidate. Without it the limit is on
    a single epoch, which may take thirty times the longest that any candidate has taken so far:
    students differ in speed, and a hang has no end.
    """

    minutes: float | None = None
    longest: float | None = None

    def epoch_took(self, seconds: float) -> None:
        """An epoch has come to its end."""
        self.longest = max(seconds, self.longest or 0.0)

    def limit(self, began: float, called: float) -> tuple[float, str]:
        """When to give up a candidate, and what to say then.

        Args:
            began: when the candidate began, on some clock.
            called: when its present epoch began, on the same clock.
        """
        if self.minutes is not None:
            return (
                began + 60 * self.minutes,
                f"it hung: not done in {self.minutes:g} minutes (--candidate-minutes)",
            )
        allowed = FIRST if self.longest is None else max(LEAST, FACTOR * self.longest)
        return called + allowed, f"it hung: no end of an epoch in {allowed / 60:.0f} minutes"
