"""Intake of uploads: received on the disk, checked in a process of their own, kept by digest."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from edge.files import draft_of
from service.api.auth import Principal
from service.api.problems import Problem
from service.api.schemas import Json
from service.api.settings import Settings
from service.jobs.content import Content, digest_of, file_digest, safe_name
from service.jobs.model import Dataset, Teacher, new_id
from service.jobs.store import Store

#: checks at a time, and seconds that one may take
CHECKS, SECONDS = 2, 900.0

log = logging.getLogger("understudy.service")


class Intake:
    """Uploads on their way into the content store.

    Args:
        store: of the rows.
        settings: the folder, and how much is taken.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.content = Content(settings.folder)
        #: of files that are received, and that are being checked, by the id of their row
        self.folder = settings.folder / "incoming"
        self._pool = ThreadPoolExecutor(CHECKS, "check")
        self._children: set[subprocess.Popen[bytes]] = set()
        self._over = threading.Event()

    def start(self) -> None:
        """Go on with what was being checked when the service stopped; sweep what was cut off."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.content.clear_drafts()
        waiting = {row.id: row for row in self.store.unchecked()}
        uploads = {upload.id for upload in self.store.all_uploads()}
        for path in self.folder.iterdir():
            if path.name not in waiting and path.name not in uploads:
                shutil.rmtree(path, ignore_errors=True)
        for row in waiting.values():
            self._pool.submit(self._check, row)

    def stop(self) -> None:
        """End the checks that run; they begin anew with the service."""
        self._over.set()
        for child in list(self._children):
            _kill(child)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def receive(self, kind: str, who: Principal, files: Mapping[str, Iterable[bytes]]) -> str:
        """Write the files of one upload to the disk; the id under which they wait.

        Raises:
            Problem: they are too large, or the disk has no room; nothing is left of them.
        """
        id_ = new_id(kind)
        place = self.folder / id_
        draft = draft_of(place)
        draft.mkdir(parents=True)
        try:
            room = self.room(who)
            for name, pieces in files.items():
                with (draft / safe_name(name)).open("xb") as file:
                    for piece in pieces:
                        room -= len(piece)
                        if room < 0:
                            raise self.too_large()
                        file.write(piece)
            draft.rename(place)
        except OSError as error:
            raise Problem(507, f"The service cannot store this: {error.strerror}.") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return id_

    def adopt(self, kind: str, path: Path) -> str:
        """Take over a file that was received in pieces; the id under which it waits."""
        id_ = new_id(kind)
        place = self.folder / id_
        place.mkdir(parents=True)
        path.rename(place / path.name)
        return id_

    def room(self, who: Principal) -> int:
        """Bytes that one more upload may have.

        Raises:
            Problem: the tenant has used up its share.
        """
        most = self.settings.max_upload_mb << 20
        if who.limits.bytes is None:
            return most
        left = who.limits.bytes - self.store.used_bytes(who.tenant)
        if left <= 0:
            raise Problem(
                429,
                f"The uploads of this tenant take {who.limits.bytes:,} bytes, as many as they may: "
                "delete some.",
                kind="quota-exceeded",
                headers={"Retry-After": "60"},
            )
        return min(most, left)

    def too_large(self) -> Problem:
        """The refusal of an upload beyond its limit."""
        return Problem(
            413, f"The upload is too large: at most {self.settings.max_upload_mb:,} MB are taken."
        )

    def admit(self, kind: str, id_: str, name: str, who: Principal) -> Teacher | Dataset:
        """Enter what was received, or find that it is there already; it is then checked."""
        place = self.folder / id_
        files = [(path.name, file_digest(path)) for path in sorted(place.iterdir())]
        size = sum(path.stat().st_size for path in place.iterdir())
        digest = files[0][1] if len(files) == 1 else digest_of(files)
        find = self.store.find_teacher if kind == "teacher" else self.store.find_dataset
        there = find(who.tenant, digest)
        if there is not None:
            shutil.rmtree(place, ignore_errors=True)
            return there
        common: Json = {
            "tenant": who.tenant,
            "name": name,
            "sha256": digest,
            "bytes": size,
            "created_by": who.who,
            "id": id_,
        }
        row: Teacher | Dataset
        if kind == "teacher":
            told: list[Json] = [{"name": file, "sha256": sha} for file, sha in files]
            row = self.store.create_teacher(**common, files=told)
        else:
            row = self.store.create_dataset(**common, format=files[0][0].rpartition(".")[2])
        self.store.audit(tenant=who.tenant, who=who.who, action="upload", target=id_)
        self._pool.submit(self._check, row)
        return row

    def _check(self, row: Teacher | Dataset) -> None:
        """Check a row's files and say so in its row; never raises."""
        kind = "teacher" if isinstance(row, Teacher) else "dataset"
        setter = self.store.set_teacher if kind == "teacher" else self.store.set_dataset
        told = "inspection" if kind == "teacher" else "facts"
        try:
            incoming = self.folder / row.id
            with self.content.draft() as draft:
                answer = self._ask(kind, incoming, draft / "content")
                if self._over.is_set():
                    return
                if "problem" in answer:
                    setter(row.id, state="refused", problem=answer["problem"])
                else:
                    with self.content.adding():
                        self.content.put(draft / "content", row.sha256)
                        state = _state(kind, answer["facts"])
                        setter(row.id, **state, **{told: answer["facts"]})
            shutil.rmtree(incoming, ignore_errors=True)
        except Exception:
            log.exception("an upload could not be checked")
            with suppress(Exception):
                text = "The service met an error of its own while it checked this."
                setter(row.id, state="refused", problem={"message": text})

    def _ask(self, kind: str, incoming: Path, content: Path) -> Json:
        words = [
            sys.executable,
            "-P",
            "-m",
            "service.api.checks",
            kind,
            str(incoming),
            str(content),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self._children.add(child)
        try:
            output, _ = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return _problem(f"it takes more than {SECONDS:,.0f} seconds to read")
        finally:
            _kill(child)
            self._children.discard(child)
        try:
            answer: Json = json.loads(output)
        except ValueError:
            return _problem(
                "reading it takes more memory or time than is given, or ends the reader"
            )
        return answer


def _state(kind: str, facts: Mapping[str, Any]) -> Json:
    if kind == "teacher" and not facts.get("described", True):
        text = (
            "The teacher has no description: send one (a JSON with input, mean, std and classes) "
            "to /teachers/{id}/description; its inspection holds what can be guessed."
        )
        return {"state": "incomplete", "problem": {"message": text}}
    return {"state": "ready"}


def _problem(text: str) -> Json:
    message = f"this upload cannot be used: {text}"
    return {"problem": {"problem": message, "message": f"{message}."}}


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """A file, piece by piece."""
    while piece := file.read(1 << 20):
        yield piece
