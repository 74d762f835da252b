"""Does a surrogate learn faster from what was distilled for another network?

A surrogate is fitted to few candidates of one task and asked to order others of it: alone, with
priors taken from a fit to the other task (``kernel``), and with a mean that the costs of the other
task's candidates predict (``mean``): quadratic in the logarithms of bytes, multiply-accumulates and
activations and in the share of layers left, scaled to the few. Only costs can be carried over, as
the layers of two networks have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.quality import resnet, table
from benchmarks.quality.score import interval
from benchmarks.quality.small import SEARCH_SEED
from search.samplers.features import Features, Seen
from search.samplers.surrogate import Priors, Surrogate, halvings

Values = NDArray[np.float64]
COUNTS, SEEDS, ASKED = (8, 16, 25, 50), 20, 400
#: candidates of the other task that are learnt from
OTHERS = 200
#: how strongly the carried-over mean is held back, and the spread of carried-over priors
RIDGE, SPREAD = 0.3, 0.5


@dataclass(frozen=True)
class Known:
    """Candidates of one task and how often each halved the error."""

    name: str
    seen: Seen
    z: Values

    def part(self, rows: NDArray[np.int64]) -> tuple[Seen, Values]:
        """Some of them; a surrogate looks at no costs beside those in ``whole``."""
        seen = self.seen
        return replace(seen, layers=seen.layers[rows], whole=seen.whole[rows]), self.z[rows]


def known() -> tuple[Known, Known]:
    """Both tasks, as far as they are committed; the second needs its teacher and MNIST.

    Raises:
        SystemExit: a file is not there.
    """
    small = table.read()
    distinct = np.unique(small.network)
    distinct = distinct[~np.isnan(small.accuracy[distinct])]
    rows = [
        row for row in resnet.packed() if row["seed"] == SEARCH_SEED and row["accuracy"] is not None
    ]
    if not rows:
        raise SystemExit(f"{resnet.FILE} is not there: play task 2, and then `pack --tasks resnet`")
    found = []
    for task, actions, accuracies in (
        (table.task(small), small.actions[distinct], small.accuracy[distinct]),
        (resnet.task(), [r["actions"] for r in rows], np.array([r["accuracy"] for r in rows])),
    ):
        space = task.space("threshold")
        z = halvings(task.searched.expected(accuracies))
        found.append(Known(task.name, Features(space)(np.array(actions, np.int64)), z))
    return found[0], found[1]


def report() -> Iterator[str]:
    """Spearman's ρ on candidates that were not fitted, and what carrying over adds to it."""
    one, other = known()
    for source, target in ((one, other), (other, one)):
        for count in COUNTS:
            alone, gains = compared(source, target, count)
            line = f"{source.name} -> {target.name}, {count:2d} candidates: alone {alone:.3f}"
            for name, (mean, low, high) in gains.items():
                line += f"; {name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            yield line


def compared(
    source: Known, target: Known, count: int, seeds: int = SEEDS
) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """What ``count`` candidates of the target teach alone, and what the source adds to that.

    Returns:
        the mean of Spearman's ρ over the seeds; for each way of carrying over the mean of its lead,
        paired by seed, with the 95 % interval.
    """
    alone = np.array([_correlation(_alone, target, count, seed) for seed in range(seeds)])
    gains = {}
    for name, way in {"kernel": _with_priors(source), "mean": _with_mean(source)}.items():
        more = [_correlation(way, target, count, seed) for seed in range(seeds)]
        gains[name] = interval([np.array(more) - alone])
    return float(alone.mean()), gains


#: few candidates, how often they halved the error, others → what is predicted of these
Way = Callable[[Seen, Values, Seen], Values]


def _correlation(way: Way, target: Known, count: int, seed: int) -> float:
    order = np.random.default_rng([seed, count]).permutation(len(target.z))
    (few, z), (asked, truth) = (
        target.part(rows) for rows in (order[:count], order[count : count + ASKED])
    )
    return float(stats.spearmanr(way(few, z, asked), truth).statistic)


def _alone(few: Seen, z: Values, asked: Seen, priors: Priors | None = None) -> Values:
    surrogate = Surrogate(priors)
    surrogate.fit(few, z)
    return surrogate.predict(asked)[0]


def _some(source: Known) -> tuple[Seen, Values]:
    return source.part(np.random.default_rng(1).permutation(len(source.z))[:OTHERS])


def _with_priors(source: Known) -> Way:
    surrogate = Surrogate()
    surrogate.fit(*_some(source))
    parts = np.split(
        surrogate.parameters,
        np.cumsum([source.seen.layers.shape[1], source.seen.whole.shape[1], 2]),
    )
    priors = Priors(*((float(part.mean()), SPREAD) for part in parts))
    return lambda few, z, asked: _alone(few, z, asked, priors)


def _with_mean(source: Known) -> Way:
    some, z = _some(source)
    terms = _terms(some)
    weights = np.linalg.solve(
        terms.T @ terms + 0.01 * np.eye(terms.shape[1]), terms.T @ ((z - z.mean()) / z.std())
    )

    def way(few: Seen, z: Values, asked: Seen) -> Values:
        told = np.stack([_terms(few) @ weights, np.ones(len(z))], 1)
        scale, middle = np.linalg.solve(told.T @ told + np.diag([RIDGE, 1e-6]), told.T @ z)
        left = _alone(few, z - scale * told[:, 0] - middle, asked)
        found: Values = left + scale * (_terms(asked) @ weights) + middle
        return found

    return way


def _terms(seen: Seen) -> Values:
    whole = seen.whole
    return np.concatenate(
        [whole, whole**2, whole[:, :1] * whole[:, 1:2], np.ones((len(whole), 1))], 1
    )
