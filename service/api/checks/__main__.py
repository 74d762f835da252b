"""The process that checks an upload: limits first, then the check, then one line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.errors import BadInput

#: bytes of memory and of any one file, and seconds of a processor
MEMORY, FILE, SECONDS = 12 << 30, 64 << 30, 900


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard < 0 else min(most, hard), hard))


def _check(kind: str, incoming: Path, content: Path) -> dict[str, Any]:
    checks: dict[str, Callable[[Path, Path], dict[str, Any]]] = {}
    if kind == "teacher":
        from service.api.checks.teacher import check_teacher_upload

        checks[kind] = check_teacher_upload
    else:
        from service.api.checks.dataset import check_dataset_upload

        checks[kind] = check_dataset_upload
    return checks[kind](incoming, content)


def _answer(kind: str, incoming: Path, content: Path) -> dict[str, Any]:
    try:
        return {"facts": _check(kind, incoming, content)}
    except BadInput as error:
        return {
            "problem": {
                "problem": error.problem,
                "value": str(error.value)[:500],
                "bound": error.bound,
                "remedy": error.remedy,
                "field": error.field,
                "message": str(error),
            }
        }


def main() -> None:
    """Check ``KIND INCOMING CONTENT`` of the command line."""
    kind, incoming, content = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    _limit()
    # what a library prints is none of our answer
    answer = os.dup(1)
    os.dup2(2, 1)
    content.mkdir(parents=True, exist_ok=True)
    found = _answer(kind, incoming, content)
    with os.fdopen(answer, "w") as file:
        file.write(json.dumps(found, default=str) + "\n")


if __name__ == "__main__":
    main()
