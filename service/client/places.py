"""Folders of the user's own, by the rules of the platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "understudy"


def config_folder() -> Path:
    """Where settings of the user's lie."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / NAME
    return _absolute("XDG_CONFIG_HOME", Path.home() / ".config") / NAME


def cache_folder() -> Path:
    """Where lies what can be fetched again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / NAME
    return _absolute("XDG_CACHE_HOME", Path.home() / ".cache") / NAME


def _absolute(variable: str, otherwise: Path) -> Path:
    """A folder of the environment; a relative one does not count, says its specification."""
    found = os.environ.get(variable, "")
    return Path(found) if os.path.isabs(found) else otherwise  # noqa: PTH117
