"""What a command writes to: text as it is, on whatever terminal, and one JSON object for programs.

Names of files, classes and layers are their users'. Square brackets in them are no markup,
``:car:`` is no picture, and a letter that the terminal's encoding lacks ends no command.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from edge.errors import BadInput, MissingExtra

#: how letters are written that an encoding lacks
_AS_IT_IS = "understudy-as-it-is"


def console(*, stderr: bool = False, markup: bool = False, width: int | None = None) -> Console:
    """A console that prints text as it is; with ``markup`` what is not ours has to be escaped."""
    return Console(
        stderr=stderr, markup=markup, emoji=False, highlight=False, soft_wrap=True, width=width
    )


def _as_it_is(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of file names that are no text are written as those bytes, other letters as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    if all("\udc80" <= letter <= "\udcff" for letter in text):
        return bytes(ord(letter) - 0xDC00 for letter in text), error.end
    return codecs.backslashreplace_errors(error)


def spare_no_letter() -> None:
    """From now on no letter is too strange for stdout and stderr."""
    codecs.register_error(_AS_IT_IS, _as_it_is)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_AS_IT_IS)


def print_json(values: Any) -> None:
    """One JSON object as the last line of stdout; letters beyond ASCII as escapes."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def print_error(error: BadInput | MissingExtra, as_json: bool) -> None:
    """One line on stderr; for programs the same on stdout, in its parts."""
    console(stderr=True, markup=True).print(f"[bold red]Error:[/] {escape(str(error))}")
    if as_json:
        print_json({"error": parts_of(error)})


def parts_of(error: BadInput | MissingExtra) -> dict[str, Any]:
    """An error as JSON values: problem, value, bound, remedy, and all of it as a sentence."""
    if isinstance(error, MissingExtra):
        parts: dict[str, Any] = {
            "problem": f"{error.what} needs packages that are not installed",
            "value": None,
            "bound": f"the packages of the extra {error.extra!r}",
            "remedy": error.remedy,
        }
    else:
        value = error.value
        plain = value is None or isinstance(value, bool | int | float | str)
        parts = {
            "problem": error.problem,
            "value": value if plain else str(value),
            "bound": error.bound,
            "remedy": error.remedy,
        }
    return parts | {"message": str(error)}


def print_failure(problem: str, value: str, remedy: str) -> None:
    """What ended a command otherwise, for programs: no bound was broken."""
    message = f"{problem}: {value}" if value else problem
    parts = {"problem": problem, "value": value or None, "bound": None, "remedy": remedy}
    print_json({"error": parts | {"message": message}})
