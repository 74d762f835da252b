"""One process at a time: a lock on a file, which the system takes back whoever dies.

The file says who holds it. On a file system that knows no locks, as some that reach over a network,
that line is all there is: a process of this machine is looked up, one of another is believed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge import made
from edge.errors import BadInput

#: what a file system answers that holds the lock for somebody else
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
#: characters of the line that are read
_LONGEST = 300


def take(path: Path) -> int:
    """Lock a file, which is made where it is missing; closing the descriptor lets go of it.

    Raises:
        BadInput: another process holds it, or it cannot be made.
    """
    there = path.exists()
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise BadInput(
            "the run cannot be written to",
            value=f"{path} ({error.strerror})",
            bound="a folder in which files can be made",
            remedy="Look at its owner and permissions, or copy the run elsewhere.",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD or _lives(_line(lock)):
            os.close(lock)
            raise _in_use(path) from None
    if not _is(lock, path):  # whoever made the file has taken it back just now
        os.close(lock)
        raise _in_use(path)
    os.truncate(lock, 0)
    os.pwrite(lock, _me().encode(), 0)
    if not there:
        made.note(path, grows=True)
    return lock


def let_go(lock: int) -> None:
    """Nobody holds it any more, not by its line either."""
    with suppress(OSError):
        os.truncate(lock, 0)
    os.close(lock)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """:func:`take` for a while."""
    lock = take(path)
    try:
        yield
    finally:
        let_go(lock)


def holder(path: Path) -> str | None:
    """Who holds a lock, as far as its line tells; None where nobody does."""
    try:
        line = path.read_text(encoding="utf-8", errors="replace")[:_LONGEST]
    except OSError:
        return None
    if not _lives(line):
        return None
    host, pid, *_ = line.split()
    return f"process {pid} on {host}"


def _in_use(path: Path) -> BadInput:
    who = holder(path)
    return BadInput(
        "the run is in use",
        value=f"{path.parent}, by {who}" if who else str(path.parent),
        bound="a run that no other process works on",
        remedy="Wait for the other process, or stop it; if it is long gone and another machine's, "
        f"remove {path.name} there.",
    )


def _line(lock: int) -> str:
    return os.pread(lock, _LONGEST, 0).decode("utf-8", "replace")


def _me() -> str:
    return f"{socket.gethostname() or 'here'} {os.getpid()} {_began(os.getpid())}"


def _lives(line: str) -> bool:
    """Whether who wrote the line may still be at work."""
    words = line.split()
    if len(words) != 3 or not words[1].isdigit():
        return False
    host, pid, began = words[0], int(words[1]), words[2]
    if host != (socket.gethostname() or "here"):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, but there
        pass
    return _began(pid) == began  # a number may be given again to a stranger


def _began(pid: int) -> str:
    """When a process began, in the words of /proc; the same for all where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"


def _is(lock: int, path: Path) -> bool:
    """Whether the file that was locked is still the one at ``path``."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(lock), path.stat())
    return False
