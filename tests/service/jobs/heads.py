"""Heads of a Ray cluster: one that stands in, with what we use of the Jobs API, and a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class StandIn(ThreadingHTTPServer):
    """Runs what is submitted as a process of this machine; its word can be made to lie."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.lie: str | None = None
        self.lock = threading.Lock()
        self.stopped: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["submission_id"]
        if name in self.jobs:
            return 500, f"Job with submission_id {name} already exists"
        self.jobs[name] = subprocess.Popen(
            body["entrypoint"],
            shell=True,
            env=os.environ | body["runtime_env"]["env_vars"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        return 200, {"submission_id": name}

    def status(self, name: str) -> tuple[int, Any]:
        if name not in self.jobs:
            return 404, f"Job {name} does not exist"
        code = self.jobs[name].poll()
        word = "RUNNING" if code is None else "SUCCEEDED" if code == 0 else "FAILED"
        return 200, {"status": self.lie or word}

    def stop(self, name: str) -> tuple[int, Any]:
        self.stopped.append(name)
        with suppress(ProcessLookupError):
            os.killpg(self.jobs[name].pid, signal.SIGTERM)
        return 200, {"stopped": True}

    def die(self) -> None:
        """As a head does: with it goes what was submitted to it."""
        self.shutdown()
        self.server_close()
        for job in self.jobs.values():
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        version = self.path == "/api/version"
        self._answer(*((200, {"ray_version": "0"}) if version else self.server.status(name)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/stop"):
            self._answer(*self.server.stop(self.path.split("/")[-2]))
        else:
            with self.server.lock:
                self._answer(*self.server.submit(json.loads(body)))

    def _answer(self, code: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def stand_in() -> Iterator[StandIn]:
    head = StandIn()
    thread = threading.Thread(target=head.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield head
    finally:
        head.die()
        thread.join()


@contextmanager
def real(folder: Path, port: int, token: str) -> Iterator[str]:
    """A head of ray[default]; address of its dashboard."""
    program = str(Path(sys.executable).with_name("ray"))
    subprocess.run(
        [
            program, "start", "--head", f"--port={port}", f"--dashboard-port={port + 1}",
            f"--dashboard-agent-listen-port={port + 2}", "--include-dashboard=true",
            f"--temp-dir={folder}", "--num-cpus=2", "--disable-usage-stats",
        ],
        env=os.environ | {"RAY_AUTH_TOKEN": token},
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port + 1}"
    finally:
        kill_head(folder)


def kill_head(folder: Path) -> None:
    """SIGKILL for everything of a head, told by its folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
