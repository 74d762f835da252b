"""Clears up behind a job, however it ended: a small process that outlives it by a moment.

A killed driver takes Ray's servers and workers with it, but the raylet's two agents go on for a
minute, trying to tell a server that is gone, and Ray's scratch folder stays for good. So a process
of our own waits for the end of its standard input, which comes even if the driver is killed; then
it ends whatever still has a file open in the scratch folder, as every process of that Ray has its
log, and removes the folder. It is run as a script and needs the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: seconds that clearing up may take
PATIENCE = 20.0
#: characters of a temporary folder that leave room for the names that Ray gives to its sockets
LONGEST = 25


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A new temporary folder that is gone afterwards, with every process that has files in it."""
    # Ray's sockets lie in it, and the path of a socket holds no more than about 100 characters
    short = len(tempfile.gettempdir()) <= LONGEST
    folder = tempfile.mkdtemp(prefix="understudy-", dir=None if short else "/tmp")
    # a session of its own, so that Ctrl-C in the terminal does not reach it
    with subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, folder, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as watchdog:
        try:
            yield folder
        finally:
            assert watchdog.stdin is not None
            watchdog.stdin.close()
            watchdog.wait()


def users(folder: str, spared: int) -> list[int]:
    """Processes with an open file under ``folder``, but for one; none where there is no /proc."""
    prefix = str(Path(folder).resolve()) + os.sep
    entries = Path("/proc").glob("[0-9]*")
    return [
        int(entry.name)
        for entry in entries
        if int(entry.name) not in (spared, os.getpid()) and _opens(entry / "fd", prefix)
    ]


def _opens(descriptors: Path, prefix: str) -> bool:
    try:
        return any(str(link.readlink()).startswith(prefix) for link in descriptors.iterdir())
    except OSError:  # it ended meanwhile, or belongs to somebody else
        return False


def clear(folder: str, spared: int) -> None:
    """End the users of ``folder`` and remove it, again and again until both are gone.

    Args:
        folder: scratch.
        spared: the driver, which may hold a log of its own open.
    """
    end = time.monotonic() + PATIENCE
    while (left := users(folder, spared)) or Path(folder).exists():
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > end:
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clear(sys.argv[1], int(sys.argv[2]))
