"""The process that watches over one attempt at a job: ``python -m service.jobs.supervise``.

It starts the engine, keeps its log, notes how it ended, and leaves nothing of it running. The
service may die meanwhile; this process lives on, and is found again by pid and start time.

There are two of it, so that even SIGKILL of one leaves nothing running: the outer one, which the
service knows, and the inner one, the engine's parent. Orphans below either come to it (Linux's
PR_SET_CHILD_SUBREAPER); when the outer one dies, the inner one is told (PR_SET_PDEATHSIG) and kills
everything; when the inner one dies, the outer one does.

Files in the job's folder: ``wrapper.json`` (who watches, since the start), ``log.txt`` (what the
engine says; the half before it in ``log.1.txt`` when it grows), ``exit.json`` (how it ended).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from service.jobs.processes import HELD, adopt_orphans, die_with_parent, identity, sweep

#: variable with the seconds between two touches of the file ``beat``, for who watches from afar
BEAT = "UNDERSTUDY_BEAT"
#: a file by which the engine is stopped from afar: ``{"grace": seconds}``
STOP = "stop.json"
#: bytes of log.txt at which it becomes log.1.txt
LOG_BYTES = 4_000_000
#: bytes of the engine's last line that are kept; a longer one is no error's
SAID_BYTES = 6_000
#: bytes that are put aside for exit.json from the start: a full disk must not swallow the end
_RESERVED = 8_192
#: seconds that a wrapper waits for the one before it, of an attempt that was killed, to be gone
_PATIENCE = 20.0


def main(arguments: list[str]) -> int:
    """Watch over ``FOLDER ATTEMPT GRACE ENGINE ARGUMENT…`` until it ends."""
    folder, attempt, grace = Path(arguments[0]).absolute(), int(arguments[1]), float(arguments[2])
    argv = arguments[3:]
    os.chdir(folder)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until somebody listens to them
    # the lock is both processes' own: it is free when both are gone, and with them the engine
    lock = os.open(folder / "wrapper.lock", os.O_CREAT | os.O_RDWR, 0o644)
    if not _locked(lock, folder, attempt):
        return 0
    record = {"attempt": attempt} | identity(os.getpid())
    write_json(folder / "wrapper.json", record)
    reserve(folder / ".exit.json.part")
    adopt_orphans()
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        _become_inner(folder, attempt, grace, argv, outer)

    def tell(_number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(inner, signal.SIGINT)

    for number in signals:
        signal.signal(number, tell)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    _, status = _wait(inner)
    sweep()
    if not _ended(folder, attempt):
        note_exit(folder, attempt, None, f"its supervisor ended: {_how(status)}", None)
    return 0


def _locked(lock: int, folder: Path, attempt: int) -> bool:
    """Whether this process is the one that does this attempt."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:  # a file system that knows no locks
                return not _ended(folder, attempt)
            there = read_json(folder / "wrapper.json").get("attempt")
            if there == attempt or time.monotonic() > end:
                return False
            time.sleep(0.02)
            continue
        return not _ended(folder, attempt)


def _become_inner(
    folder: Path, attempt: int, grace: float, argv: list[str], outer: int
) -> NoReturn:
    """The child of the fork: it never returns into the parent's code."""
    code = 70
    try:
        os.setsid()  # signals to the outer one's group are not for us
        adopt_orphans()
        die_with_parent(signal.SIGTERM, outer)
        code = _Engine(folder, attempt, grace, argv).run()
    finally:
        os._exit(code)


