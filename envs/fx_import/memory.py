"""How much memory there is, and how large a constant may be in it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: numbers that a constant may have however little memory there is
LEAST_NUMBERS = 2**26


def memory() -> int:
    """Bytes of memory that this process may use; fewer than there are in a container."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most


def constant_budget() -> int:
    """Numbers of a constant that is computed from others: a quarter of the memory, at 8 bytes."""
    return max(LEAST_NUMBERS, memory() // 32)
