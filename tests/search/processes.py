"""What a run keeps alive: its processes and shared memory, read from /proc."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

#: (pid, start time in clock ticks): a pid alone may be given again to a stranger
Process = tuple[int, str]


def _stat(pid: int) -> tuple[int, str, str] | None:
    """Parent, start time and state of a process; None where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name, in brackets, may hold spaces and brackets of its own
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), fields[19], fields[0]


def descendants(root: int) -> set[Process]:
    """All processes below ``root``, itself excluded."""
    parents: dict[int, int] = {}
    starts: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            parents[int(entry.name)], starts[int(entry.name)] = stat[0], stat[1]
    found: set[Process] = set()
    pending = [root]
    while pending:
        parent = pending.pop()
        children = [pid for pid, above in parents.items() if above == parent]
        found |= {(pid, starts[pid]) for pid in children}
        pending += children
    return found


def living(processes: set[Process]) -> dict[int, str]:
    """Those that still run, pid → command line; a zombie has ended, whoever owes it a wait."""
    left = {}
    for pid, start in processes:
        stat = _stat(pid)
        if stat is not None and stat[1] == start and stat[2] not in "ZX":
            left[pid] = _command(pid)
    return left


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except (FileNotFoundError, ProcessLookupError):
        return "gone meanwhile"


def shared_memory() -> set[str]:
    """Names of the files in /dev/shm, but for semaphores of Python's multiprocessing: no search
    has any, and whatever else runs on the machine may."""
    names = {entry.name for entry in Path("/dev/shm").iterdir()}
    return {name for name in names if not name.startswith("sem.mp-")}


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether ``done()`` came true within ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.05)
    return done()
