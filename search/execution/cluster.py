"""A Ray to work on: started here, or joined, with our code sent along and its nodes looked at."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
import torch
from ray._private import worker as ray_worker
from ray.exceptions import (
    AuthenticationError,
    GetTimeoutError,
    RayError,
    TaskUnschedulableError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edge import made
from edge.errors import BadInput
from search.execution.watchdog import scratch_folder

#: where our packages lie side by side
ROOT = Path(made.__file__).resolve().parents[1]
#: packages of ours that a worker needs; a cluster gets them from here, as they are on this machine
SHIPPED = ("edge", "envs", "teachers", "routers", "search")
#: variables that tell Ray how its processes know each other
TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
#: libraries whose version decides what a candidate's accuracy is, or whether a node works at all
COMPARED = ("ray", "torch", "numpy")
#: seconds that a node has to say what it has; it unpacks our code in them
PATIENCE = 60.0


@contextmanager
def cluster(address: str, processors: int, data_bytes: int = 0) -> Iterator[None]:
    """A Ray to work on; whatever was started here is gone afterwards, even after a kill.

    Args:
        address: ``local`` starts one in this process; ``auto`` or ``ray://HOST:PORT`` joins one.
        processors: that a local one may use.
        data_bytes: what a local one will share through its object store.

    Raises:
        BadInput: there is no cluster at the address, or it runs other versions.
    """
    if ray.is_initialized():
        # a caller who has connected already decides which cluster is used
        yield
        return
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    if address != "local":
        sent: dict[str, Any] = {"py_modules": shipped()}
        if not address.startswith("ray://"):
            # with a working folder, even one with next to nothing in it, Ray does not put the
            # folder that we are in on the workers' path, where a project's `search` would hide
            # ours. Of a client's it never does, and there the process that Ray starts in a working
            # folder dies when it loads torch.
            sent["working_dir"] = str(ROOT / "understudy")
        with _connected(address, quiet | {"runtime_env": sent}):
            yield
        return
    # what it says at every start (that it protects itself by a token) is no news
    logging.getLogger("ray").setLevel(logging.ERROR)
    with scratch_folder() as scratch:
        own = quiet | {
            "num_cpus": processors,
            "include_dashboard": False,
            "object_store_memory": max(128 << 20, 2 * data_bytes + (64 << 20)),
            "_temp_dir": scratch,
            # workers find our packages first, whatever lies in the folder that we are in
            "_system_config": {"preload_python_modules": ["understudy"]},
        }
        with _own_token(), _connected(address, own):
            yield


@contextmanager
def _own_token() -> Iterator[None]:
    """A token for one cluster, told to its processes alone.

    Ray would write one into ``~/.ray``: a home folder may not be writable, as in containers and
    services, and where several jobs begin at once each would write over what another has read.
    """
    if any(name in os.environ for name in TOKEN):
        yield  # whoever says how to do it decides
        return
    raylet: Any = import_module("ray._raylet")
    loader = raylet.AuthenticationTokenLoader.instance()
    os.environ[TOKEN[0]] = secrets.token_hex(32)
    loader.reset_cache()
    try:
        yield
    finally:
        for name in TOKEN:  # Ray sets one more of them, and would go on by it
            os.environ.pop(name, None)
        raylet.Config.initialize("")
        loader.reset_cache()


@contextmanager
def _connected(address: str, options: dict[str, Any]) -> Iterator[None]:
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
        if threading.current_thread() is threading.main_thread():
            # Ray puts its own in place, which would end a job without a word on how to go on
            signal.signal(signal.SIGTERM, ours)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        first = str(error).splitlines()[0]
        if "ersion" in first:
            raise BadInput(
                "the Ray cluster runs other versions",
                value=" ".join(str(error).split())[:300],
                bound=f"Ray {ray.__version__} on Python {platform.python_version()}, as here",
                remedy="Install the same versions on every node and here.",
            ) from None
        if address == "local":
            raise _not_started(error) from error
        raise BadInput(
            "no Ray cluster answers",
            value=address,
            bound="local, auto (a cluster on this machine) or ray://HOST:PORT",
            remedy=f"Start one with `ray start --head`, or use --ray local. ({first})",
        ) from None
    except Exception as error:  # Ray raises no narrower one where its processes are too slow
        if not isinstance(error, OSError):
            raise _not_started(error) from error
        raise BadInput(
            "Ray cannot be started",
            value=error,
            bound="a temporary folder that can be written, and a home folder where Ray keeps its "
            "token there",
            remedy="Set TMPDIR or HOME to one that can be, or RAY_AUTH_TOKEN to a token.",
        ) from None
    with _off_stdout():
        try:
            yield
        finally:
            ray.shutdown()


def _not_started(error: Exception) -> BadInput:
    return BadInput(
        "Ray did not start",
        value=str(error).splitlines()[0] if str(error) else type(error).__name__,
        bound="processes of Ray that answer within the time that it gives them",
        remedy="Most likely this machine is too busy, or has too little memory: try again when it "
        "has less to do. A job that has begun goes on with --resume.",
    )


@contextmanager
def _off_stdout() -> Iterator[None]:
    """Ray prints every death of a worker to stdout, which is where a job's JSON goes; whoever
    needs to know it hears it from the evaluator. It has no setting for that."""
    told = ray_worker.print_to_stdstream
    ray_worker.print_to_stdstream = lambda data, ignore_prefix: logging.getLogger("ray").info(data)
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = told


def shipped() -> list[str]:
    """Folders of our packages, for Ray to send to every node."""
    return [str(ROOT / name) for name in SHIPPED]


# --- what there is in it


def check_own_gpus(gpus: float) -> None:
    """BadInput where this machine has fewer GPUs than a candidate is to get."""
    have = torch.cuda.device_count() if gpus > 0 else 0
    if gpus > have:
        raise BadInput(
            "this machine has too few GPUs that torch can use",
            value=f"--gpus {gpus:g}",
            bound=f"at most {have}",
            remedy="Leave --gpus at 0, or join a cluster that has some with --ray.",
        )


def room_for(threads: int, gpus: float) -> int:
    """Candidates at a time that the whole cluster has room for.

    Raises:
        BadInput: no node has room for one.
    """
    nodes = [node["Resources"] for node in _nodes()]
    fitting = [_fitting(node, threads, gpus) for node in nodes]
    if not sum(fitting):
        processors, graphics = _most(nodes, "CPU"), _most(nodes, "GPU")
        raise BadInput(
            "no node of the cluster has room for a candidate",
            value=f"--threads {threads} --gpus {gpus:g}",
            bound=f"at most {processors:g} processors and {graphics:g} GPUs on one node",
            remedy="Lower --threads or --gpus, or add a larger node.",
        )
    return sum(fitting)


def widest(threads: int) -> int:
    """As many of ``threads`` processors as one node has; at least 1."""
    nodes = [node["Resources"] for node in _nodes()]
    return max(1, min(threads, int(_most(nodes, "CPU"))))


def _nodes() -> list[dict[str, Any]]:
    """Those that are alive, as Ray describes them."""
    listing: Any = ray.nodes
    return [node for node in listing() if node["Alive"]]


def _fitting(node: Mapping[str, float], threads: int, gpus: float) -> int:
    rooms = int(node.get("CPU", 0) // threads)
    if gpus > 0:
        # several candidates share a GPU, but none has parts of two
        cards = int(node.get("GPU", 0))
        rooms = min(rooms, int(cards // gpus) if gpus >= 1 else cards * int(1 / gpus + 1e-9))
    return rooms


def _most(nodes: list[Mapping[str, float]], what: str) -> float:
    return max((node.get(what, 0.0) for node in nodes), default=0.0)


# --- whether its nodes are like this one


@dataclass(frozen=True)
class About:
    """What a node says of itself: versions by name, and what of the data it cannot reach."""

    host: str
    versions: Mapping[str, str]
    missing: str | None = None


def about(missing: Callable[[], str | None] | None = None) -> About:
    """This machine.

    Args:
        missing: says what of the data is not there; None where it is.
    """
    versions = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in COMPARED:
        try:
            # a build for other processors, as in 2.13.0+cpu, is the same version
            versions[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            versions[name] = "none"
    return About(socket.gethostname(), versions, missing() if missing is not None else None)


def check_nodes(missing: Callable[[], str | None] | None = None) -> int:
    """Ask every node of the cluster, all at once; how many there are.

    Args:
        missing: asked on every node: what of the data is not there.

    Raises:
        BadInput: names the first node that cannot work with us, and why.
    """
    asked = {}
    for node in _nodes():
        if node["Resources"].get("CPU", 0):
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task: Any = ray.remote(about).options(
                num_cpus=0, scheduling_strategy=place, max_retries=0
            )
            where = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}"
            asked[f"{where}, {node['NodeID'][:6]})"] = task.remote(missing)
    answers: dict[str, About | str] = {}
    for name, reference in asked.items():
        try:
            answers[name] = ray.get(reference, timeout=PATIENCE)
        except TaskUnschedulableError:
            # it has died since Ray last looked: no node of this cluster any more
            continue
        except GetTimeoutError:
            answers[name] = f"no answer in {PATIENCE:.0f} seconds"
        except (RayError, ImportError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            answers[name] = lines[-1][:300] if lines else type(error).__name__
    refuse_strangers(answers, about())
    return len(answers)


def refuse_strangers(nodes: Mapping[str, About | str], here: About) -> None:
    """See that every node has what this machine has.

    Args:
        nodes: name → what it says of itself, or why it says nothing.
        here: this machine.

    Raises:
        BadInput: names node, value found, bound and remedy.
    """
    for name, node in nodes.items():
        if isinstance(node, str):
            raise BadInput(
                f"node {name} of the Ray cluster cannot run our code",
                value=node,
                bound="a node that starts a worker and imports what we send",
                remedy="Look at that node's Ray logs, or take it out of the cluster.",
            )
        for what, expected in here.versions.items():
            found = node.versions.get(what, "none")
            if found != expected:
                raise BadInput(
                    f"node {name} of the Ray cluster has another version of {what}",
                    value=f"{what} {found}",
                    bound=f"{what} {expected}, as on this machine",
                    remedy=f"Install {what} {expected} there and restart its Ray, "
                    "or take the node out of the cluster.",
                )
        if node.missing is not None:
            raise BadInput(
                f"node {name} of the Ray cluster cannot reach the data",
                value=node.missing,
                bound="the same file under the same path on every node",
                remedy="Put the run on a file system that all nodes share, or raise --memory-gb "
                "so that the data travel through memory.",
            )
