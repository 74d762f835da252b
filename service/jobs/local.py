"""The local runner: a process of this machine for each job, which outlives the service."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.jobs import processes
from service.jobs.runner import Exit, Handle, Order
from service.jobs.supervise import read_json

#: where our packages lie
_ROOT = Path(__file__).resolve().parents[2]


class LocalRunner:
    """Engines as processes, each under :mod:`service.jobs.supervise`."""

    name = "local"

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._exits = _Exits()

    def start(self, order: Order) -> Handle:
        """Start the supervising process, unless it runs already, or has done so."""
        there = read_json(order.folder / "wrapper.json")
        again = there.get("attempt") == order.attempt
        if again or read_json(order.folder / "exit.json").get("attempt") == order.attempt:
            return self._handle(order, there if again else {"pid": 0, "began": None})
        child = self._spawn(order)
        self._children[child.pid] = child
        return self._handle(order, processes.identity(child.pid))

    def _spawn(self, order: Order) -> subprocess.Popen[bytes]:
        words = (str(order.folder), str(order.attempt), str(order.grace), *order.argv)
        with (order.folder / "supervise.log").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "service.jobs.supervise", *words],
                env=os.environ
                | surroundings()
                | dict(order.env)
                | {processes.MARK: mark_of(order.folder, order.attempt)},
                cwd=order.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def _handle(self, order: Order, who: Mapping[str, Any]) -> Handle:
        handle = dict(who) | {"attempt": order.attempt, "folder": str(order.folder)}
        self._exits.watch(handle)
        return handle

    def poll(self, handle: Handle) -> Exit | None:
        """How it ended, by what its supervisor wrote; one that was killed wrote nothing."""
        self._exits.watch(handle)
        child = self._children.get(handle["pid"])
        if child is not None and child.poll() is not None:
            del self._children[handle["pid"]]
        folder = Path(handle["folder"])
        if processes.lives(handle) or self._other(handle) is not None:
            return None
        if processes.locked(folder / "wrapper.lock"):
            return None  # its other half is still seeing to what is left
        found = read_json(folder / "exit.json")
        if found.get("attempt") == handle["attempt"]:
            return Exit(found["code"], found["reason"], found["said"])
        if processes.kill_marked(mark_of(folder, handle["attempt"])):
            return None  # both halves were killed at once, and left somebody
        return Exit(None, "its process was killed, or the machine went down")

    def stop(self, handle: Handle, grace: float) -> None:
        """SIGTERM or SIGKILL for the supervisor, which sees to the rest."""
        number = signal.SIGTERM if grace > 0 else signal.SIGKILL
        for who in (handle, self._other(handle)):
            if who is not None:
                processes.send(who, number)

    def _other(self, handle: Handle) -> Handle | None:
        """Another supervisor of the same attempt, which lives.

        There is one where the service died after it had started one and before it could say so.
        """
        there = read_json(Path(handle["folder"]) / "wrapper.json")
        if there.get("attempt") != handle["attempt"] or there.get("pid") == handle["pid"]:
            return None
        return there if processes.lives(there) else None

    def on_exit(self, wake: Callable[[], None]) -> None:
        """Call it when a supervisor ends."""
        self._exits.wake = wake

    def close(self) -> None:
        """Watch no more; jobs go on."""
        self._exits.close()
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # it goes on, and is nobody's to wait for


class _Exits:
    """One thread that sleeps until any of many processes ends, children or not."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._watched: set[tuple[int, Any]] = set()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._read, self._write = os.pipe()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._new: list[tuple[int, tuple[int, Any]]] = []

    def watch(self, handle: Handle) -> None:
        """From now on; nothing where it is watched, or dead, or this system cannot."""
        key = (int(handle["pid"]), handle.get("began"))
        if key in self._watched or not hasattr(os, "pidfd_open") or not processes.lives(handle):
            return
        with suppress(OSError), self._lock:
            self._new.append((os.pidfd_open(key[0]), key))
            self._watched.add(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
                self._thread.start()
        with suppress(OSError):
            os.write(self._write, b"n")

    def close(self) -> None:
        with suppress(OSError):
            os.write(self._write, b"q")
        if self._thread is not None:
            self._thread.join(5)
        for number in (self._read, self._write):
            with suppress(OSError):
                os.close(number)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._read:
                    if b"q" in os.read(self._read, 4096):
                        return
                    continue
                self._selector.unregister(key.fileobj)
                os.close(key.fd)
                self._watched.discard(key.data)
                self.wake()
            with self._lock:
                new, self._new = self._new, []
            for file, who in new:
                self._selector.register(file, selectors.EVENT_READ, who)


def mark_of(folder: Path, attempt: int) -> str:
    """Of everything that an attempt starts (:data:`service.jobs.processes.MARK`)."""
    return f"{folder}#{attempt}."


def surroundings() -> dict[str, str]:
    """Variables by which a child finds our packages, wherever the service was started."""
    if str(_ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": str(_ROOT) + (os.pathsep + before if before else "")}
