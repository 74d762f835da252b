"""A folder that one process alone works in: claimed at once or not at all, and given back clean.

A new folder is claimed by making it: of any number of processes that try, on a shared file system
too, the system lets one. A run that is there already is claimed by the lock in it. Whoever is
refused has made nothing and removes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge import made
from edge.errors import BadInput
from search.job import lock

LOCK = "run.lock"
#: times that a folder above is made again, where somebody who was refused has just removed it
_TRIES = 20


@dataclass(frozen=True)
class Claim:
    """A folder that is ours.

    Attributes:
        root: of the folder.
        new: whether this process has made it.
    """

    root: Path
    new: bool


@contextmanager
def claimed(
    root: Path, keep: Callable[[BaseException], bool], *, new: bool | None = True
) -> Iterator[Claim]:
    """A folder of one's own for a while.

    Args:
        root: the folder.
        keep: asked where it was made here and the work in it ended with an error: whether what is
            in it stays. Otherwise all that this process made there is removed, and no more.
        new: True for one that does not exist, False for one that does, None for either.

    Raises:
        BadInput: it exists (does not exist), cannot be made, or another process works in it.
    """
    fresh = _make(root, must=new is True) if new is not False else False
    try:
        held = lock.take(root / LOCK)
    except BaseException:
        if fresh:
            made.take_back(root)
        raise
    try:
        yield Claim(root, fresh)
    except BaseException as error:
        if fresh and not keep(error):
            made.take_back(root)
        raise
    finally:
        lock.let_go(held)


def _make(root: Path, must: bool) -> bool:
    """Make a folder; whether it was this call that did."""
    for _ in range(_TRIES):
        try:
            made.make_folder(root.absolute().parent)
            root.mkdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if not root.exists() and not root.is_symlink():
                raise unmakeable(root, error.strerror) from None
            if must or not root.is_dir():
                raise taken(root) from None
            return False
        made.note(root)
        return True
    raise unmakeable(root, "No such file or directory")


def taken(root: Path) -> BadInput:
    """What is said of a folder that exists."""
    who = lock.holder(root / LOCK)
    if who is not None:
        return BadInput(
            "the output folder exists, and a job is at work in it",
            value=f"{root}, {who}",
            bound="a folder that does not exist yet",
            remedy="Choose another --out, or wait for that job.",
        )
    return BadInput(
        "the output folder exists",
        value=str(root),
        bound="a folder that does not exist yet",
        remedy="Choose another --out, or go on with that run: --resume.",
    )


def unmakeable(root: Path, why: str | None) -> BadInput:
    """What is said of a place where no folder can be made."""
    return BadInput(
        "the output folder cannot be made",
        value=str(root),
        bound="a path where folders can be made",
        remedy=f"Choose another --out ({why}).",
    )
