"""Samplers that propose no network twice as long as they find another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from search.samplers.base import Observation
from search.space.space import Actions, Space

#: bytes of a network's digest
DIGEST = 12
#: uniform draws before one is shrunk into the limits; their costs are counted a chunk at a time
DRAWS, CHUNK = 100, 25
#: single changes of a known candidate that are tried before it is proposed all the same
MAX_REPAIRS = 64
#: the best of the evidence that are distilled again: only what stands in its own ledger can win,
#: and the best of many noisy figures are rosy
INSURANCE = 3


def network_digest(space: Space, actions: Actions) -> bytes:
    """Digest of the network after rounding: equal for duplicates."""
    return sha256(space.key(actions).encode()).digest()[:DIGEST]


class Known:
    """A set of networks: two action vectors that round to the same one count as one."""

    def __init__(self, space: Space) -> None:
        self._digests: dict[bytes, None] = {}
        self._digest = lru_cache(maxsize=65_536)(partial(network_digest, space))

    def __contains__(self, actions: Actions) -> bool:
        return self._digest(actions) in self._digests

    def add(self, actions: Actions, key: str = "") -> None:
        """From now on it is known; ``key`` is its digest in hex, if somebody has it."""
        self._digests[bytes.fromhex(key) if key else self._digest(actions)] = None

    def to_array(self) -> NDArray[np.uint8]:
        """Shape (networks, :data:`DIGEST`)."""
        joined = b"".join(self._digests)
        return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST)

    def from_array(self, digests: NDArray[np.uint8]) -> None:
        """The inverse of :meth:`to_array`."""
        self._digests = {row.tobytes(): None for row in digests}


def uniform(space: Space, legal: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> Actions:
    """Every legal action alike, within the limits.

    The distribution of :class:`search.samplers.random.RandomSampler`, with the costs of many
    draws counted at once.
    """
    actions: Actions = ()
    for _ in range(DRAWS // CHUNK):
        columns = [rng.choice(choices, CHUNK) for choices in legal]
        drawn = [tuple(map(int, row)) for row in np.stack(columns, axis=1)]
        space.costs(drawn)
        for actions in drawn:
            if space.fits(actions):
                return actions
    return space.shrunk(actions)


def changed(
    actions: Actions, legal: Sequence[NDArray[np.intp]], rng: np.random.Generator
) -> Actions:
    """One layer, drawn from those with a choice, gets another legal coefficient."""
    step = int(rng.choice([place for place, choices in enumerate(legal) if len(choices) > 1]))
    others = [int(choice) for choice in legal[step] if choice != actions[step]]
    return (*actions[:step], int(rng.choice(others)), *actions[step + 1 :])


class DedupSampler(ABC):
    """What such samplers share: limits, duplicates, and a generator of its own for every draw.

    A member says how it draws. A draw beyond the limits, or of a known network, costs nothing but
    its time: it is drawn again, ``draws`` times in all. Then the last draw is shrunk into the
    limits, and single layers of it are changed until it is new. Only where that fails too, as in a
    space that is used up, is something known proposed; the next time a uniform draw is what is
    changed, as a model has nothing more to say.

    Every draw's generator comes from the seed and the number of draws before it. So what comes
    next depends on this number and on what was told, and a checkpoint needs no generator's state.
    """

    def __init__(self, space: Space, seed: int, draws: int) -> None:
        self.space, self.seed, self.draws = space, seed, draws
        self.legal = [np.flatnonzero(mask) for mask in space.masks]
        self.known = Known(space)
        self.drawn = 0
        # proposed before anything is drawn
        self.queue: list[Actions] = []
        # nothing new was found the last time
        self.stale = False

    def propose(self, count: int) -> list[Actions]:
        """New networks within the limits, as long as there are any."""
        return [self._one() for _ in range(count)]

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        """These come first, and are learnt from as all others."""
        self.queue = [*candidates, *self.queue]

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Actions:
        """The member's own way to a legal candidate; it need not keep the limits, nor be new."""

    def _refused(self, actions: Actions) -> None:
        """Hear of a draw that breaks the limits."""
        return

    def _proposed(self, actions: Actions) -> None:
        """Hear of what is proposed in the end."""
        return

    def _one(self) -> Actions:
        if self.queue:
            actions = self.queue.pop(0)
        else:
            actions = self._new()
            self.stale = actions in self.known
        self.known.add(actions)
        self._proposed(actions)
        return actions

    def _new(self) -> Actions:
        if self.stale:
            return self._repair(uniform(self.space, self.legal, self._generator()))
        for _ in range(self.draws):
            actions = self._draw(self._generator())
            if not self.space.fits(actions):
                self._refused(actions)
            elif actions not in self.known:
                return actions
        return self._repair(self.space.shrunk(actions))

    def _repair(self, actions: Actions) -> Actions:
        rng = self._generator()
        for _ in range(MAX_REPAIRS):
            if actions not in self.known or all(len(choices) == 1 for choices in self.legal):
                return actions
            other = changed(actions, self.legal, rng)
            if self.space.fits(other):
                actions = other
        return actions

    def _generator(self) -> np.random.Generator:
        self.drawn += 1
        return np.random.default_rng([self.seed, self.drawn])

    def _know(self, evidence: Iterable[Observation]) -> None:
        """Evidence counts as known, but the best of it that keep the limits are proposed first."""
        told = list(evidence)
        for observation in told:
            self.known.add(observation.actions, observation.key)
        again = Known(self.space)
        for observation in sorted(told, key=lambda observation: observation.reward, reverse=True):
            if len(self.queue) == INSURANCE or observation.failed:
                return
            new = self.space.fits(observation.actions) and observation.actions not in again
            if new and not observation.pruned:
                again.add(observation.actions)
                self.queue.append(observation.actions)
