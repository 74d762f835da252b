"""Which rows a router is fitted on: query by committee (Zhang, Algorithm 2) and its rivals.

A student is mostly right, so normal rows far outnumber complex ones. The paper balances the two
with as many normal rows as there are complex ones, half drawn at random and half by where a
committee is least sure. Balanced rows hide how often the student errs:
:mod:`routers.fitting.natural_rate` puts that back.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput, check_member
from routers.selection import committees
from routers.selection.committees import COMMITTEES, Committee, default_committee

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

# Feature values that a committee judges at a time: 16 MB, and a few times that inside a member.
BLOCK = 4_000_000


def entropy(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Eq. 11 per row of N×C probabilities, in nats, with 0·log 0 = 0."""
    p = np.asarray(probabilities, dtype=np.float64)
    result: NDArray[np.float64] = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1)
    return result


def select_normal(
    features: Features,
    complex_rows: Rows,
    normal_rows: Rows,
    *,
    r: float = 0.5,
    committee: Committee = default_committee,
    seed: int,
) -> Rows:
    """Algorithm 2: M of ``normal_rows``, sorted, for M = the number of ``complex_rows``.

    ⌊r·M + ½⌋ rows (at least one, or nothing normal could be fitted) are drawn at random, the
    others are those of largest S(x) = max over the committee of the entropy (Eq. 11 and 12);
    equal scores go by row number. ``features`` is float32 N×F and the rows index into it. Where
    fewer normal rows than M exist, M is cut to their number. BadInput unless 0 < r < 1.
    """
    if not 0 < r < 1:
        raise BadInput(
            "the random share r of query by committee is out of range",
            value=r,
            bound="a number strictly between 0 and 1",
            remedy="The paper uses 0.5.",
        )
    normal = np.sort(normal_rows)
    M = min(len(complex_rows), len(normal))
    if M in (0, len(normal)):
        return normal[:M]  # none or all of them: nothing is left to choose
    rng = np.random.default_rng(seed)
    at_random = max(1, math.floor(r * M + 0.5))
    places = rng.choice(len(normal), size=at_random, replace=False)  # line 2
    drawn = np.sort(normal[places])
    wanted = M - at_random
    if wanted == 0:
        return drawn

    rest = np.delete(normal, places)
    fitted = np.concatenate([np.sort(complex_rows), drawn])
    right = np.repeat(np.array([0, 1], dtype=np.int64), [len(complex_rows), at_random])
    score = np.full(len(rest), -np.inf)
    step = max(1, BLOCK // features.shape[1])
    # vectorised products of float32 now and then report an overflow that is none
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for member in committee(seed, len(fitted)):
            member.fit(features[fitted], right)  # line 3
            for begin in range(0, len(rest), step):  # lines 4 to 9
                block = slice(begin, begin + step)
                doubt = entropy(member.predict_proba(features[rest[block]]))
                np.maximum(score[block], doubt, out=score[block])
    most_unsure = np.argsort(-score, kind="stable")[:wanted]  # lines 10 and 11
    return np.sort(np.concatenate([drawn, rest[most_unsure]]))


class Sampling(Protocol):
    """Chooses the rows a router is fitted on.

    Given features (float32 N×F) and right (int N, 1 = the student is right), returns sorted row
    numbers. ``r`` is Algorithm 2's random share and ``committee`` a name in
    :data:`~routers.selection.committees.COMMITTEES`; members without one leave them unread.
    """

    def __call__(
        self,
        features: Features,
        right: Rows,
        *,
        r: float,
        seed: int,
        committee: str = committees.DEFAULT,
    ) -> Rows: ...


def _split(right: Rows, seed: int) -> tuple[Rows, Rows]:
    """Complex and normal rows; M is cut to the number of normal rows, so that both balance."""
    complex_rows, normal_rows = np.flatnonzero(right == 0), np.flatnonzero(right == 1)
    if len(complex_rows) > len(normal_rows):
        rng = np.random.default_rng(seed)
        complex_rows = np.sort(rng.choice(complex_rows, size=len(normal_rows), replace=False))
    return complex_rows, normal_rows


def by_committee(
    features: Features,
    right: Rows,
    *,
    r: float,
    seed: int,
    committee: str = committees.DEFAULT,
) -> Rows:
    """The complex rows and the normal ones of Algorithm 2. BadInput for an unknown committee."""
    check_member("committee", committee, COMMITTEES)
    complex_rows, normal_rows = _split(right, seed)
    chosen = select_normal(
        features, complex_rows, normal_rows, r=r, committee=COMMITTEES[committee], seed=seed
    )
    return np.sort(np.concatenate([complex_rows, chosen]))


def at_random(
    features: Features,
    right: Rows,
    *,
    r: float,
    seed: int,
    committee: str = committees.DEFAULT,
) -> Rows:
    """The complex rows and as many normal ones drawn at random: the paper's baseline."""
    complex_rows, normal_rows = _split(right, seed)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(normal_rows, size=len(complex_rows), replace=False)
    return np.sort(np.concatenate([complex_rows, chosen]))


def everything(
    features: Features,
    right: Rows,
    *,
    r: float,
    seed: int,
    committee: str = committees.DEFAULT,
) -> Rows:
    """Every row, at the natural rate of errors."""
    return np.arange(len(right), dtype=np.int64)


SAMPLING: dict[str, Sampling] = {
    "qbc": by_committee,
    "random": at_random,
    "all": everything,
}
