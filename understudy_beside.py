"""Finds understudy's modules beside a project's package of the same name.

``from search.pipeline import run`` works in a project that has a ``search`` of its own without a
``pipeline`` in it. What that project has is never hidden, and nothing is loaded before it is asked
for. ``understudy.pth`` starts this in every interpreter of a regular install; the finder of an
editable one does the same by itself.
"""

from __future__ import annotations

import os.path
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGES = ("edge", "envs", "teachers", "routers", "search", "service")
# every interpreter loads this: no pathlib, which takes milliseconds
ROOT = os.path.dirname(__file__)  # noqa: PTH120


class Beside:
    """A finder for what is directly in our packages."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A finder's method; None for whatever is not ours."""
        package, _, module = name.partition(".")
        if package not in PACKAGES or not module or "." in module:
            return None
        return PathFinder.find_spec(name, [os.path.join(ROOT, package)])  # noqa: PTH118


def install() -> None:
    """Ask it after everybody else."""
    if Beside not in sys.meta_path:
        sys.meta_path.append(Beside)
