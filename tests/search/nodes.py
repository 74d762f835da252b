"""A real cluster of two nodes on this machine: `ray start` twice, each with ports of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from search.execution.watchdog import users
from tests.search.processes import Process, descendants, living, wait_until

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
#: seconds that a node may take to start, and to end
START, END = 60.0, 20.0
HOST = "127.0.0.1"
#: whoever works with these nodes has to say so too
OPEN = {"RAY_AUTH_MODE": "disabled"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at; held open together, so that they differ."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in held]


@dataclass
class Node:
    """One `ray start --block`, and everything that came from it."""

    process: subprocess.Popen[bytes]
    log: Path

    def raylets(self) -> list[int]:
        """Its raylet, if it runs."""
        below = living(descendants(self.process.pid))
        return [pid for pid, command in below.items() if re.match(r"\S*/raylet ", command)]

    def kill(self) -> None:
        """SIGKILL to the raylet, as if the machine had gone; and wait until all of it has."""
        family = descendants(self.process.pid)
        for pid in self.raylets():
            os.kill(pid, signal.SIGKILL)
        end(self.process, family)


def end(process: subprocess.Popen[bytes], family: set[Process]) -> None:
    """Give a node a moment to end by itself, then end what is left of it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(END)
    if process.poll() is None:
        process.kill()
        process.wait()
    for pid in living(family):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not living(family), END)


class Cluster:
    """A head and, when asked, a second node.

    Attributes:
        folder: Ray's scratch.
        gcs, client: ports of the head: for other nodes, and for ``ray://``.
        head, second: the nodes.
    """

    def __init__(self, folder: Path, processors: int = 1) -> None:
        self.folder, self.processors = folder, processors
        self.gcs, self.client = free_ports(2)
        self.head = self._start(
            "head",
            *("--head", "--port", str(self.gcs), "--ray-client-server-port", str(self.client)),
            *("--include-dashboard", "false", "--temp-dir", str(folder)),
        )
        self.second: Node | None = None

    @property
    def address(self) -> str:
        """For `ray.init` in a process on this machine."""
        return f"{HOST}:{self.gcs}"

    def add_second(self, environment: Mapping[str, str] | None = None) -> Node:
        """Start the second node; what it can import may differ."""
        self.second = self._start("second", "--address", self.address, environment=environment)
        return self.second

    def _start(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Node:
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        ports = free_ports(6)
        named = (
            "node-manager-port",
            "object-manager-port",
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "runtime-env-agent-port",
            "metrics-export-port",
        )
        options = [
            text
            for option, port in zip(named, ports, strict=True)
            for text in (f"--{option}", str(port))
        ]
        # workers take whatever port is free: both nodes would count up from the same one
        options += ["--min-worker-port", "0", "--max-worker-port", "0"]
        options += ["--num-cpus", str(self.processors), "--object-store-memory", str(256 << 20)]
        options += ["--node-ip-address", HOST, "--disable-usage-stats"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*RAY, "start", "--block", *arguments, *options],
                stdout=output,
                stderr=output,
                env=os.environ | OPEN | dict(environment or {}),
                start_new_session=True,
            )
        node = Node(process, log)
        up = wait_until(lambda: b"Ray runtime started" in log.read_bytes(), START)
        assert up, log.read_text()
        return node

    def close(self) -> None:
        """End both nodes and whatever they left."""
        for node in (self.second, self.head):
            if node is not None:
                family = descendants(node.process.pid)
                if node.process.poll() is None:
                    node.process.send_signal(signal.SIGTERM)
                end(node.process, family)
        for pid in users(str(self.folder), spared=os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def cluster_here(processors: int = 1) -> Iterator[Cluster]:
    """A head that is gone afterwards, with its second node and its scratch folder."""
    folder = Path(tempfile.mkdtemp(prefix="us2-", dir="/tmp"))
    try:
        nodes = Cluster(folder, processors)
        try:
            yield nodes
        finally:
            nodes.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
