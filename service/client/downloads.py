"""Fetching results: beside their place, verified, and only then renamed into it."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import IO

from edge.bundle import load_bundle
from edge.errors import BadInput
from edge.files import draft_of, new_folder
from service.client.refusals import Refusal
from service.client.transport import Transport, is_passing, load_httpx, pauses, unreachable

#: files of a bundle's archive, and bytes of all of them unpacked
MOST_FILES, MOST_BYTES = 100, 4 << 30
READ = 1 << 20


def fetch(transport: Transport, path: str, target: Path) -> None:
    """Fetch a file; it is there whole or not at all.

    Raises:
        Refusal: the service does not hand it out.
        BadInput: the service stops answering, or the file cannot be written.
    """
    draft = draft_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            _receive(transport, path, file)
        draft.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        draft.unlink(missing_ok=True)


def bundle(transport: Transport, id_: str, folder: Path) -> None:
    """Fetch a job's bundle into a new folder, every byte as its manifest says.

    Raises:
        BadInput: the folder is not free, or what came is damaged.
    """
    if folder.exists():
        raise _taken(folder)
    try:
        with new_folder(folder) as draft:
            archive = draft.with_name(draft.name + ".zip")
            try:
                fetch(transport, f"/jobs/{id_}/bundle.zip", archive)
                _unpack(archive, draft)
            finally:
                archive.unlink(missing_ok=True)
            load_bundle(draft)
    except OSError as error:
        raise _unwritable(folder, error) from None


def everything(transport: Transport, id_: str, folder: Path) -> list[str]:
    """Fetch what a finished job shipped into a new folder: bundle, report, figures, candidates, and
    the job's file; the names of what is there."""
    if folder.exists():
        raise _taken(folder)
    try:
        with new_folder(folder) as draft:
            bundle(transport, id_, draft / "bundle")
            for path, name in (
                ("result", "result.json"),
                ("report", "report.html"),
                ("candidates?format=csv", "candidates.csv"),
                ("job.yaml", "job.yaml"),
            ):
                _fetch_if_there(transport, f"/jobs/{id_}/{path}", draft / name)
            return sorted(path.name for path in draft.iterdir())
    except OSError as error:
        raise _unwritable(folder, error) from None


def _fetch_if_there(transport: Transport, path: str, target: Path) -> None:
    try:
        fetch(transport, path, target)
    except Refusal as refusal:
        if refusal.status != 409:  # such as of a run whose report could not be drawn
            raise


def _receive(transport: Transport, path: str, file: IO[bytes]) -> None:
    """Stream an answer into a file, from the start again where the link breaks."""
    tries, began = iter(pauses()), time.monotonic()
    while True:
        try:
            file.seek(0)
            file.truncate()
            with transport.stream(path) as response:
                for piece in response.iter_bytes(READ):
                    file.write(piece)
            return
        except (load_httpx().TransportError, Refusal) as error:
            if isinstance(error, Refusal) and not is_passing(error):
                raise
            if time.monotonic() - began > transport.patience:
                if isinstance(error, Refusal):
                    raise
                raise unreachable(transport.url, error) from None
            time.sleep(next(tries))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files with plain names; what they hold is then checked against the manifest."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            size = sum(entry.file_size for entry in entries)
            if len(entries) > MOST_FILES or size > MOST_BYTES:
                raise _damaged(f"{len(entries)} files of {size:,} bytes")
            for entry in entries:
                name = entry.filename
                if not name or name != Path(name).name or "\\" in name or name in (".", ".."):
                    raise _damaged(f"a file called {name[:100]!r}")
                (folder / name).write_bytes(opened.read(entry))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(str(error)[:200]) from None


def _damaged(value: str) -> BadInput:
    return BadInput(
        "the bundle that came is damaged",
        value=value,
        bound="a zip file of a bundle's own files",
        remedy="Fetch it again.",
    )


def _taken(folder: Path) -> BadInput:
    return BadInput(
        "the folder exists",
        value=str(folder),
        bound="a folder that does not exist yet",
        remedy="Choose another --out.",
        field="out",
    )


def _unwritable(target: Path, error: OSError) -> BadInput:
    return BadInput(
        "what was fetched cannot be written",
        value=f"{target} ({error.strerror or error})",
        bound="a place where files can be made, on a disk with room",
        remedy="Choose another --out.",
        field="out",
    )
