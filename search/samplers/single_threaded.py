"""A sampler's own arithmetic, on one thread.

Its matrices are small: several threads gain nothing and wait for each other while candidates are
distilled on all processors. And sums over several threads round otherwise, so that a search that is
resumed on another number of processors would propose other candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from search.samplers.base import Observation, Sampler
from search.space.space import Actions
from teachers.distillation.checkpoint import Checkpoint


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SingleThreaded:
    """A sampler that does all its work on one thread; see the module."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def propose(self, count: int) -> list[Actions]:
        with one_thread():
            return self.sampler.propose(count)

    def tell(self, observations: Sequence[Observation]) -> None:
        with one_thread():
            self.sampler.tell(observations)

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        self.sampler.begin_with(candidates)

    def warm(self, evidence: Sequence[Observation]) -> int:
        with one_thread():
            return self.sampler.warm(evidence)

    def save(self) -> Checkpoint:
        return self.sampler.save()

    def restore(self, checkpoint: Checkpoint) -> None:
        with one_thread():
            self.sampler.restore(checkpoint)
