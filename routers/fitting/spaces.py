"""What is searched of each router family: one function and one line in :data:`SPACES` a member.

Sizes are not searched but follow from the caps: the leaves of a tree, and the rows that neighbours
and support vectors keep, are as many as the bytes and the time allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from optuna.trial import BaseTrial

from routers.models import families
from routers.models.families import FittedRouter
from routers.onnx import caps as prices
from routers.onnx.caps import Caps

Parameters = dict[str, Any]

# Bytes in a file of a tree's node, of one number of a support vector, and of all that does not
# grow with the fit; microseconds likewise.
_NODE_BYTES, _COORDINATE_BYTES, _FIXED_BYTES, _FIXED_MICROSECONDS = 32, 5, 4096, 14.0
_LEAST_ROWS = 32  # fewer are no router; a file too large for the caps is refused as such


class Space(NamedTuple):
    """What is searched of a family.

    ``fit`` takes features, right and a seed like every family, and by name what ``suggest`` draws
    from a trial, given the caps and the width of the features. ``start``: the first trial.
    """

    fit: Callable[..., FittedRouter]
    start: Parameters
    suggest: Callable[[BaseTrial, Caps, int], Parameters]


def _leaves(caps: Caps, trees: int) -> int:
    """Of each tree: a binary tree of n leaves has 2n − 1 nodes."""
    nodes = (caps.bytes - _FIXED_BYTES) // _NODE_BYTES // trees
    return max(2, min(1024, (nodes + 1) // 2))


def _rows(most: int, caps: Caps, bytes_each: float, microseconds_each: float) -> int:
    """Rows that a router can carry along, if each of them takes so much."""
    by_bytes = (caps.bytes - _FIXED_BYTES) / bytes_each
    by_time = (caps.microseconds - _FIXED_MICROSECONDS) / microseconds_each
    return max(_LEAST_ROWS, int(min(most, by_bytes, by_time)))


def _forest(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    trees = trial.suggest_int("trees", 10, 200, log=True)
    return {
        "trees": trees,
        "depth": trial.suggest_int("depth", 2, 14),
        "leaf": trial.suggest_int("leaf", 1, 32, log=True),
        "tried": trial.suggest_categorical("tried", ["sqrt", 0.5, 1.0]),
        "leaves": _leaves(caps, trees),
    }


def _boosted(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    trees = trial.suggest_int("trees", 20, 200, log=True)
    return {
        "trees": trees,
        "depth": trial.suggest_int("depth", 1, 5),
        "rate": trial.suggest_float("rate", 0.02, 0.5, log=True),
        "share": trial.suggest_float("share", 0.5, 1.0),
        "leaves": _leaves(caps, trees),
    }


def _gbdt(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    return _boosted(trial, caps, width) | {
        "leaf": trial.suggest_int("leaf", 1, 32, log=True),
        "tried": trial.suggest_categorical("tried", ["sqrt", 1.0]),
    }


def _xgb(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    weight = trial.suggest_float("weight", 0.5, 16.0, log=True)
    return _boosted(trial, caps, width) | {"weight": weight}


def _svm(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    bytes_each = _COORDINATE_BYTES * (width + 1)
    microseconds_each = prices.VECTOR + prices.COORDINATE * width
    return {
        # Larger C: coefficients that float32 cannot add up to 1e-5.
        "C": trial.suggest_float("C", 0.03, 30.0, log=True),
        "gamma": trial.suggest_float("gamma", 0.03, 3.0, log=True),
        "rows": _rows(families.SVM_ROWS, caps, bytes_each, microseconds_each),
    }


def _knn(trial: BaseTrial, caps: Caps, width: int) -> Parameters:
    neighbours = trial.suggest_int("neighbours", 3, 100, log=True)
    bytes_each = 4 * width + 16  # the row in float32, its norm and its label in float64
    microseconds_each = prices.PRODUCT * width + 4 * prices.VALUE
    return {
        "neighbours": neighbours,
        "rows": _rows(families.KNN_ROWS, caps, bytes_each, microseconds_each),
    }


_FOREST_START = {"trees": families.TREES, "depth": families.DEPTH, "leaf": 1, "tried": "sqrt"}
_BOOSTED_START = {"trees": families.TREES, "depth": families.BOOSTED_DEPTH, "share": 1.0}
_GBDT_START = _BOOSTED_START | {"rate": 0.1, "leaf": 1, "tried": 1.0}

SPACES: dict[str, Space] = {
    "svm": Space(families.svm, {"C": 1.0, "gamma": 1.0}, _svm),
    "rf": Space(families.rf, _FOREST_START, _forest),
    "et": Space(families.et, _FOREST_START, _forest),
    "gbdt": Space(families.gbdt, _GBDT_START, _gbdt),
    "xgb": Space(families.xgb, _BOOSTED_START | {"rate": 0.3, "weight": 1.0}, _xgb),
    "knn": Space(families.knn, {"neighbours": families.NEIGHBOURS}, _knn),
}
