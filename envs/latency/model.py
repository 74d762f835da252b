"""How long work takes on a device: a sum over operators, fitted to the times of a kit.

Every operator costs a little for being there, and more with its multiply-accumulates and with what
it reads, writes and holds as weights; none of these can cost less than nothing. So a student's
time is linear in few numbers with coefficients ≥ 0, and these follow from the kit by non-negative
least squares on relative errors.

One thing is not linear. ONNX Runtime computes convolutions on blocks of channels where it can (16
on a processor with 512-bit registers, 8 or 4 on others), and elsewhere falls back to a slower way;
between the two it reorders tensors. So a convolution counts by the way it goes, and the size of a
block is what fits the kit best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from edge.kit import Work
from edge.profile import Profile, Timing
from envs.compression.flow import Mask, both, no
from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.graph.ops.base import Size
from envs.graph.ops.weighted import CONVOLUTIONS
from envs.latency.works import Batch, works_of

Values = NDArray[np.float64]
Row = NDArray[np.float64]
#: what costs, where it costs, how much of it
Term = tuple[str, Mask, Size]

#: sizes of a block of channels that are tried
BLOCKS = (1, 4, 8, 16)
#: weight of a layer alone beside a whole student, which is what is predicted
ALONE = 0.3
#: relative error beyond which a graph counts less and less
CLIP = 0.1
#: folds of the kit over which a size of block is judged, and the least ratio that counts there
FOLDS, LEAST = 6, 1e-6
#: numbers are counted in these, so that coefficients are of a like size
MEGA, TEN_THOUSAND = 1e6, 1e4


def terms(work: Work, block: int, alone: bool = False) -> Iterator[Term]:
    """What an operator's time consists of.

    Args:
        work: numbers, or arrays with one entry per candidate.
        block: channels that the runtime computes together.
        alone: the operator is a graph of its own, with nothing before and after it.
    """
    if work.op in CONVOLUTIONS:
        yield from _convolution(work, block, alone)
    elif work.op == "linear":
        yield from _costs("linear", True, (work.inputs * work.outputs, "weights"))
    else:
        # done by the convolution before it where it can be, else a pass over memory of its own
        for name, where in ((f"{work.op} fused", work.fused), (work.op, no(work.fused))):
            yield from _costs(name, where, (work.read, "read"), (work.wrote, "wrote"))


def _convolution(work: Work, block: int, alone: bool) -> Iterator[Term]:
    pixels = work.wrote // work.outputs
    weights = (work.inputs // work.groups) * work.outputs * work.area
    grouped = _mask(work.groups != 1)
    in_whole, out_whole = _mask(work.inputs % block == 0), _mask(work.outputs % block == 0)
    blocked_width = -(-work.outputs // block) * block
    few = both(no(grouped), _mask(work.inputs < block))
    ways = {
        # whole blocks in, or channels so few that they are read as they are
        "blocks": both(no(grouped), both(in_whole, no(few))),
        "few": few,
        "plain": both(no(grouped), both(no(in_whole), no(few))),
        "grouped blocks": both(grouped, both(in_whole, out_whole)),
        "grouped plain": both(grouped, no(both(in_whole, out_whole))),
    }
    for way, where in ways.items():
        padded = way in ("blocks", "few")
        width = blocked_width if padded else work.outputs
        macs = (work.inputs // work.groups) * work.area * pixels * width
        point = _mask(work.area == 1)
        for size, sized in (("1x1", both(where, point)), ("kxk", both(where, no(point)))):
            yield f"{way} {size} macs", sized, macs / MEGA
            counted = ((work.read, "read"), (pixels * width, "wrote"), (weights, "weights"))
            yield from _costs(f"{way} {size}", sized, *counted)
    blocked = _either(ways["blocks"], ways["few"], ways["grouped blocks"])
    back = blocked if alone else both(blocked, no(out_whole))
    yield from _costs("reorder back", back, (work.wrote, "wrote"))
    if alone:
        reordered = _either(ways["blocks"], ways["grouped blocks"])
        yield from _costs("reorder", reordered, (work.read, "read"))


def _costs(name: str, where: Mask, *counted: tuple[Size, str]) -> Iterator[Term]:
    yield f"{name} once", where, 1.0
    for count, what in counted:
        yield f"{name} {what}", where, count / TEN_THOUSAND


def _mask(found: Any) -> Mask:
    return found if isinstance(found, np.ndarray) else bool(found)


def _either(*masks: Mask) -> Mask:
    found: Mask = np.logical_or.reduce(np.broadcast_arrays(*masks))
    return bool(found) if np.ndim(found) == 0 else found


@dataclass(frozen=True)
class LatencyModel:
    """Predicts milliseconds for one input.

    Attributes:
        block: channels that the runtime computes together.
        once: milliseconds of a run of nothing.
        coefficients: name of a term → milliseconds for one of it.
        other: the same, of an operator that was not in the kit, by the end of a term's name.
        error: median relative error on whole students of the kit that were held out.
        misfit: mean of |log(predicted / measured)| over all graphs of the kit, held out.
    """

    block: int
    once: float
    coefficients: dict[str, float]
    other: dict[str, float]
    error: float
    misfit: float

    def predict(self, batch: Batch) -> Values:
        """Milliseconds of every student of a batch."""
        total = np.full(batch.size, self.once)
        for work, live in zip(batch.works, batch.live, strict=True):
            for name, where, amount in terms(work, self.block):
                price = self.coefficients.get(name)
                if price is None:
                    price = self.other.get(name.rsplit(" ", 1)[1], 0.0)
                mask = both(live, where)
                if price and mask is not False:
                    total += price * np.where(mask, amount, 0.0)
        return total


def fit(profile: Profile) -> LatencyModel:
    """The model that explains a profile best."""
    found = [_fit_block(profile.timings, block) for block in BLOCKS]
    return min(found, key=lambda model: model.misfit)


def _fit_block(timings: Sequence[Timing], block: int) -> LatencyModel:
    names, matrix = _matrix(timings, block)
    ms = np.array([timing.ms for timing in timings])
    weights = np.array([ALONE if timing.alone else 1.0 for timing in timings])
    held_out = np.empty(len(ms))
    for fold in range(FOLDS):
        out = np.arange(len(ms)) % FOLDS == fold
        prices = _solve(matrix[~out], ms[~out], weights[~out])
        held_out[out] = matrix[out] @ prices
    ratio = np.maximum(held_out / ms, LEAST)
    whole = weights == 1 if (weights == 1).any() else weights > 0
    prices = _solve(matrix, ms, weights)
    coefficients = dict(zip(names, map(float, prices[1:]), strict=True))
    return LatencyModel(
        block,
        float(prices[0]),
        coefficients,
        _others(coefficients),
        error=float(np.median(np.abs(ratio[whole] - 1))),
        misfit=float(np.abs(np.log(ratio)).mean()),
    )


def _matrix(timings: Sequence[Timing], block: int) -> tuple[list[str], Values]:
    """Names of terms, and how much of each every graph has, after a column of ones."""
    rows: list[dict[str, float]] = []
    for timing in timings:
        row: dict[str, float] = {}
        for work in timing.works:
            for name, where, amount in terms(work, block, timing.alone):
                if where:
                    row[name] = row.get(name, 0.0) + float(amount)
        rows.append(row)
    names = sorted({name for row in rows for name in row})
    matrix = np.array([[1.0, *(row.get(name, 0.0) for name in names)] for row in rows])
    return names, matrix


def _solve(matrix: Values, ms: Values, weights: Values) -> Values:
    """Least squares on relative errors, in which outliers count less and less."""
    each = weights / ms
    for _ in range(5):
        prices: Values = nnls(matrix * each[:, None], ms * each, maxiter=50 * matrix.shape[1])[0]
        off = matrix @ prices / ms - 1
        each = weights / ms / np.sqrt(1 + (off / CLIP) ** 2)
    return prices


def _others(coefficients: dict[str, float]) -> dict[str, float]:
    """For an operator that no graph had: the median over those without weights."""
    found: dict[str, list[float]] = {}
    for name, price in coefficients.items():
        parts = name.rsplit(" ", 1)
        if len(parts[0].split()) == 1 and parts[0] != "linear":
            found.setdefault(parts[1], []).append(price)
    return {end: float(np.median(prices)) for end, prices in found.items()}


class Predictor:
    """Milliseconds of a teacher's students, from their actions alone."""

    def __init__(self, teacher: NetSpec, moves: Moves, model: LatencyModel) -> None:
        self.teacher, self.moves, self.model = teacher, moves, model

    def __call__(self, actions: NDArray[np.int64]) -> Values:
        """Milliseconds of students, actions of shape (batch, layers)."""
        return self.model.predict(works_of(self.teacher, self.moves, actions))
