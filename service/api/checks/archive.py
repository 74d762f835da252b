"""Zip files from strangers: unpacked by our rules, or refused before anything is written."""

from __future__ import annotations

import stat
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from edge.errors import BadInput

#: files of an archive, its size unpacked, and how often larger that is than the archive
MOST_FILES, MOST_BYTES, MOST_RATIO = 2_000_000, 64 << 30, 200
#: below so many bytes unpacked no ratio is suspicious: a page of zeros packs a thousandfold
SMALL = 64 << 20
#: characters of a path
LONGEST = 240
PIECE = 1 << 20


def unpack(archive: Path, folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Unpack a zip file into a new folder.

    Raises:
        BadInput: it is damaged or encrypted, unpacks to too much, or holds a path that leads out,
            a link, or two files that some disk cannot tell apart.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [(info, _place(info)) for info in opened.infolist() if not info.is_dir()]
            _check_sizes(archive, [info for info, _ in entries], most_bytes)
            _check_distinct([place for _, place in entries])
            for info, place in entries:
                _write(opened, info, folder / place)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise _bad("it cannot be unpacked", str(error)[:200], "a whole zip file") from None


def _check_sizes(archive: Path, infos: list[zipfile.ZipInfo], most_bytes: int) -> None:
    if len(infos) > MOST_FILES:
        raise _bad("it holds too many files", f"{len(infos):,}", f"at most {MOST_FILES:,}")
    whole = sum(info.file_size for info in infos)
    if whole > most_bytes:
        raise _bad("it unpacks to too much", f"{whole:,} bytes", f"at most {most_bytes:,}")
    if whole > max(SMALL, MOST_RATIO * archive.stat().st_size):
        found = f"{whole:,} bytes in an archive of {archive.stat().st_size:,}"
        raise _bad("it unpacks to suspiciously much", found, f"at most {MOST_RATIO} times its size")


def _place(info: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes, below the folder."""
    name = unicodedata.normalize("NFC", info.filename)
    path = PurePosixPath(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _bad("it holds a link or a device", name[:LONGEST], "files and folders alone")
    if info.flag_bits & 1:
        raise _bad("it is encrypted", name[:LONGEST], "files that can be read")
    odd = any(ord(letter) < 32 or ord(letter) == 127 for letter in name) or "\\" in name
    if path.is_absolute() or ".." in path.parts or odd or ":" in name.split("/")[0]:
        raise _bad("it holds a path that leads out", repr(name[:LONGEST]), "paths below its top")
    if len(name) > LONGEST or any(len(part.encode()) > LONGEST for part in path.parts):
        raise _bad("it holds a path that is too long", name[:40] + "…", f"{LONGEST} characters")
    return path


def _check_distinct(places: list[PurePosixPath]) -> None:
    seen: dict[str, PurePosixPath] = {}
    for place in places:
        other = seen.setdefault(str(place).casefold(), place)
        if other is not place:
            raise _bad("two of its files have one name", f"{other} and {place}", "distinct names")
    folders = {str(parent).casefold() for place in places for parent in place.parents}
    clash = next((place for place in places if str(place).casefold() in folders), None)
    if clash is not None:
        raise _bad("a name is a file and a folder at once", str(clash), "distinct names")


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with opened.open(info) as source, target.open("xb") as file:
        while piece := source.read(PIECE):
            left -= len(piece)
            if left < 0:  # its header lied
                raise _bad("a file is larger than its archive says", info.filename, "true sizes")
            file.write(piece)


def _bad(problem: str, value: str, bound: str) -> BadInput:
    return BadInput(
        f"the zip file cannot be used: {problem}",
        value=value,
        bound=bound,
        remedy="Pack it anew with an ordinary tool.",
        field="file",
    )
