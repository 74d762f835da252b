"""What this process has made on the disk, so that it can take that back, and nothing else.

A job that is refused leaves nothing behind. But its folder may hold files of somebody else by then,
so nothing is removed for lying there: only what is noted here, and only while it is still the very
same file, as it was written. A folder goes when it is empty.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

#: device, inode and kind; of a file that is as it was written, size and time of that too
_Identity = tuple[int, ...]
_made: dict[Path, _Identity] = {}


def note(path: Path, *, grows: bool = False) -> None:
    """Count a file or folder as made by this process; nothing where it is gone already.

    Args:
        path: of it.
        grows: it will be written to. Otherwise whoever changes it makes it theirs.
    """
    identity = _identity(path)
    if identity is not None:
        _made[_whole(path)] = identity[:3] if grows or stat.S_ISDIR(identity[2]) else identity


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing, and what is missing above it.

    Raises:
        OSError: it cannot be made.
    """
    place = _whole(folder)
    if place.is_dir():
        return
    if place.parent != place:
        make_folder(place.parent)
    try:
        place.mkdir()
    except FileExistsError:
        if not place.is_dir():
            raise
        return  # somebody else was first
    note(place)


def is_own(path: Path) -> bool:
    """Whether this process has made what lies there now."""
    kept = _made.get(_whole(path))
    return kept is not None and kept == (_identity(path) or ())[: len(kept)]


def moved(old: Path, new: Path) -> None:
    """A folder has another name now, and so has what this process has made in it."""
    before, now = _whole(old), _whole(new)
    for path in [path for path in _made if path.is_relative_to(before)]:
        _made[now / path.relative_to(before)] = _made.pop(path)


def take_back(root: Path) -> None:
    """Remove what this process has made at ``root`` and below it, and folders above it that it
    made for it; whatever anybody else has put there stays, and so do the folders that it is in."""
    place = _whole(root)
    below = [path for path in _made if path.is_relative_to(place)]
    # what is deepest first, so that folders are empty when it is their turn
    for path in sorted(below, key=lambda path: -len(path.parts)):
        _remove(path)
    for path in place.parents:
        if path not in _made or not _remove(path):
            break


def _remove(path: Path) -> bool:
    """Whether it was ours, and is gone."""
    own = is_own(path)
    del _made[path]
    if not own:
        return False
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
        return True
    return False


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (links stay: they are not what was made)


def _identity(path: Path) -> _Identity | None:
    with suppress(OSError):
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        # a number of an inode is given again to the next file
        return found.st_dev, found.st_ino, kind, found.st_mtime_ns, found.st_size
    return None
