"""The runner on a Ray cluster, by Ray's Jobs API over HTTP: ``--runner http://HEAD:8265``.

What is submitted is the same supervisor as on this machine, which writes into the job's folder;
that folder is one that the cluster's nodes share with the service. Ray's word about a job can hang
or lie after a head's death, whether or not the job lives on, so what came of it is read from our
own files: ``exit.json``, and ``beat``, which is touched while the engine is supervised. Ray is
asked only about a supervisor that does not beat (yet). The service itself never imports ray.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from service.jobs.local import mark_of, surroundings
from service.jobs.processes import MARK
from service.jobs.runner import Exit, Handle, Order
from service.jobs.supervise import BEAT, STOP, read_json

#: seconds between two beats of a supervisor, and without one after which Ray is asked about it
BEATS, STALE = 1.0, 5.0
#: seconds that the head has to answer
TIMEOUT = 5.0
#: and to take a job, for which it starts an actor first
SUBMIT = 60.0
#: seconds between two questions about the same job
ASK = 2.0
#: Ray's words for a job that is still to come or at work
_ALIVE = ("PENDING", "RUNNING")


class RayRunner:
    """Engines on a cluster.

    Args:
        address: of the dashboard, as ``http://head:8265``.
        python: the interpreter of the cluster's nodes, which have understudy installed, or share
            this one's.
        token: that the cluster wants to see; else as Ray's own programs find it: in RAY_AUTH_TOKEN,
            or in the file that RAY_AUTH_TOKEN_PATH names.
        clock: seconds, from anywhere.
    """

    name = "ray"

    def __init__(
        self,
        address: str,
        python: str = sys.executable,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address, self.python, self.clock = address.rstrip("/"), python, clock
        self._token = token or _token()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="ray-jobs")
        self._submitted: dict[str, Future[str]] = {}
        self._beats: dict[str, tuple[float, float]] = {}
        self._asked: dict[str, tuple[float, Future[str | None]]] = {}

    def check(self) -> str:
        """The cluster's version of Ray.

        Raises:
            BadInput: nobody answers there, or no Jobs API.
        """
        try:
            return str(self._call("GET", "/api/version")["ray_version"])
        except (OSError, KeyError, ValueError) as error:
            raise BadInput(
                "no Ray cluster takes jobs there",
                value=f"{self.address} ({error})",
                bound="the dashboard of a head with ray[default]",
                remedy="Start it: ray start --head --dashboard-host=0.0.0.0, and name it with "
                "--runner. One that wants a token finds it in RAY_AUTH_TOKEN.",
            ) from None

    def start(self, order: Order) -> Handle:
        """Submit the supervisor; the cluster takes an attempt once, by its name."""
        name = f"{order.job_id}-{order.attempt}"
        handle = {"submission": name, "attempt": order.attempt, "folder": str(order.folder)}
        begun = read_json(order.folder / "wrapper.json").get("attempt") == order.attempt
        if begun or name in self._submitted:
            return handle
        argv = [self.python if word == sys.executable else word for word in order.argv]
        words = (str(order.folder), str(order.attempt), str(order.grace), *argv)
        variables = {**surroundings(), **order.env, BEAT: str(BEATS)}
        # the mark is the supervisor's and its engine's, not of what Ray starts beside them
        mark = f"{MARK}={mark_of(order.folder, order.attempt)}"
        supervisor = [self.python, "-P", "-m", "service.jobs.supervise", *words]
        for old in (STOP, "beat"):
            (order.folder / old).unlink(missing_ok=True)
        body = {
            "submission_id": name,
            "entrypoint": shlex.join(["env", mark, *supervisor]),
            "runtime_env": {"env_vars": variables},
            "metadata": {"understudy_job": order.job_id},
        }
        self._submitted[name] = self._pool.submit(self._submit, body)
        return handle

    def _submit(self, body: dict[str, Any]) -> str:
        """What the cluster has against it; nothing where it takes it, or has it already."""
        try:
            self._call("POST", "/api/jobs/", body, SUBMIT)
        except urllib.error.HTTPError as error:
            said = " ".join(error.read().decode("utf-8", "replace").split())
            return "" if "already exists" in said else f"the cluster refuses it: {said[-300:]}"
        except (OSError, ValueError) as error:
            return f"the cluster does not answer: {error}"
        return ""

    def poll(self, handle: Handle) -> Exit | None:
        """By the job's own files; by Ray's word only where they are silent."""
        name, folder = handle["submission"], Path(handle["folder"])
        found = read_json(folder / "exit.json")
        if found.get("attempt") == handle["attempt"]:
            self._forget(name)
            return Exit(found["code"], found["reason"], found["said"])
        submitted = self._submitted.get(name)
        if submitted is not None:
            if not submitted.done():
                return None
            del self._submitted[name]
            if submitted.result():
                self._forget(name)
                return Exit(None, submitted.result(), begun=False)
        if self._beats_on(name, folder):
            return None
        status = self._status(name)
        begun = read_json(folder / "wrapper.json").get("attempt") == handle["attempt"]
        if status == "asking" or (status in _ALIVE and not begun):
            return None
        if status in _ALIVE and self._silence(name) < 6 * STALE:
            return None  # a file system that is slow to show what another machine has written
        self._forget(name)
        return Exit(None, f"its supervisor is silent, and Ray says {status or 'nothing'}")

    def stop(self, handle: Handle, grace: float) -> None:
        """Ask by a file, which its supervisor sees. Ray is asked where there is no supervisor yet,
        and where nothing has come of the file: it gives an engine no time to end by itself."""
        folder = Path(handle["folder"])
        with suppress(OSError):
            (folder / STOP).write_text(json.dumps({"grace": grace}))
        begun = read_json(folder / "wrapper.json").get("attempt") == handle["attempt"]
        if grace <= 0 or not begun:
            self._pool.submit(self._quietly, "POST", f"/api/jobs/{handle['submission']}/stop")

    def on_exit(self, wake: Callable[[], None]) -> None:
        """Nobody tells: the scheduler looks from time to time."""

    def close(self) -> None:
        """Wait for no answer any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _beats_on(self, name: str, folder: Path) -> bool:
        """Whether the supervisor has shown itself of late. Only whether the file changes counts:
        another machine's clock may be any."""
        try:
            stamp = (folder / "beat").stat().st_mtime
        except OSError:
            stamp = 0.0
        now = self.clock()
        if self._beats.get(name, (None, 0.0))[0] != stamp:
            self._beats[name] = (stamp, now)
        return self._silence(name) < STALE

    def _silence(self, name: str) -> float:
        return self.clock() - self._beats[name][1]

    def _status(self, name: str) -> str | None:
        """Ray's word about a job; "asking" until there is one, None where nobody answers."""
        now = self.clock()
        asked = self._asked.get(name)
        if asked is None or now - asked[0] > ASK + TIMEOUT:
            asked = (now, self._pool.submit(self._quietly, "GET", f"/api/jobs/{name}"))
            self._asked[name] = asked
        if not asked[1].done():
            return "asking"
        if now - asked[0] > ASK:
            self._asked[name] = (now, self._pool.submit(self._quietly, "GET", f"/api/jobs/{name}"))
        return asked[1].result()

    def _quietly(self, method: str, path: str) -> str | None:
        try:
            return str(self._call(method, path).get("status", "")) or None
        except urllib.error.HTTPError as error:
            return "that there is no such job" if error.code == 404 else None
        except (OSError, ValueError):
            return None

    def _call(
        self, method: str, path: str, body: Any = None, seconds: float = TIMEOUT
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self._token}"} if self._token else {}),
        )
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            found = json.loads(answer.read() or b"{}")
        return found if isinstance(found, dict) else {"status": found}

    def _forget(self, name: str) -> None:
        self._beats.pop(name, None)
        self._asked.pop(name, None)


def _token() -> str | None:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    with suppress(OSError):
        return os.environ.get("RAY_AUTH_TOKEN") or (named and Path(named).read_text().strip())
    return None
