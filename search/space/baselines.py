"""Plain students: what anybody would try first, and what a search has to beat.

Each is as large as the limits allow: one of uniform width, one that is widened where width costs
few bytes, one between the two, and a smaller one of uniform width. They are a search's first
candidates, from which it varies, and two of them take part in its last round whatever it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from search.space.space import Actions, Space

#: origins of those that are trained in full whatever the search finds
BASELINES = ("uniform", "largest")
#: share of the teacher that a student may be where a job has no limit on cost, as in the reward
USUAL_SHARE = 0.05
#: a student may be widened to so many times the multiply-accumulates of the uniform one: it has to
#: be trained in about the same time
MOST_MACS = 3.0
#: exponent of a layer's width by which the student in between favours narrow layers
TAPER = 0.5
#: size of the smaller uniform student over that of the others
SMALLER = 0.5

Fits = Callable[[Actions], bool]


@lru_cache(maxsize=4)
def plain_students(space: Space) -> Mapping[str, Actions]:
    """The plain students by origin, no network twice: ``uniform``, ``largest``, then pilots.

    ``largest`` is missing where nothing can be added to the uniform one. Found once per space: the
    limits do not change, and a deep network's take seconds.
    """
    fits = budget_of(space)
    even = uniform_student(space, fits)
    kb = space.cost(even).kb
    named = {
        "uniform": even,
        "largest": widened(space, even, fits),
        "tapered": tapered(space, fits),
        "smaller": uniform_student(
            space, lambda actions: fits(actions) and space.cost(actions).kb <= SMALLER * kb
        ),
    }
    found: dict[str, Actions] = {}
    known = set[str]()
    for name, actions in named.items():
        key = space.key(actions)
        if key not in known:
            known.add(key)
            found[name] = actions
    return MappingProxyType(found)


def budget_of(space: Space) -> Fits:
    """Whether a student keeps the limits on cost; without any, whether it is as small as the
    reward's C0 asks."""
    if space.limits.on_cost:
        return space.fits
    c0 = space.reward.settings.get("c0", 1.0)
    share = 1 - c0 if c0 < 1 else USUAL_SHARE
    kb = share * space.teacher_cost.kb
    return lambda actions: space.cost(actions).kb <= kb


def uniform_student(space: Space, fits: Fits) -> Actions:
    """All widths by the same coefficient, the largest that fits; the next larger one in as many
    layers as fit with it."""
    kept = [even for even in _even(space) if fits(even)]
    if not kept:
        return space.shrunk(next(_even(space)))
    return _filled(space, kept[-1], fits)


def _even(space: Space) -> Iterator[Actions]:
    """Students of one width, ascending; a layer whose width is not its own is kept."""
    legal = _widths(space)
    for level in range(len(space.moves.pool)):
        if not space.moves.removes(level):
            yield tuple(int(choices[np.abs(choices - level).argmin()]) for choices in legal)


def _widths(space: Space) -> list[NDArray[np.intp]]:
    """Legal actions of every layer that do not remove it."""
    found = []
    for mask in space.masks:
        legal = np.flatnonzero(mask)
        stay = [int(action) for action in legal if not space.moves.removes(int(action))]
        found.append(np.array(stay or legal, np.intp))
    return found


def _with(actions: Actions, step: int, action: int) -> Actions:
    return (*actions[:step], action, *actions[step + 1 :])


def widened(space: Space, start: Actions, fits: Fits) -> Actions:
    """``start`` with the layer widened whose next coefficient costs fewest bytes, again and again,
    until nothing more fits."""
    legal = _widths(space)
    most = MOST_MACS * space.cost(start).macs
    found = start
    while True:
        wider = [
            _with(found, step, int(choices[choices > found[step]][0]))
            for step, choices in enumerate(legal)
            if (choices > found[step]).any()
        ]
        space.costs(wider)
        may = [a for a in wider if fits(a) and space.cost(a).macs <= most]
        if not may:
            return found
        found = min(may, key=lambda actions: space.cost(actions).bytes)


def tapered(space: Space, fits: Fits) -> Actions:
    """Narrow layers keep a larger share of their width than wide ones: φ ∝ outputs^(−½)."""
    pool = np.array(space.moves.pool)
    outputs = np.array([layer.outputs for layer in space.layers], np.float64)
    bend = (outputs.max() / outputs) ** TAPER
    found = space.shrunk(next(_even(space)))
    for share in np.geomspace(pool[pool > 0].min() / 2, 1, 60):
        wanted = np.minimum(share * bend, 1.0)
        actions = tuple(
            int(choices[np.abs(pool[choices] - want).argmin()])
            for choices, want in zip(_widths(space), wanted, strict=True)
        )
        if fits(actions):
            found = actions
    return _filled(space, found, fits)


def _filled(space: Space, start: Actions, fits: Fits) -> Actions:
    """``start`` with every layer one coefficient wider where that fits, the cheapest first."""
    found = start
    wider = {
        step: int(choices[choices > start[step]][0])
        for step, choices in enumerate(_widths(space))
        if (choices > start[step]).any()
    }
    costs = {step: space.cost(_with(start, step, action)).bytes for step, action in wider.items()}
    for step in sorted(wider, key=lambda step: costs[step]):
        other = _with(found, step, wider[step])
        if fits(other):
            found = other
    return found
