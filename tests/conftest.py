"""How the suite is shared between processes (``make test`` runs two).

Tests of one file stay together, because they share fixtures that are slow to make. Everything that
starts Ray stays in one process: two clusters at a time would wait for each other, and a test that
looks for what a dead one left behind would find the living.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WITH_RAY = ("search", "service")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(TESTS)
        group = "ray" if place.parts[0] in WITH_RAY else place.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
