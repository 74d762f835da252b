"""The two errors a user can mend, raised by every layer and shown as one line."""

from __future__ import annotations

from collections.abc import Collection


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message always names the value that was found, the bound it breaks and the remedy, so
    that nobody has to read our source to go on. The command line turns it into exit code 2.
    """

    def __init__(self, problem: str, *, value: object, bound: str, remedy: str) -> None:
        super().__init__(f"{problem}: got {value}; expected {bound}. {remedy}")
        self.problem = problem
        self.value = value
        self.bound = bound
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling of exceptions, and Ray pickles
        # the errors of its workers.
        return _rebuild, (self.problem, self.value, self.bound, self.remedy)


def _rebuild(problem: str, value: object, bound: str, remedy: str) -> BadInput:
    return BadInput(problem, value=value, bound=bound, remedy=remedy)


def check_member(
    what: str, name: str, known: Collection[str], remedy: str = "Choose one of these."
) -> None:
    """BadInput where an open set (losses, families, presets, …) holds no member of that name."""
    if name not in known:
        raise BadInput(
            f"unknown {what}",
            value=repr(name),
            bound=f"one of {', '.join(sorted(known))}",
            remedy=remedy,
        )


class MissingExtra(RuntimeError):
    """A command needs packages that the base install leaves out."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed: pip install 'understudy[{extra}]'"
        )
        self.what = what
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        return MissingExtra, (self.what, self.extra)
