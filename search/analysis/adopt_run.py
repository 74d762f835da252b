"""A new winner of old candidates gets a run of its own, in which it is trained and ships.

The old run stays as it is, bundle and report included. The new one starts from its candidates with
their new rewards, from what the teacher has answered, and from students that were trained in full.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge import made
from edge.errors import BadInput
from edge.files import draft_of, write_bytes
from search.analysis.rerank import Reranking
from search.job.claim import LOCK, claimed
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.job.spec_file import to_yaml
from search.ledger.ledger import Ledger, stored_records
from search.preparation.validate import check_inputs
from search.space.limits import with_room
from search.space.thresholds import drop_of


def adopt(found: Reranking, out: str, command: str) -> JobSpec:
    """Make the new run, ready for :func:`search.pipeline.run` with ``resume=True``.

    Called again with the same values it leaves an unfinished run as it is, to be gone on with.

    Args:
        found: the old run and its new order.
        out: folder of the new run.
        command: the command line that asked for it, for the report.

    Raises:
        BadInput: ``out`` exists and is not this very run, or cannot be made; or the job's teacher
            or data are gone.
    """
    after = found.after
    old, new = after.run.folder, RunFolder(out)
    # its own budget is what it has: nothing more is searched
    values = after.spec.model_dump() | {"out": out, "budget": len(after.run.columns)}
    spec = with_room(make_spec(values | {"minutes": None, "storage": None, "warm": ()}))
    origin = {"run": str(old.root.resolve()), "command": command}
    if new.origin.is_file() and json.loads(new.origin.read_text()) == origin:
        return new.stored_job()  # the old run may hold more candidates by now
    new.check(spec, resume=False)
    # what would be refused later must not leave a run behind
    check_inputs(spec, own_folder=False, trusted=True)
    with claimed(new.root, lambda error: False):
        _put(found, spec, new, origin)
    return spec


def _put(found: Reranking, spec: JobSpec, new: RunFolder, origin: Mapping[str, str]) -> None:
    """Fill the folder that is ours: in a draft beside it, which takes its place when it is whole,
    so that a process that is killed leaves no half of a run."""
    root = new.root.resolve()
    draft = RunFolder(draft_of(root))
    try:
        draft.root.mkdir()
        made.note(draft.root)
        _fill(draft, found, spec)
        write_bytes(draft.origin, (json.dumps(origin, indent=1) + "\n").encode())
        (new.root / LOCK).unlink()  # what was put there by others keeps the folder from being taken
        draft.root.rename(root)
        made.moved(draft.root, root)
    except OSError as error:
        raise BadInput(
            "the output folder cannot be made",
            value=str(new.root),
            bound="a path where folders can be made, on a disk with room",
            remedy=f"Choose another --out ({error.strerror}).",
        ) from None
    finally:
        made.take_back(draft.root)


def _fill(draft: RunFolder, found: Reranking, spec: JobSpec) -> None:
    after = found.after
    old = after.run.folder
    write_bytes(draft.job, to_yaml(spec).encode())
    for name in (old.inputs, old.facts):
        _copied(name, draft.root / name.name)
    for name in (old.profile, old.measured):
        if name.is_file():
            _copied(name, draft.root / name.name)
    if old.seen:
        # what the new winner is measured on is no newer than it was
        write_bytes(draft.test_seen, (json.dumps({"times": old.seen}) + "\n").encode())
    rewards = dict(zip(after.run.columns.key, after.rewards.tolist(), strict=True))
    if after.run.spec.storage is None:
        write_bytes(draft.ledger, _priced(old.ledger.read_bytes(), rewards))
    else:
        columns = after.run.columns
        with Ledger(draft.ledger, columns.layers, columns.pool) as ledger:
            for record in stored_records(old.ledger, after.run.spec.storage):
                if record.key in rewards:  # else it finished just now
                    ledger.add(replace(record, reward=rewards[record.key]))
    kept = [old.cache, old.cloud_teacher.parent]
    if drop_of(after.spec) == drop_of(after.run.spec):
        # the drop decides how many rows the router withholds: a student that was trained under
        # another one has learnt from rows that are the router's now
        kept.append(old.trained)
    for folder in kept:
        for path in sorted(folder.rglob("*")):
            whole = not (path.suffix == ".checkpoint" or ".part" in path.name)
            if whole and path.is_file():
                _linked(path, draft.root / path.relative_to(old.root))


def _priced(journal: bytes, rewards: Mapping[str, float]) -> bytes:
    """The lines of a journal that are candidates, with other values; and its head."""
    lines: list[bytes] = []
    for line in journal[: journal.rfind(b"\n") + 1].splitlines():
        entry = json.loads(line)
        key = entry.get("user_attrs", {}).get("key")
        if key in rewards:
            entry["value"] = rewards[key]
        elif lines:
            continue  # a note from a dashboard, or a candidate that finished just now
        lines.append(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    return b"".join(lines)


def _linked(source: Path, target: Path) -> None:
    """The same file under a second name where that can be: the teacher's answers may be large.

    What lies in these folders is replaced as a whole, never written to in place.
    """
    made.make_folder(target.parent)
    try:
        os.link(source, target)
    except OSError:
        _copied(source, target)
    else:
        made.note(target)


def _copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    made.note(target)


def free_name(folder: Path) -> Path:
    """RUN-2, RUN-3, … : the first beside a run that does not exist."""
    number, folder = 2, folder.resolve()
    while (found := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return found