class _Engine:
    """The engine as a child of the inner process."""

    def __init__(self, folder: Path, attempt: int, grace: float, argv: list[str]) -> None:
        self.folder, self.attempt, self.grace, self.argv = folder, attempt, grace, argv
        self.log = _Log(folder / "log.txt")
        self.last = _LastLine()
        self.kill_at: float | None = None
        self.why = ""
        self.beat = float(os.environ.get(BEAT, "0"))
        self.beat_at = 0.0

    def run(self) -> int:
        read, write = os.pipe()
        for end in (read, write):
            os.set_blocking(end, False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        me = os.getpid()
        try:
            engine = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, me),
            )
        except OSError as error:
            reason = f"the engine cannot be started: {error.strerror}"
            note_exit(self.folder, self.attempt, 127, reason, None)
            return 0
        code = self._follow(engine, read)
        clean = sweep()
        self._drain(engine)
        self.log.close()
        reason = self.why or _in_words(code)
        if not clean:
            reason += "; some of its processes could not be killed"
        note_exit(self.folder, self.attempt, code, reason, self.last.json())
        return 0

    def _follow(self, engine: subprocess.Popen[bytes], signals: int) -> int:
        """Keep the log until the engine itself has ended."""
        assert engine.stdout is not None
        assert engine.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            for stream in (engine.stdout, engine.stderr):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while True:
                code = engine.poll()
                if code is not None:
                    return code
                self._show(engine)
                for key, _ in selector.select(self._pause()):
                    if key.fileobj == signals:
                        self._heed(os.read(signals, 64), engine)
                    elif not self._take(key.fileobj, engine):
                        selector.unregister(key.fileobj)
                if self.kill_at is not None and time.monotonic() >= self.kill_at:
                    self.kill_at = time.monotonic() + 1.0
                    engine.kill()

    def _pause(self) -> float | None:
        """Seconds until something is due; None where nothing is."""
        due = [at for at in (self.kill_at, self.beat_at or None) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _show(self, engine: subprocess.Popen[bytes]) -> None:
        """Show whoever watches from afar that we are here, and see what they want."""
        if not self.beat or time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + self.beat
        with contextlib.suppress(OSError):
            (self.folder / "beat").write_text(str(time.time()))
        asked = read_json(self.folder / STOP)
        if asked:
            self._heed(bytes([signal.SIGINT if asked.get("grace") else signal.SIGTERM]), engine)

    def _heed(self, numbers: bytes, engine: subprocess.Popen[bytes]) -> None:
        """SIGTERM comes of the outer process's death: nobody waits for a clean end any more."""
        if signal.SIGTERM in numbers:
            self.why, self.kill_at = "its supervisor was killed", time.monotonic()
        elif signal.SIGINT in numbers and not self.why:
            self.why, self.kill_at = "stopped", time.monotonic() + self.grace
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGINT)

    def _take(self, stream: Any, engine: subprocess.Popen[bytes]) -> bool:
        """Pass on what the engine has written; False at the end of a stream."""
        try:
            text = os.read(stream.fileno(), 65_536)
        except BlockingIOError:
            return True
        self.log.write(text)
        if stream is engine.stdout:
            self.last.feed(text)
        return bool(text)

    def _drain(self, engine: subprocess.Popen[bytes]) -> None:
        """What is left in the pipes; everybody who could write to them is dead."""
        for stream in (engine.stdout, engine.stderr):
            with contextlib.suppress(OSError, ValueError):
                while self._take(stream, engine):
                    if not selectors_ready(stream):
                        break


def selectors_ready(stream: Any) -> bool:
    """Whether there is more to read at once."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(0))


class _Log:
    """A log that cannot fill the disk: when it has grown, what is older gives way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        self.file: int | None = None

    def write(self, text: bytes) -> None:
        """A full disk costs lines of the log, and no job."""
        with contextlib.suppress(OSError):
            if self.size > LOG_BYTES:
                self.close()
                self.path.replace(self.path.with_name("log.1.txt"))
                self.size = 0
            if self.file is None:
                self.file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
            self.size += os.write(self.file, text)

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


class _LastLine:
    """The last line of a stream, as far as it is short."""

    def __init__(self) -> None:
        self.line, self.rest = b"", b""

    def feed(self, text: bytes) -> None:
        *whole, self.rest = (self.rest + text).split(b"\n")
        for line in whole:
            if line.strip():
                self.line = line[: SAID_BYTES + 1]
        self.rest = self.rest[: SAID_BYTES + 1]

    def json(self) -> dict[str, Any] | None:
        line = self.rest.strip() or self.line
        if len(line) <= SAID_BYTES:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                return found if isinstance(found, dict) else None
        return None


def reserve(path: Path) -> None:
    """Put bytes aside for a small file to come."""
    with path.open("wb") as file:
        file.write(b" " * _RESERVED)
        file.flush()
        os.fsync(file.fileno())


def note_exit(
    folder: Path, attempt: int, code: int | None, reason: str, said: dict[str, Any] | None
) -> None:
    """Write exit.json, whole or not at all, into the place that was put aside for it."""
    values = {"attempt": attempt, "code": code, "reason": reason, "said": said, "at": time.time()}
    text = json.dumps(values).encode()
    if len(text) > _RESERVED:
        text = json.dumps(values | {"said": None}).encode()
    draft = folder / ".exit.json.part"
    with contextlib.suppress(FileNotFoundError), draft.open("r+b") as file:
        file.write(text.ljust(_RESERVED))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / "exit.json")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small file, whole or not at all. (:mod:`edge.files` would load numpy for it.)"""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(json.dumps(values))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """What a file of ours holds; nothing where it is not there."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _ended(folder: Path, attempt: int) -> bool:
    return read_json(folder / "exit.json").get("attempt") == attempt


def _wait(pid: int) -> tuple[int, int]:
    """Wait for a child, and for orphans that have come here meanwhile."""
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            return found, status


def _how(status: int) -> str:
    return _in_words(os.waitstatus_to_exitcode(status))


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
