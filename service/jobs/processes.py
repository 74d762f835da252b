"""Processes of the system: told apart by pid and start time, bound to their parents, swept up.

Standard library alone: the supervising process of every job loads this.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before any fork
#: variable by which everything that an attempt has started can be told
MARK = "UNDERSTUDY_ATTEMPT"
#: what is answered of a lock that somebody holds
HELD = (errno.EWOULDBLOCK, errno.EACCES)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from any other, past or to come, that has the same number."""
    return {"pid": pid, "began": began(pid), "boot": _boot(), "host": socket.gethostname()}


def began(pid: int) -> str | None:
    """When a process began, in ticks since the boot; None where there is none, or a dead one that
    nobody has asked about yet."""
    if not LINUX:
        return "-" if _there(pid) else None
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def lives(who: Mapping[str, Any]) -> bool:
    """Whether that very process is there. One of another machine is believed to be."""
    if who.get("host", socket.gethostname()) != socket.gethostname():
        return True
    if who.get("began") is None or who.get("boot") != _boot():
        return False
    return began(int(who["pid"])) == str(who["began"])


def send(who: Mapping[str, Any], number: signal.Signals) -> None:
    """Signal that very process, and never another that has been given its number since."""
    pid = int(who["pid"])
    if who.get("host", socket.gethostname()) != socket.gethostname():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            if lives(who):
                os.kill(pid, number)
            return
        file = os.pidfd_open(pid)  # from now on the number cannot come to mean another
        try:
            if lives(who):
                signal.pidfd_send_signal(file, number)
        finally:
            os.close(file)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Be signalled when the parent dies, whatever kills it; at once where it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def sweep(seconds: float = 10.0) -> bool:
    """Kill every process below this one and wait for them; whether none is left.

    Needs :func:`adopt_orphans` before they were started: whoever's parent dies comes here.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for pid in below(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(0.005)
    return False


def marked(start: str) -> list[int]:
    """Processes whose mark begins like this: of an attempt, a job's folder, or a service's."""
    entry = f"{MARK}={start}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            there = (folder / "environ").read_bytes().split(b"\0")
            if any(one.startswith(entry) for one in there) and began(int(folder.name)) is not None:
                found.append(int(folder.name))
    return found


def kill_marked(mark: str) -> int:
    """Kill every process that has the mark of an attempt; how many there were."""
    pids = marked(mark)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def below(pid: int) -> list[int]:
    """Children of a process, their children and so on, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(words[1]), []).append(int(folder.name))
    found: list[int] = []
    parents = [pid]
    while parents:
        of = children.get(parents.pop(), [])
        found += of
        parents += of
    return found


def _prctl(option: int, value: int) -> None:
    if LINUX:
        _LIBC.prctl(option, value, 0, 0, 0)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"


def _there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def locked(path: Path) -> bool:
    """Whether anybody holds the lock on a file."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in HELD  # else this file system knows no locks
    finally:
        os.close(file)
    return False
