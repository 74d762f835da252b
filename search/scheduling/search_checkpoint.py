"""The state of a search in a file, so that resuming need not make every proposal again.

The ledger holds what was paid for and is written first, candidate by candidate. This file may be
older than the ledger, torn or missing: then the search is walked through from where the file ends,
or from the beginning, and comes to the same proposals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.files import write_bytes
from search.ledger.ledger import Ledger
from search.samplers import Sampler
from search.samplers.dedup import DIGEST
from teachers.distillation.checkpoint import Checkpoint

#: to be raised when a newer sampler or loop cannot go on from an older file. Where it only would
#: have proposed otherwise, going on keeps what was paid for; a walk through the ledger would not.
VERSION = 1
#: seconds between two writings, at least; and writing may take this share of the time
EVERY, SHARE = 2.0, 0.02

_SAMPLER = "sampler."
#: what a sampler, or the loop, may raise at a file that is whole but none of its own
_ALIEN = (ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True)
class State:
    """Where a search stands between two of its moves.

    Attributes:
        keys: of the candidates that it has met, in order.
        loop: what the loop's mode has to know, as JSON values.
    """

    keys: tuple[str, ...]
    loop: Mapping[str, Any]


class SearchCheckpoint:
    """The file of one search."""

    def __init__(self, path: Path, job: str, every: float = EVERY) -> None:
        """Nothing is read or written yet.

        Args:
            path: of the file; it need not exist.
            job: what tells this job from others; a file of another one is not used.
            every: seconds between two writings.
        """
        self.path, self.job, self.every = path, job, every
        self._due = 0.0

    def keep(self, sampler: Sampler, state: Callable[[], State]) -> bool:
        """Write the file, unless it was written only just now; says whether it did."""
        began = time.monotonic()
        if began < self._due:
            return False
        now, saved = state(), sampler.save()
        digests = b"".join(bytes.fromhex(key) for key in now.keys)
        arrays = {_SAMPLER + name: array for name, array in saved.arrays.items()}
        arrays["keys"] = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)
        meta = {
            "version": VERSION,
            "job": self.job,
            "sampler": dict(saved.meta),
            "loop": dict(now.loop),
        }
        write_bytes(self.path, Checkpoint(arrays, meta).to_bytes())
        ended = time.monotonic()
        self._due = ended + max(self.every, (ended - began) / SHARE if self.every else 0)
        return True

    def recall(self, sampler: Sampler, ledger: Ledger, in_order: bool) -> State | None:
        """Bring a fresh sampler to where the file was written.

        Args:
            sampler: fresh; where there is nothing to recall it stays so.
            ledger: of the same run. All that the file knows of has to be in it.
            in_order: whether it has to stand there first, and in the same order.

        Returns:
            None where the file is missing, torn, older than the ledger's records or of another
            job or version.
        """
        fresh = sampler.save()
        try:
            kept = Checkpoint.from_bytes(self.path.read_bytes())
            state = self._state_of(kept)
            if not _matches(state.keys, ledger, in_order):
                return None
            arrays = {
                name.removeprefix(_SAMPLER): array
                for name, array in kept.arrays.items()
                if name.startswith(_SAMPLER)
            }
            sampler.restore(Checkpoint(arrays, kept.meta["sampler"]))
        except FileNotFoundError:
            return None
        except _ALIEN:
            sampler.restore(fresh)
            return None
        return state

    def _state_of(self, kept: Checkpoint) -> State:
        if (kept.meta["version"], kept.meta["job"]) != (VERSION, self.job):
            raise ValueError("another job, or another version")
        return State(tuple(row.tobytes().hex() for row in kept.arrays["keys"]), kept.meta["loop"])


def _matches(keys: tuple[str, ...], ledger: Ledger, in_order: bool) -> bool:
    if in_order:
        return keys == tuple(record.key for record in ledger.records[: len(keys)])
    return all(ledger.get(key) is not None for key in keys)
