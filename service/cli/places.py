"""What a user names by its folder: a bundle, the bundle of a run, the images in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from edge.bundle import MANIFEST
from edge.errors import BadInput

#: folders that systems and programs put beside images; those that begin with a dot are others
_SYSTEM = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})


def bundle_of(path: Path) -> Path:
    """The folder of a bundle; of a run it is the one that its search has shipped.

    Raises:
        BadInput: a run that is not finished.
    """
    if (path / MANIFEST).is_file() or not (path / "job.yaml").is_file():
        return path
    bundle = path / "bundle"
    if not (bundle / MANIFEST).is_file():
        raise BadInput(
            f"the run {path} has no bundle yet",
            value=f"no {MANIFEST} in {bundle}",
            bound="a run that is finished",
            remedy=f"Go on with it: understudy search --resume --out {path}.",
        )
    return bundle


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, and not of a bundle."""
    return (path / "job.yaml").is_file() and not (path / MANIFEST).is_file()


def images_of(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Files as they are named, and the images below folders, in order of their names.

    Args:
        paths: files and folders.

    Returns:
        the files; and how many others lie in the folders, which are no images by their names.

    Raises:
        BadInput: a folder without any.
    """
    known = _suffixes()
    found: list[Path] = []
    others = 0
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = list(_below(path))
        images = [file for file in inside if file.suffix.lower() in known]
        if not images:
            raise BadInput(
                f"there are no images in {path}",
                value=f"{len(inside):,} files",
                bound="at least one, in the folder or below it",
                remedy="Name a folder with images, such as .png or .jpg, or the files themselves.",
            )
        found += images
        others += len(inside) - len(images)
    return found, others


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in _SYSTEM:
            continue
        if path.is_dir():
            # a link could lead around in a circle
            if not path.is_symlink():
                yield from _below(path)
        elif path.is_file():
            yield path


def _suffixes() -> frozenset[str]:
    """Of every format that can be read here."""
    return frozenset(
        suffix for suffix, format_ in Image.registered_extensions().items() if format_ in Image.OPEN
    )
