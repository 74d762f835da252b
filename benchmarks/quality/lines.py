"""Files of JSON lines that several processes add to, and that outlive a kill at any byte.

A line counts once its newline is written. What a killed process left after the last newline is not
read, and is cut off before anything is added: otherwise the next line would be glued to it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO


def rows(file: Path) -> list[dict[str, Any]]:
    """What stands in whole lines; nothing where there is no file."""
    if not file.exists():
        return []
    content = file.read_bytes()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add one line, after a torn one is cut off; its folder is there."""
    with file.open("a+b") as log:
        # one at a time: a line that another process is writing is no torn one
        fcntl.flock(log, fcntl.LOCK_EX)
        _cut_torn_line(log)
        log.write(json.dumps(row).encode() + b"\n")


def _cut_torn_line(log: BinaryIO) -> None:
    end = log.seek(0, os.SEEK_END)
    if end == 0:
        return
    log.seek(end - 1)
    if log.read(1) != b"\n":
        log.seek(0)
        log.truncate(log.read().rfind(b"\n") + 1)
