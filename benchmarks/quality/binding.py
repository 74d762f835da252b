"""Do task 1's thresholds decide anything? What moving one of them changes among the best.

A threshold is idle where all the best candidates lie on the same side of it: there the reward has
one slope, wherever the threshold is. One that binds gives way to another best when it is relaxed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.quality.making import Networks, accuracies, finished
from benchmarks.quality.small import SEARCH_SEED, Lab
from benchmarks.quality.task import MAX_DROP, Standard, Values
from envs.reward import Reward, ThresholdReward

#: by how much C0 is moved
STEP = 0.02
#: the best candidates that are looked at, as a share of all
BEST = 0.05
#: random halves of the candidates: does another one win because of a single candidate's luck?
HALVES = 200


def moved(standard: Standard) -> dict[str, Reward]:
    """The default reward with one threshold moved, and Eq. 7, where none bends anything."""
    reward = standard.rewards["threshold"]
    assert isinstance(reward, ThresholdReward)
    return {
        "Eq. 7": standard.rewards["paper"],
        "half the drop": replace(reward, a0=reward.a0 + MAX_DROP / 2),
        "twice the drop": replace(reward, a0=reward.a0 - MAX_DROP),
        f"C0 less {STEP}": replace(reward, c0=reward.c0 - STEP),
        f"C0 plus {STEP}": replace(reward, c0=reward.c0 + STEP),
    }


def changed(
    standard: Standard, found: Values, compressed: Values, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """What another reward changes: share of the best that stay, of halves with another winner.

    Args:
        standard: of these accuracies.
        found: accuracies of proxies, shape (candidates,).
        compressed: C of each, shape (candidates,).
        seed: of the halves.
    """
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(len(found))[: len(found) // 2] for _ in range(HALVES)]
    count = max(1, round(BEST * len(found)))
    expected = standard.expected(found)

    def look(reward: Reward) -> tuple[set[int], list[int]]:
        logs = reward.log(expected, compressed)
        best = {int(place) for place in np.argsort(-logs, kind="stable")[:count]}
        return best, [int(half[logs[half].argmax()]) for half in halves]

    best, winners = look(standard.rewards["threshold"])
    answers = {}
    for name, reward in moved(standard).items():
        others, other_winners = look(reward)
        differ = [one != other for one, other in zip(winners, other_winners, strict=True)]
        answers[name] = len(best & others) / count, float(np.mean(differ))
    return answers


def report() -> Iterator[str]:
    """Lines about all candidates that are trained so far."""
    lab = Lab.open()
    networks, done = Networks.of(lab.network), accuracies(finished(), SEARCH_SEED)
    numbers = np.array(sorted(done))
    found = np.array([done[number] for number in numbers])
    compressed = 1 - networks.bytes[numbers] / networks.bytes[-1]
    logs = lab.searched.log("threshold", found, compressed)
    top = int(logs.argmax())
    yield (
        f"{len(found)} candidates; the best: C = {compressed[top]:.3f}, accuracy {found[top]:.4f}, "
        f"{lab.searched.expected(found)[top]:.4f} expected"
    )
    for name, (stay, differ) in changed(lab.searched, found, compressed).items():
        yield f"{name:15s} {stay:4.0%} of the best {BEST:.0%} stay, {differ:4.0%} of halves differ"
