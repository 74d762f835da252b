"""Engines: what is started for a job of each kind, and what it means how that ended.

Each is the command line's own path, so a job of the service is the job that its user could start
in a shell. A new kind of job is a function here and a line in :data:`ENGINES`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import BadInput, check_member
from edge.files import draft_of, write_bytes
from search.job.claim import LOCK
from search.job.run_folder import RunFolder
from search.job.spec import ROUTING, JobSpec, fields, make_spec
from search.job.spec_file import to_yaml
from service.jobs.content import link
from service.jobs.model import Job, Json, State, Wanted
from service.jobs.runner import Exit

#: data that install with the product, by the names that a job may give them
EMBEDDED = ("digits", "sklearn.digits")
#: fields of a job that the service fills in itself
OWN = ("teacher", "data", "out")
#: fields that name files, folders or databases of the machine: never from a request
CONFINED = ("storage", "profile", "warm")
#: rows that the teacher never saw, said without naming a file
_UNSEEN = re.compile(r"\s*(last\s+[\d,_]+|\d+\s+per\s+class)\s*")
#: fields that a finalized winner follows from (:data:`service.cli.options.REWARD_FIELDS`)
REWARD = tuple(
    name
    for group, name, *_ in fields()
    if (group == "Reward" or name.startswith("max_") or name == "proxy_gain")
    and name not in ("max_ms", "gamma", "l0", "max_pair_kb")
)


@dataclass(frozen=True)
class Work:
    """A job with the places that it works in.

    Attributes:
        job: of the store.
        folder: the job's own, which is there.
        teacher: its file in the content store; None for a kind that needs none.
        data: what ``--data`` takes; None likewise.
        parent: the run that the job goes out from, where it does from one.
    """

    job: Job
    folder: Path
    teacher: Path | None = None
    data: str | None = None
    parent: Path | None = None

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "run"


def check_spec(kind: str, spec: Mapping[str, Any], clusters: tuple[str, ...] = ()) -> Json:
    """A request's fields, checked for what can be told without teacher and data.

    Args:
        kind: of the job.
        spec: fields of :class:`search.job.spec.JobSpec`.
        clusters: addresses for ``ray`` beside ``local`` that the service's owner allows.

    Returns:
        The fields that were given, as JSON values.

    Raises:
        BadInput: with the field that it is about.
    """
    check_member("kind of job", kind, ENGINES)
    if kind == "null":
        return dict(spec)
    given = {name: value for name, value in spec.items() if value is not None}
    for name in given:
        if name in OWN and not (name == "data" and given[name] in EMBEDDED):
            raise BadInput(
                f"{name!r} of a job is the service's",
                value=given[name],
                bound="a job without it, or data 'digits'",
                remedy="Upload it, and name its id as teacher_id or dataset_id.",
                field=name,
            )
        _check_confined(name, given[name], clusters)
        allowed = {"route": ROUTING, "finalize": REWARD}.get(kind)
        if allowed is not None and name in JobSpec.model_fields and name not in allowed:
            raise BadInput(
                f"{name!r} cannot be changed by a job of kind {kind}",
                value=given[name],
                bound=", ".join(allowed),
                remedy="Leave it out: it stays as the run has it.",
                field=name,
            )
    made = make_spec({"teacher": "teacher.onnx", "data": "digits", "out": "run"} | given)
    return {name: made.model_dump(mode="json")[name] for name in given}


def _check_confined(name: str, value: Any, clusters: tuple[str, ...]) -> None:
    bound = dict.fromkeys(CONFINED, "a job without it")
    bound["ray"] = " or ".join(("local", *clusters))
    bound["teacher_unseen"] = "'last N' or 'N per class'"
    if name == "ray":
        fine = value in ("local", *clusters)
    elif name == "teacher_unseen":
        fine = _UNSEEN.fullmatch(str(value)) is not None
    else:
        fine = name not in CONFINED
    if not fine:
        raise BadInput(
            f"{name!r} of a job names a place that the service does not share",
            value=value,
            bound=bound[name],
            remedy="Leave it out, or run the job by the command line.",
            field=name,
        )


def _search(work: Work) -> list[str]:
    """``understudy search job.yaml``, gone on with where there is a run already."""
    assert work.teacher is not None
    places = {"teacher": str(work.teacher), "data": work.data, "out": str(work.run)}
    spec = make_spec(dict(work.job.spec) | places)
    file = work.folder / "job.yaml"
    write_bytes(file, to_yaml(spec).encode())
    again = ["--resume"] if _is_begun(work.run) else []
    return _understudy("search", str(file), "--json", *again)


def _route(work: Work) -> list[str]:
    """``understudy route`` on a copy of the parent's run, so that neither disturbs the other."""
    if not work.run.exists():
        _branch(_finished(work), work.run)
    return _understudy("route", str(work.run), "--replace", "--json", *_options(work, ROUTING))


