"""Which files of a folder are pictures: what people put there, not what their computers left.

Editors, desktops, Macs and network drives leave files and folders of their own among pictures:
copies, deleted pictures, thumbnails. They would become rows, with wrong labels at that. Whatever
is left out is counted, with the reason, for one line that tells of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image

from edge.preprocess import formats

#: what is there beside the dot of hidden files; compared without case
SYSTEM_NAMES = frozenset({
    "__macosx", "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "#recycle",
    "#snapshot", "$recycle.bin", "recycler", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "icon\uf00d",
    "__pycache__", "_vti_cnf", "picasa.ini", "zbthumbnail.info", "sync.ffs_db",
})  # fmt: skip
PROBE_BYTES = 32

HIDDEN = "hidden or system entries"
LIKE_PICTURES = "folders named like pictures"
OTHER_FILES = "files that are no pictures"
BROKEN_LINKS = "links that lead nowhere or in circles"
UNREADABLE = "folders that cannot be read"
LOOSE = "pictures outside the class folders"


class LeftOut:
    """What is not taken from a source, by reason, with an example of each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()

    def add(self, reason: str, path: Path | str) -> None:
        """Count one more; ``path`` stands for it, and is counted once."""
        name = str(path)
        if isinstance(path, Path) and path.is_relative_to(self.root):
            name = str(path.relative_to(self.root))
        if (reason, name) not in self._seen:
            self._seen.add((reason, name))
            self._counts[reason] = self._counts.get(reason, 0) + 1
            self._examples.setdefault(reason, name)

    def line(self) -> str:
        """One line, or nothing where nothing was left out."""
        told = [
            f"{self._examples[reason]} ({reason})" if count == 1 else
            f"{count:,} {reason} ({self._examples[reason]}, …)"
            for reason, count in self._counts.items()
        ]  # fmt: skip
        return f"left out of {self.root.name}: {'; '.join(told)}" if told else ""


@cache
def suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of the formats that are decoded here."""
    known = formats()  # initialises Pillow, whose table of suffixes is empty before
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def is_system(name: str) -> bool:
    """Whether a file or folder of that name was left by a computer, not by a person."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def is_picture(path: Path) -> bool:
    """Whether a file is taken for a picture: by its suffix or, where it has none, its first bytes.

    What has the suffix of a picture and is none is refused later, when it is decoded.
    """
    if path.suffix:
        return path.suffix.lower() in suffixes()
    return _sniffed(path)


def subfolders(folder: Path, left: LeftOut) -> list[Path]:
    """The folders in ``folder`` that people made, sorted by name; links to folders count."""
    found = []
    for entry in _entries(folder, left):
        if entry.is_dir():
            path = Path(entry.path)
            if is_system(entry.name):
                left.add(HIDDEN, path)
            elif path.suffix.lower() in suffixes():
                left.add(LIKE_PICTURES, path)
            else:
                found.append(path)
    return found


def pictures(folder: Path, left: LeftOut) -> list[Path]:
    """All pictures in ``folder`` and below it, sorted by path, whatever their depth.

    Linked folders are followed, each once, and none that ``folder`` lies in: circles end.
    """
    above = [parent.stat() for parent in folder.resolve().parents]
    found = list(_walk(folder, left, {(about.st_dev, about.st_ino) for about in above}))
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def own_pictures(folder: Path, left: LeftOut) -> list[Path]:
    """The pictures in ``folder`` itself, sorted by name."""
    return [Path(entry.path) for entry in _entries(folder, left) if _taken(entry, left)]


def holds_pictures(folder: Path) -> bool:
    """Whether there is a picture in ``folder`` or below it; stops at the first."""
    return next(_walk(folder, LeftOut(folder), set()), None) is not None


def _walk(folder: Path, left: LeftOut, seen: set[tuple[int, int]]) -> Iterator[Path]:
    about = folder.stat()
    if (about.st_dev, about.st_ino) in seen:
        left.add(BROKEN_LINKS, folder)
        return
    seen.add((about.st_dev, about.st_ino))
    for entry in _entries(folder, left):
        if _taken(entry, left):
            yield Path(entry.path)
    for inner in subfolders(folder, left):
        yield from _walk(inner, left, seen)


def _taken(entry: os.DirEntry[str], left: LeftOut) -> bool:
    """Whether an entry is a picture that people put there; counted where it is another file."""
    if entry.is_dir():
        return False
    path = Path(entry.path)
    if is_system(entry.name):
        left.add(HIDDEN, path)
    elif not entry.is_file():
        left.add(BROKEN_LINKS, path)
    elif is_picture(path):
        return True
    else:
        left.add(OTHER_FILES, path)
    return False


def _entries(folder: Path, left: LeftOut) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        left.add(UNREADABLE, folder)
        return []


def _sniffed(path: Path) -> bool:
    """Whether a decoder accepts the first bytes and can read the header.

    A decoder that accepts anything, for want of a signature, is not asked.
    """
    try:
        with path.open("rb") as file:
            head = file.read(PROBE_BYTES)
        named = [name for name in formats() if (look := Image.OPEN[name][1]) and look(head)]
        if not named:
            return False
        with Image.open(path, formats=named):
            return True
    except Exception:  # whatever a decoder raises on what is no picture
        return False
