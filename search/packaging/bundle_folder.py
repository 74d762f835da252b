"""A bundle in the place of an old one: whole at every moment, and with what others put beside it.

What goes is what the old manifest names and is still as it says. Anything else in the folder is
somebody's own, such as a note or a card that was edited, and moves along.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from edge.bundle import MANIFEST, write_bundle
from edge.errors import BadInput
from edge.manifest import Manifest

#: what an edited file is called from now on, where the new bundle has one of its name
EDITED = ".before"


def put_bundle(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    """Write a bundle, in the place of what is there.

    Args:
        folder: of the bundle; it need not exist.
        manifest, contents: as for :func:`edge.bundle.write_bundle`.

    Raises:
        BadInput: it cannot be written; the old one is as it was.
    """
    if not folder.exists():
        return write_bundle(folder, manifest, contents)
    folder = folder.resolve()
    mark = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{mark}.{kind}") for kind in ("new", "old"))
    written = write_bundle(new, manifest, contents)
    try:
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    except OSError as error:
        for name in (*contents, MANIFEST):
            (new / name).unlink(missing_ok=True)
        new.rmdir()
        raise BadInput(
            f"bundle {folder} cannot be replaced",
            value=error.strerror or error,
            bound="a folder that can be written to",
            remedy="Write the new bundle elsewhere: --out.",
        ) from error
    _clear(old, folder)
    return written


def _clear(old: Path, new: Path) -> None:
    """Remove an old bundle, and give what is not its own to the new one."""
    ours = _own(old)
    with suppress(OSError):  # what cannot be moved stays where it is
        for path in sorted(old.iterdir()):
            if path.name in ours:
                path.unlink()
                continue
            target = new / path.name
            if target.exists():
                target = new / f"{path.name}{EDITED}"
            if not target.exists():
                path.rename(target)
        old.rmdir()


def _own(folder: Path) -> set[str]:
    """Names of the files that are as the manifest in the folder says, and the manifest's."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        digests = {str(name): str(about["sha256"]) for name, about in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()  # nothing says what is the bundle's
    found = {MANIFEST}
    for name, digest in digests.items():
        path = folder / name
        if Path(name).name == name and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                if sha256(path.read_bytes()).hexdigest() == digest:
                    found.add(name)
    return found
