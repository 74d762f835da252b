"""Understudy's packages beside a project's own of the same names.

A script's folder comes first on Python's path, and so an ``envs/`` or a ``search/`` in it hides the
one that is installed. Two finders put that right. The one here answers for the names themselves,
where understudy has been asked for. :mod:`understudy_beside` is there in every interpreter, and
only answers for modules that nobody else has.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: what lies beside this package in an installation, and in the repository
PACKAGES = ("edge", "envs", "teachers", "routers", "search", "service")
ROOT = Path(__file__).resolve().parents[1]


class First:
    """Answers for our packages before anybody else does."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A finder's method; None for whatever is not ours."""
        return PathFinder.find_spec(name, [str(ROOT)]) if name in PACKAGES else None


def first() -> None:
    """From now on our packages are found first; a warning where others were imported already."""
    if First not in sys.meta_path:
        sys.meta_path.insert(0, First)
    for name in PACKAGES:
        place = getattr(sys.modules.get(name), "__file__", None)
        if place is not None and not Path(place).resolve().is_relative_to(ROOT):
            warnings.warn(
                f"another package {name!r} was imported already ({place}): import understudy first",
                RuntimeWarning,
                stacklevel=3,
            )
