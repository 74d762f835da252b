"""Files of the service: uploaded content by its digest, and the folders of jobs.

``<folder>/content/<two letters>/<sha256>/`` holds what was uploaded; it is put there whole, and
never changed. ``<folder>/jobs/<id>/`` is a job's. What is removed is renamed first, so that it is
gone at once or not at all, and only what carries the service's own mark is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from edge.errors import BadInput
from edge.files import draft_of
from service.jobs.model import Job

#: in a job's folder: the id of the job that the service has made it for
MARK = ".understudy-job"
#: seconds for which content may lie about that nothing names yet
FRESH = 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_JOB = re.compile(r"jobs/(job_[0-9A-Za-z]{1,40})")
_GONE = ".gone-"
#: suffixes of a teacher's weights
WEIGHTS = (".onnx", ".safetensors")
#: characters of a file's name that are kept
LONGEST_NAME = 100


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    """Of a folder, by the path and the digest of each of its files."""
    lines = [f"{digest} {name}\n" for name, digest in sorted(files)]
    return sha256("".join(lines).encode()).hexdigest()


def link(source: Path, target: Path) -> None:
    """The same file in another place, which takes no room where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, which is read piece by piece."""
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


class Content:
    """The content store below a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "content"
        self.drafts = folder / "drafts"

    def path(self, digest: str) -> Path:
        """Where content lies, or would.

        Raises:
            BadInput: no digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise BadInput(
                "this is no digest of content",
                value=digest[:80],
                bound="64 hexadecimal digits",
                remedy="Name what the service said.",
            )
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether it is there."""
        return self.path(digest).is_dir()

    def teacher(self, digest: str) -> Path:
        """The file of a teacher's weights.

        Raises:
            BadInput: it is gone.
        """
        folder = self.path(digest)
        found = sorted(path for path in folder.glob("*") if path.suffix in WEIGHTS)
        if not found:
            raise BadInput(
                "the teacher's files are gone",
                value=str(folder),
                bound=f"a folder with a file {' or '.join('*' + name for name in WEIGHTS)}",
                remedy="Upload the teacher again.",
            )
        return found[0]

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new folder to fill, on the same disk; what is left of it at the end is removed."""
        self.drafts.mkdir(parents=True, exist_ok=True)
        folder = draft_of(self.drafts / "content")
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Nothing is removed meanwhile: around :meth:`put` and the row that names the content."""
        with self._locked(fcntl.LOCK_SH):
            yield

    def put(self, draft: Path, digest: str) -> Path:
        """Make a draft the content of a digest; where it is there already, that stays.

        Raises:
            OSError: it cannot be put there, as where the disk is full.
        """
        there = self.path(digest)
        there.parent.mkdir(parents=True, exist_ok=True)
        for path in [*draft.rglob("*"), draft]:
            _sync(path)
        try:
            draft.rename(there)
        except OSError:
            if not there.is_dir():
                raise
        _sync(there.parent)
        return there

    def remove_unused(
        self, needed: Callable[[], Iterable[str]], now: float | None = None
    ) -> list[str]:
        """Remove content that no teacher and no data set names, and is not quite new.

        ``needed`` is asked while nothing can be added, for the digests that are named.
        """
        at = time.time() if now is None else now
        removed = []
        with self._locked(fcntl.LOCK_EX):
            keep = set(needed())
            for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
                known = _DIGEST.fullmatch(path.name) and path.parent.name == path.name[:2]
                if known and path.name not in keep and at - path.stat().st_mtime > FRESH:
                    _remove(path)
                    removed.append(path.name)
        _clear(self.root)
        return removed

    def clear_drafts(self, now: float | None = None) -> None:
        """Remove drafts that a process left which was killed a day ago or earlier."""
        at = time.time() if now is None else now
        for path in self.drafts.glob(".content.*.part"):
            with suppress(OSError):
                if at - path.stat().st_mtime > 86_400:
                    shutil.rmtree(path)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        file = os.open(self.root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(file, how)
            yield
        finally:
            os.close(file)


def job_folder(folder: Path, job: Job) -> Path:
    """A job's own folder, as its row says.

    Raises:
        BadInput: the row names no such place.
    """
    found = _JOB.fullmatch(job.folder)
    if found is None or found.group(1) != job.id:
        raise BadInput(
            "this is no folder of the job",
            value=job.folder,
            bound=f"jobs/{job.id}",
            remedy="Restore the database from a backup.",
        )
    return folder / job.folder


def make_job_folder(folder: Path, job: Job) -> Path:
    """Make a job's folder, marked as the service's own; it may be there already.

    Raises:
        BadInput: something lies there that the service has not made.
        OSError: it cannot be made.
    """
    place = job_folder(folder, job)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        draft = draft_of(place)
        try:
            draft.mkdir()
            (draft / MARK).write_text(job.id)
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    if not is_ours(place, job):
        raise BadInput(
            "something lies where the job's folder belongs",
            value=str(place),
            bound="no such folder, or one that the service has made",
            remedy="Move it elsewhere, and resume the job.",
        )
    return place


def is_ours(place: Path, job: Job) -> bool:
    """Whether the service has made a folder for this job."""
    with suppress(OSError):
        return not place.is_symlink() and (place / MARK).read_text() == job.id
    return False


def remove_job_folder(folder: Path, job: Job) -> bool:
    """Remove a job's folder, if the service has made it; whether it is gone."""
    place = job_folder(folder, job)
    if not place.exists() and not place.is_symlink():
        return True
    if not is_ours(place, job):
        return False
    _remove(place)
    return True


def clear_removed(folder: Path) -> None:
    """Finish what a process was removing when it was killed."""
    _clear(folder / "jobs")
    _clear(folder / "content")


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _remove(path: Path) -> None:
    gone = path.with_name(_GONE + path.name)
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _clear(folder: Path) -> None:
    for gone in [*folder.glob(f"{_GONE}*"), *folder.glob(f"*/{_GONE}*")]:
        shutil.rmtree(gone, ignore_errors=True)


def _sync(path: Path) -> None:
    """On the disk itself: a power cut must not leave an empty file under a good name."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def safe_name(name: str) -> str:
    """A file name that is nothing but a name: its suffix counts, the rest is for people."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._- ") else "_"
        for letter in last
    ).lstrip(". ")
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[:LONGEST_NAME]}{dot}{suffix[:20]}" if dot else kept[:LONGEST_NAME] or "file"
