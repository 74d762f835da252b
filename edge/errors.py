"""The errors that a user is told in one line, raised by every layer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message always names the value that was found, the bound it breaks and the remedy, so
    that nobody has to read our source to go on. The command line turns it into exit code 2.
    ``field``: the field of the job that it is about, where it is about one.
    """

    def __init__(
        self, problem: str, *, value: object, bound: str, remedy: str, field: str | None = None
    ) -> None:
        super().__init__(f"{problem}: got {value}; expected {bound}. {remedy}")
        self.problem = problem
        self.value = value
        self.bound = bound
        self.remedy = remedy
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling of exceptions, and Ray pickles
        # the errors of its workers.
        return _rebuild, (self.problem, self.value, self.bound, self.remedy, self.field)


def _rebuild(
    problem: str, value: object, bound: str, remedy: str, field: str | None = None
) -> BadInput:
    return BadInput(problem, value=value, bound=bound, remedy=remedy, field=field)


def check_member(
    what: str,
    name: str,
    known: Collection[str],
    remedy: str = "Choose one of these.",
    field: str | None = None,
) -> None:
    """BadInput where an open set (losses, families, presets, …) holds no member of that name."""
    if name not in known:
        raise BadInput(
            f"unknown {what}",
            value=repr(name),
            bound=f"one of {', '.join(sorted(known))}",
            remedy=remedy,
            field=field,
        )


class Unfinished(RuntimeError):
    """A job stopped at an error of its own; what it has found is kept, and it can be gone on with.

    ``said``: the error in one line; ``kept``: the folder; ``command``: that goes on; ``details``:
    the file with the rest.
    """

    def __init__(self, said: str, *, kept: str, command: str, details: str) -> None:
        super().__init__(
            f"The job stopped at an error that it could not mend: {said}. Its candidates and "
            f"trained students are kept in {kept}. Go on with: {command}  It begins where this "
            f"one stopped; if it stops there again, {details} tells where, for a report of the "
            "fault."
        )
        self.said, self.kept, self.command, self.details = said, kept, command, details

    def __reduce__(self) -> tuple[object, ...]:
        return _unfinished, (self.said, self.kept, self.command, self.details)


def _unfinished(said: str, kept: str, command: str, details: str) -> Unfinished:
    return Unfinished(said, kept=kept, command=command, details=details)


class MissingExtra(RuntimeError):
    """A command needs packages that the base install leaves out."""

    def __init__(self, what: str, extra: str) -> None:
        self.what = what
        self.extra = extra
        self.remedy = f"Install them: {_install(extra)}"
        super().__init__(f"{what} needs packages that are not installed. {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return MissingExtra, (self.what, self.extra)


def _install(extra: str) -> str:
    """The command that installs an extra: understudy is on no index, but lies where it was."""
    origin = "{}"
    with suppress(PackageNotFoundError):
        origin = distribution("understudy").read_text("direct_url.json") or "{}"
    url = str(json.loads(origin).get("url", ""))
    source = unquote(urlsplit(url).path) if url.startswith("file:") else ""
    if not source or not (Path(source) / "pyproject.toml").is_file():
        return f"python -m pip install '.[{extra}]' in a clone of understudy"
    return f"python -m pip install {shlex.quote(f'{source}[{extra}]')}"
