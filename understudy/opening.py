"""Opens whatever a search has left: a run's folder, or a bundle's."""

from __future__ import annotations

import os
from pathlib import Path

from edge.bundle import MANIFEST
from edge.errors import BadInput
from understudy.bundles import Bundle
from understudy.runs import Run


def open(path: str | os.PathLike[str]) -> Run | Bundle:  # noqa: A001 (as in PIL.Image.open)
    """The run or the bundle in a folder.

    Raises:
        BadInput: neither, or a damaged bundle.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        return Bundle(folder)
    if (folder / "job.yaml").is_file():
        return Run(folder)
    raise BadInput(
        f"{folder} is neither a run nor a bundle",
        value=f"no job.yaml and no {MANIFEST} in it" if folder.is_dir() else "no such folder",
        bound="what a search left in its folder `out`, or the folder named bundle in it",
        remedy="Look for that folder.",
    )
