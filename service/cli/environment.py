"""What is installed, and where a user's own code is found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from edge.errors import MissingExtra


def own_code(teacher: str) -> None:
    """A teacher of the user's own may stand in the folder that they are in, as for `python -m`; it
    comes last on the path, so that an ``envs/`` there hides none of ours."""
    from teachers.formats.factory import is_factory

    if is_factory(teacher) and not Path(teacher).exists():
        sys.path.append(str(Path.cwd()))


def needs_search(what: str) -> None:
    """MissingExtra where what a search needs is not installed."""
    if any(
        importlib.util.find_spec(package) is None
        for package in ("torch", "ray", "optuna", "gymnasium")
    ):
        raise MissingExtra(what, "search")