def _finalize(work: Work) -> list[str]:
    """``understudy rerank --finalize``: the same command goes on with what it has begun."""
    parent = _finished(work, result=False)
    _is_begun(work.run)
    options = _options(work, REWARD)
    return _understudy(
        "rerank", str(parent), "--finalize", "--out", str(work.run), "--json", *options
    )


def _null(work: Work) -> list[str]:
    """A mere process: ``spec`` says for how many ``seconds``, and with which exit ``code``."""
    spec = work.job.spec
    seconds, code = float(spec.get("seconds", 0)), int(spec.get("code", 0))
    if not seconds and not code:
        return ["true"]
    return ["sh", "-c", f"sleep {seconds:g}; exit {code}"]


#: kind of job → what prepares its folder and says what to start; it raises BadInput, or OSError
#: where the disk will not have it
ENGINES: dict[str, Callable[[Work], list[str]]] = {
    "search": _search,
    "route": _route,
    "finalize": _finalize,
    "null": _null,
}


def _understudy(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "understudy", *words]


def _is_begun(run: Path) -> bool:
    """Whether there is a run to go on with; what a process left that was killed in the instant
    between making the folder and writing the job into it is cleared away.

    Raises:
        BadInput: something else lies there.
    """
    if (run / "job.yaml").is_file():
        return True
    if not run.is_dir():
        return False
    for path in run.iterdir():
        if path.name != LOCK and not path.name.endswith(".part"):
            raise BadInput(
                "the job's folder holds something that is no run",
                value=path.name,
                bound="a run with job.yaml, or nothing",
                remedy="Delete the job and submit it again.",
            )
    shutil.rmtree(run)
    return False


def _finished(work: Work, result: bool = True) -> Path:
    parent = work.parent
    found = None if parent is None else RunFolder(parent)
    if found is None or not (found.result.is_file() if result else found.job.is_file()):
        raise BadInput(
            "the job that this one goes out from has no finished run",
            value=work.job.parent_id,
            bound="a job that is done",
            remedy="Wait for it, or resume it.",
            field="parent_id",
        )
    return found.root


def _branch(run: Path, to: Path) -> None:
    """A copy of a run that shares its large files: those are replaced as a whole, never written to.

    What is appended to in place (events, ledger) is copied; locks and half-written files are not.
    """
    draft = draft_of(to)
    try:
        for path in sorted(run.rglob("*")):
            target = draft / path.relative_to(run)
            if path.is_symlink() or path.suffix in (".lock", ".part", ".checkpoint"):
                continue
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.parent == run:
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.name != "events.ndjson":  # they tell of the parent
                    shutil.copyfile(path, target)
            else:
                link(path, target)
        draft.rename(to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _options(work: Work, names: tuple[str, ...]) -> list[str]:
    """Fields of the job as options; teacher and data too, whose places may have changed."""
    words: list[str] = []
    given: Json = {name: work.job.spec[name] for name in names if name in work.job.spec}
    given |= {"teacher": work.teacher, "data": work.data}
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            several = isinstance(value, list | tuple)
            words += [flag, ",".join(map(str, value)) if several else str(value)]
    return words


@dataclass(frozen=True)
class Outcome:
    """What becomes of a job whose engine has ended.

    Attributes:
        state: done, failed or cancelled; or queued: its engine was lost, and it is gone on with.
        reason: in a sentence.
        problem: of a job that failed, what the engine's error says in its parts.
        losses: engines lost one after the other without having got any further.
    """

    state: State
    reason: str
    problem: Json | None = None
    losses: int = 0


def outcome(job: Job, exit_: Exit, finished: bool, progressed: bool) -> Outcome:
    """What an exit means (:mod:`service.cli.main` says what the codes are).

    Args:
        job: as it is now.
        exit_: of its engine.
        finished: the run's own files say that it was finished in this attempt.
        progressed: it got further in this attempt than before.
    """
    said = (exit_.said or {}).get("error")
    problem = said if isinstance(said, dict) else None
    text = str((problem or {}).get("message") or exit_.reason)
    if exit_.code in (0, 3) or (finished and exit_.code != 2):
        return Outcome(State.DONE, "")
    if exit_.code == 2:
        return Outcome(State.FAILED, text, problem)
    if job.wanted is not Wanted.RUN:
        return Outcome(State.CANCELLED, f"{job.wanted} asked")
    if exit_.code in (126, 127):
        return Outcome(State.FAILED, text, problem)
    if progressed:
        return Outcome(State.QUEUED, f"its engine was lost: {text}")
    losses = job.losses + 1
    if losses >= job.max_attempts:
        text += f" (its engine ended {losses} time{'s' * (losses > 1)} without getting on)"
        return Outcome(State.FAILED, text, problem, losses)
    return Outcome(State.QUEUED, f"its engine was lost: {text}", None, losses)
