"""What this machine can do at a time."""

from __future__ import annotations

import os

from envs.fx_import.memory import memory


def cores() -> int:
    """Processors that this process may use; fewer than there are where somebody limits it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def image_budget(gb: float | None) -> int:
    """Bytes of images that are held in memory: ``gb``, else a quarter of it and at most 8 GB."""
    return int(gb * 1e9) if gb is not None else min(memory() // 4, 8 * 10**9)
