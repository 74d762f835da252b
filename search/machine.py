"""What this machine can do at a time."""

from __future__ import annotations

import os


def cores() -> int:
    """Processors that this process may use; fewer than there are where somebody limits it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
