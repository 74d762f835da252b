"""The folder of one run: what lies where, and who may write it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from edge.files import write_bytes
from search.job.claim import Claim, claimed, taken, unmakeable
from search.job.spec import ROUTING, JobSpec, make_spec
from search.job.spec_file import read_yaml, to_yaml

#: how rows are shared out, which must not change while a run is under way: "1" without a look for
#: copies, "2" with five rows of every class for a part however few there are
CUT = "3"

#: what may differ between a run and its resumption: how long, where, what comes after the last
#: training, and where teacher and data lie, whose digests are compared; never what is searched
MAY_CHANGE = (
    "teacher", "data", "budget", "minutes", "memory_gb", "tensorboard", "ray", "workers", "int8",
    "licence",
    *ROUTING,
)  # fmt: skip


#: what a job meant, in today's words, that was written down before there were targets
BEFORE_TARGETS: dict[str, Any] = {
    "target": "balanced",
    "normalise": "none",
    "pool": (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    "router_rows": "withheld",
}


class RunFolder:
    """Paths of a run. Everything is written beside its place and renamed into it.

    Args:
        root: the folder.
        number: of what ships, from 2: what another router has been chosen for lies beside the
            first, as in ``bundle-2``.
    """

    def __init__(self, root: str | Path, number: int = 1) -> None:
        self.root = Path(root)
        last = "" if number == 1 else f"-{number}"
        self.job = self.root / f"job{last}.yaml"
        self.inputs = self.root / "inputs.json"
        self.facts = self.root / "facts.json"
        self.ledger = self.root / "ledger.journal"
        self.columns = self.root / "ledger.parquet"
        self.memory = self.root / "search.safetensors"
        self.evidence = self.root / "evidence.safetensors"
        self.origin = self.root / "origin.json"
        self.cache = self.root / "cache"
        self.pilots = self.root / "pilots"
        self.trained = self.root / "trained"
        self.tensorboard = self.root / "tensorboard"
        self.bundle = self.root / f"bundle{last}"
        self.cloud_teacher = self.root / "cloud" / "teacher.onnx"
        self.report = self.root / f"report{last}.html"
        self.result = self.root / f"result{last}.json"
        self.test_seen = self.root / "test_seen.json"
        self.events = self.root / "events.ndjson"
        self.failure = self.root / "failure.txt"
        self.profile = self.root / "latency_profile.json"
        self.measured = self.root / "measured_ms.json"

    def check(self, spec: JobSpec, resume: bool) -> None:
        """Refuse a folder that cannot be used, before anything is made.

        Raises:
            BadInput: the folder exists and nobody asked to resume; or it holds no run, or
                another job than ``spec``.
        """
        if resume:
            self._check_same_job(spec)
        elif self.root.exists() or self.root.is_symlink():
            raise taken(self.root)

    @contextmanager
    def claimed(
        self,
        spec: JobSpec | None = None,
        *,
        new: bool | None = True,
        keep: Callable[[BaseException], bool] | None = None,
    ) -> Iterator[Claim]:
        """The folder is this process's own for a while; see :func:`search.job.claim.claimed`.

        Args:
            spec: the job, which is written into a new folder at once, so that a process that is
                killed while it prepares leaves a run to go on with.
            new: as there.
            keep: as there; else :meth:`worth_keeping`.

        Raises:
            BadInput: it cannot be had.
        """
        with claimed(self.root, keep or self.worth_keeping, new=new) as claim:
            if claim.new and spec is not None:
                try:
                    write_bytes(self.job, to_yaml(whole_paths(spec)).encode())
                except OSError as error:
                    raise unmakeable(self.root, error.strerror) from None
            yield claim

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on with: teacher and data have been accepted."""
        return self.inputs.exists()

    @property
    def holds_candidates(self) -> bool:
        """Whether any candidate is finished; the ledger need not exist, nor be open to us.

        One in a database leaves columns beside the journal's place when it is closed.
        """
        if self.columns.exists():
            return True
        return self.ledger.exists() and b'"key"' in self.ledger.read_bytes()

    def worth_keeping(self, error: BaseException) -> bool:
        """Whether what is in a new folder stays after an error.

        Candidates that were paid for do, whatever is refused after them, such as a full disk. Of a
        job that turned out to be impossible nothing else does.
        """
        return self.holds_candidates or (self.begun and not isinstance(error, BadInput))

    def _check_same_job(self, spec: JobSpec) -> None:
        stored, asked = whole_paths(self.stored_job()), whole_paths(spec)
        for name in JobSpec.model_fields:
            before, now = getattr(stored, name), getattr(asked, name)
            if before != now and name not in (*MAY_CHANGE, "out"):
                raise BadInput(
                    f"--resume cannot change {name!r}",
                    value=now,
                    bound=f"{before!r}, as the run began; only {', '.join(MAY_CHANGE)} may change",
                    remedy="Leave it out, or start a new run in another folder.",
                )

    def stored_job(self) -> JobSpec:
        """The job that the run was started with.

        Raises:
            BadInput: the folder holds no run.
        """
        if not self.job.is_file():
            raise BadInput(
                "there is no run",
                value=str(self.root),
                bound="a folder with job.yaml, left by an earlier `understudy search`",
                remedy="Name the folder of a run. A new run begins without --resume.",
            )
        written = read_yaml(self.job)
        # runs that began before there were probes go on without, to the same proposals
        earlier: dict[str, Any] = {"probes": 0}
        if "target" not in written:
            earlier |= BEFORE_TARGETS
            if written.get("max_drop") == 1:
                del written["max_drop"]  # could be said then, and limits nothing
            if written.get("preset", "default") != "default" or written.get("pool"):
                del earlier["pool"]
        if "mix" not in written:
            earlier |= {"mix": "none"}  # there was none
        return make_spec(earlier | written | {"out": str(self.root)})

    @property
    def cut(self) -> str:
        """How the run shares out its rows: as it began, whatever is usual by now."""
        if not self.inputs.exists():
            return CUT
        return str(json.loads(self.inputs.read_text()).get("cut", "1"))

    def beside(self) -> RunFolder:
        """The same run with free places for what ships."""
        number = 2
        while (found := RunFolder(self.root, number)).bundle.exists():
            number += 1
        return found

    def see_test(self) -> int:
        """Count once more that the test part is opened; how often that is now."""
        seen = self.seen + 1
        write_bytes(self.test_seen, (json.dumps({"times": seen}) + "\n").encode())
        return seen

    @property
    def seen(self) -> int:
        """How often the test part has been opened."""
        if self.test_seen.exists():
            return int(json.loads(self.test_seen.read_text())["times"])
        return int((self.root / "result.json").exists())  # of a run that did not count

    def asked_by(self) -> str | None:
        """The command behind a run that began with another run's candidates."""
        return json.loads(self.origin.read_text())["command"] if self.origin.exists() else None

    def create(self, spec: JobSpec, inputs: Mapping[str, str]) -> None:
        """Write the job, and what it rests on; on resumption the new budget replaces the old.

        Args:
            spec: the job.
            inputs: what → checksum, of what every figure of the run rests on, as far as it is
                known by now.

        Raises:
            BadInput: the folder cannot be made, or it holds a run on other inputs.
        """
        before = json.loads(self.inputs.read_text()) if self.inputs.exists() else {}
        for name, now in inputs.items():
            if before.get(name, now) != now:
                raise BadInput(
                    f"the {name} changed since the run began",
                    value=f"SHA-256 {now}",
                    bound=before[name],
                    remedy="Bring the old one back, or start a new run."
                    if name not in MAY_CHANGE
                    else f"Say where the old one is now with --{name}, or start a new run.",
                )
        try:
            write_bytes(self.job, to_yaml(whole_paths(spec)).encode())
            write_bytes(self.inputs, json.dumps(before | dict(inputs), indent=1).encode())
        except OSError as error:
            raise unmakeable(self.root, error.strerror) from None

    def digest_of(self, spec: JobSpec) -> str:
        """Of all that a resumption cannot change."""
        fixed = spec.model_dump(mode="json", exclude={*MAY_CHANGE, "out"})
        if not spec.probes:
            del fixed["probes"]  # as runs have it that began before there were any
        return sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    def write_result(self, result: Mapping[str, Any]) -> None:
        """The figures of a finished job."""
        write_bytes(self.result, (json.dumps(result, indent=1) + "\n").encode())


def whole_paths(spec: JobSpec) -> JobSpec:
    """The same job from whatever folder it is gone on with: what lies on the disk by its whole
    path, and the rest, such as ``digits`` or a Python function, as it is."""

    def whole(name: str) -> str:
        return os.path.abspath(name) if Path(name).exists() else name  # noqa: PTH100

    return spec.model_copy(
        update={
            "teacher": whole(spec.teacher),
            "data": spec.data if spec.data == "digits" else whole(spec.data),
            "profile": None if spec.profile is None else whole(spec.profile),
            "warm": tuple(map(whole, spec.warm)),
        }
    )


def times(count: int) -> str:
    """``once``, ``3 times``."""
    return "once" if count == 1 else f"{count:,} times"
