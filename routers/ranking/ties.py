"""Scores that many rows share, told apart by a second score, in the router's own file.

Neighbours that are all wrong and leaves of trees give many rows one score, and so does an int8
student's grid of logits. Rows of equal score appeal together or not at all, so that a budget below
their share would buy nothing. Here such a score *a* becomes

    a − span · (high − second) / (high − low),    the fraction clipped to [0, 1],

where the second scores of the rows that share a lie between ``low`` and ``high``; every other score
stays what it is, to the bit. ``span`` is at most half of what lies between a and the next lower
score that was seen, so that no two different scores change places, and wide enough for hundreds of
steps of float32. What a runtime with other rounding computes for a is within
a few units of the last place, and is taken for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from routers.models.scores import SCORES, Score
from routers.onnx import export
from routers.onnx.nodes import Writer

Floats = NDArray[np.float32]

#: scores between 0 and 1, any of which can be the second one
BOUNDED = ("margin", "max_softmax", "gini")
# A score that fewer rows share costs a budget next to nothing.
LEAST_ROWS, LEAST_SHARE = 2, 0.005
# Of the score, or of a thousandth where it is less: the span, what counts as the same score, and
# the least span worth having. A unit of the last place is 2⁻²⁴ to 2⁻²³.
_SPAN, _SAME, _LEAST_SPAN, _FLOOR = 2.0**-14, 2.0**-21, 2.0**-19, 2.0**-10
# Second scores that differ by less are equal, too; on either side there is room for those of rows
# that nobody has seen, as a share of what lies between the seen.
_LEAST_SECOND, _MARGIN = 1e-6, 0.1


class Ties(NamedTuple):
    """Scores that are shared: A values, ascending, how far each may be lowered, how far from it a
    score may lie that is taken for it, and between which second scores its rows lie."""

    value: Floats
    span: Floats
    same: Floats
    low: Floats
    high: Floats


def ties(
    score: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], *, top: bool = True
) -> Ties:
    """The scores that too many rows of N share, and that ``second``, N as well, tells apart;
    ``top``: the highest may be one of them."""
    values, group, counts = np.unique(
        np.asarray(score, np.float32), return_inverse=True, return_counts=True
    )
    low, high = np.full(len(values), np.inf), np.full(len(values), -np.inf)
    np.minimum.at(low, group, second)
    np.maximum.at(high, group, second)
    room = (high - low) * _MARGIN
    exact = values.astype(np.float64)
    gaps = np.r_[np.inf, np.diff(exact), np.inf]
    below, above = gaps[:-1], gaps[1:]
    size = np.maximum(np.abs(exact), _FLOOR)
    span = np.minimum(_SPAN * size, below / 2)
    same = np.minimum(_SAME * size, np.minimum(below, above) / 4)
    shared = counts >= max(LEAST_ROWS, LEAST_SHARE * len(score))
    if not top and len(values) > 1:
        shared[-1] = False
    kept = shared & (span >= _LEAST_SPAN * size) & (high - low > _LEAST_SECOND)
    columns = values, span, same, low - room, high + room
    return Ties(*(column[kept].astype(np.float32) for column in columns))


def second_score(areas: Mapping[str, float], but: str = "") -> str:
    """The name of the bounded score of largest area; ``but`` is the one whose ties are broken."""
    offered = [name for name in BOUNDED if name in areas and name != but]
    return max(offered, key=lambda name: areas[name], default="margin")


def broken(
    model: bytes, logits: NDArray[np.floating[Any]], second: str, *, top: bool = True
) -> bytes:
    """The router with its ties broken.

    Args:
        model: a serialised router.
        logits: N×K, rows that it has not been fitted on, which show what ties.
        second: name of the score that tells equals apart.
        top: whether the highest score may be broken up, too.

    Returns:
        ``model`` itself where nothing ties, or where the second score ties as well.
    """
    before = export.run(model, logits)
    found = ties(before, SCORES[second].score(logits), top=top)
    if not len(found.value):
        return model
    made = _with(model, found, SCORES[second])
    after = export.run(made, logits)
    order = np.argsort(before, kind="stable")
    apart = np.diff(before[order]) > 0
    if not (np.diff(after[order])[apart] > 0).all():
        return model  # in spite of the above: better a tie than a wrong order
    return made if len(np.unique(after)) > len(np.unique(before)) else model


def _with(model: bytes, found: Ties, second: Score) -> bytes:
    router = onnx.load_model_from_string(model)
    graph = router.graph
    tied = "tie_score"
    for node in graph.node:
        node.input[:] = [tied if name == export.OUTPUT else name for name in node.input]
        node.output[:] = [tied if name == export.OUTPUT else name for name in node.output]
    write = Writer("tie_")
    axis = np.array([1], np.int64)
    column = write("Unsqueeze", tied, axis)
    near = write("LessOrEqual", write("Abs", write("Sub", column, found.value)), found.same)
    lack = write("Sub", found.high, second.quantity.write(write, export.INPUT))
    share = write("Div", lack, found.high - found.low)
    share = write("Clip", share, np.array(0, np.float32), np.array(1, np.float32))
    lowered = write("Sub", found.value, write("Mul", share, found.span))
    # exact, as the two are so close; and no number stays none
    way = write("Where", near, write("Sub", lowered, column), np.array(0, np.float32))
    write("Add", tied, write("ReduceSum", way, axis, keepdims=0), output=export.OUTPUT)
    graph.node.extend(write.nodes)
    standard = next(opset for opset in router.opset_import if not opset.domain)
    if standard.version < export.OPSET:
        raise ValueError(f"the router is written in version {standard.version} of the operators")
    onnx.checker.check_model(router, full_check=True)
    return bytes(router.SerializeToString(deterministic=True))
