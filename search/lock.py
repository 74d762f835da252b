"""One process at a time: a lock on a file, which the system takes back whoever dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BadInput


def take(path: Path) -> int:
    """Lock a file, which is made where it is missing; closing the descriptor lets go of it.

    Raises:
        BadInput: another process holds it.
    """
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise BadInput(
            "the run is in use",
            value=str(path.parent),
            bound="a run that no other process works on",
            remedy="Wait for the other process, or stop it.",
        ) from None
    return lock


@contextmanager
def held(path: Path) -> Iterator[None]:
    """:func:`take` for a while."""
    lock = take(path)
    try:
        yield
    finally:
        os.close(lock)
