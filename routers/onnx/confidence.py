"""What a row of logits says about itself: each quantity in numpy and as ONNX nodes.

Scores and features are made of these. Both sides take the logits as float32, compute in float64
and round to float32 once, at the end, and so agree to the bit (but for entropies below 1e-5,
whose last digits are what is left of 1 + 1e-10). That matters to trees: with float32 throughout,
24 to 76 % of the values differed by a bit, and a forest fitted on them gave up to 46 of 10,000
rows another leaf in the file than in Python. The softmax is stable: the largest logit goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from routers.onnx.nodes import Writer

Logits = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

_ROW = np.array([1], dtype=np.int64)  # the axis of the classes
_LARGEST = float(np.finfo(np.float32).max)
_TINIEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Quantity:
    """F columns computed from logits N×K, K ≥ 2.

    ``compute``: float64 N×K to float64 N×F. ``nodes``: given a writer and the name of a float64
    tensor N×K, writes the same and returns the name of the result, N×F. The nodes read K from
    the tensor's shape where they need it.
    """

    compute: Callable[[Floats], Floats]
    nodes: Callable[[Writer, str], str]

    def of(self, logits: Logits) -> NDArray[np.float32]:
        """The columns for logits N×K, finite wherever the logits are."""
        exact = np.asarray(logits, dtype=np.float32).astype(np.float64)
        return np.ascontiguousarray(self.compute(exact), dtype=np.float32)

    def write(self, write: Writer, source: str) -> str:
        """The same as nodes, from the name of a float32 tensor N×K to that of one of N×F."""
        exact = write("Cast", source, to=TensorProto.DOUBLE)
        return write("Cast", self.nodes(write, exact), to=TensorProto.FLOAT)


def _log_softmax(z: Floats) -> Floats:
    z = z - z.max(axis=1, keepdims=True)
    result: Floats = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return result


def _softmax(z: Floats) -> Floats:
    result: Floats = np.exp(_log_softmax(z))
    return result


def _centred(z: Floats) -> Floats:
    result: Floats = z - z.mean(axis=1, keepdims=True)
    return result


def _write_softmax(write: Writer, z: str) -> str:
    return write("Softmax", z, axis=1)


def _write_centred(write: Writer, z: str) -> str:
    return write("Sub", z, write("ReduceMean", z, _ROW))


def max_softmax(temperature: float = 1.0) -> Quantity:
    """The largest probability at ``temperature`` T, max softmax(z / T): 1/K to 1."""

    def compute(z: Floats) -> Floats:
        result: Floats = _softmax(z / temperature).max(axis=1, keepdims=True)
        return result

    def nodes(write: Writer, z: str) -> str:
        if temperature != 1:
            z = write("Div", z, np.array(temperature))
        return write("ReduceMax", _write_softmax(write, z), _ROW)

    return Quantity(compute, nodes)


def margin() -> Quantity:
    """The largest probability minus the second largest: 0 to 1."""

    def compute(z: Floats) -> Floats:
        two = np.sort(_softmax(z), axis=1)[:, -2:]
        return two[:, 1:] - two[:, :1]

    def nodes(write: Writer, z: str) -> str:
        two = write("TopK", _write_softmax(write, z), np.array([2]), axis=1)
        first, second = (write("Gather", two, np.array([i]), axis=1) for i in (0, 1))
        return write("Sub", first, second)

    return Quantity(compute, nodes)


def entropy() -> Quantity:
    """Minus the entropy of the probabilities, in nats: −ln K to 0."""

    def compute(z: Floats) -> Floats:
        log_p = _log_softmax(z)
        result: Floats = np.sum(np.exp(log_p) * log_p, axis=1, keepdims=True)
        return result

    def nodes(write: Writer, z: str) -> str:
        log_p = write("LogSoftmax", z, axis=1)
        return write("ReduceSum", write("Mul", write("Exp", log_p), log_p), _ROW)

    return Quantity(compute, nodes)


def gini() -> Quantity:
    """g = Σ p², the chance that two draws from the probabilities collide: 1/K to 1.

    One minus the Gini impurity. DOCTOR (Granese et al., 2021, D_α) thresholds (1 − g)/g, which
    falls as g rises and so puts rows in the same order.
    """

    def compute(z: Floats) -> Floats:
        result: Floats = np.sum(_softmax(z) ** 2, axis=1, keepdims=True)
        return result

    def nodes(write: Writer, z: str) -> str:
        return write("ReduceSumSquare", _write_softmax(write, z), _ROW)

    return Quantity(compute, nodes)


def energy() -> Quantity:
    """ln Σ exp z, minus the free energy at temperature 1 (Liu et al., 2020): any real number."""

    def compute(z: Floats) -> Floats:
        top = z.max(axis=1, keepdims=True)
        result: Floats = top + np.log(np.exp(z - top).sum(axis=1, keepdims=True))
        return result

    def nodes(write: Writer, z: str) -> str:
        # ln p = z − energy for every class, the largest too; ReduceLogSumExp would have to be
        # trusted, in each runtime, not to overflow.
        log_p = write("ReduceMax", write("LogSoftmax", z, axis=1), _ROW)
        return write("Sub", write("ReduceMax", z, _ROW), log_p)

    return Quantity(compute, nodes)


def max_logit() -> Quantity:
    """The largest logit: any real number."""
    return Quantity(
        compute=lambda z: z.max(axis=1, keepdims=True),
        nodes=lambda write, z: write("ReduceMax", z, _ROW),
    )


def max_logit_pnorm(p: float) -> Quantity:
    """max c / ‖c‖_p of the centred logits c (Cattelan & Silva, 2024): 0 to 1, p ≥ 1.

    A row of equal logits gives 0. With K = 2 the centred logits are ±a, so every other row gives
    2^(−1/p): the quantity then says nothing.
    """

    def compute(z: Floats) -> Floats:
        c = _centred(z)
        # Divided by the largest first, or the powers of large logits would overflow. The sum is
        # then at least 1, except where all of c is 0, and the second guard changes nothing else.
        c = c / np.maximum(np.abs(c).max(axis=1, keepdims=True), _TINIEST)
        total = np.sum(np.abs(c) ** p, axis=1, keepdims=True)
        norm: Floats = np.maximum(total, 1.0) ** (1 / p)
        result: Floats = c.max(axis=1, keepdims=True) / norm
        return result

    def nodes(write: Writer, z: str) -> str:
        c = _write_centred(write, z)
        size = write("ReduceMax", write("Abs", c), _ROW)
        c = write("Div", c, write("Max", size, np.array(_TINIEST)))
        total = write("ReduceSum", write("Pow", write("Abs", c), np.array(float(p))), _ROW)
        norm = write("Pow", write("Max", total, np.array(1.0)), np.array(1 / p))
        return write("Div", write("ReduceMax", c, _ROW), norm)

    return Quantity(compute, nodes)


def probabilities() -> Quantity:
    """The softmax of every class: F = K."""
    return Quantity(_softmax, _write_softmax)


def centred_logits() -> Quantity:
    """The logits minus their mean: F = K. Cut to what float32 holds, as a mean can double them."""
    limits = np.array(-_LARGEST), np.array(_LARGEST)
    return Quantity(
        compute=lambda z: np.clip(_centred(z), *limits),
        nodes=lambda write, z: write("Clip", _write_centred(write, z), *limits),
    )


def largest(quantity: Quantity, most: int) -> Quantity:
    """The ``most`` largest columns of ``quantity``, or all where there are fewer, descending."""

    def compute(z: Floats) -> Floats:
        return np.sort(quantity.compute(z), axis=1)[:, ::-1][:, :most]

    def nodes(write: Writer, z: str) -> str:
        columns = quantity.nodes(write, z)
        count = write("Min", write("Shape", columns, start=1, end=2), np.array([most]))
        return write("TopK", columns, count, axis=1)

    return Quantity(compute, nodes)


def predicted_class(most: int) -> Quantity:
    """1 in the column of the largest logit (the first of equals), F = K; F = 0 above ``most``."""

    def compute(z: Floats) -> Floats:
        columns = np.arange(z.shape[1] if z.shape[1] <= most else 0)
        result: Floats = (z.argmax(axis=1)[:, None] == columns).astype(np.float64)
        return result

    def nodes(write: Writer, z: str) -> str:
        classes = write("Squeeze", write("Shape", z, start=1, end=2))
        few = write("LessOrEqual", classes, np.array(most))
        width = write("Where", few, classes, np.array(0))
        columns = write("Range", np.array(0), width, np.array(1))
        same = write("Equal", write("ArgMax", z, axis=1), columns)
        return write("Cast", same, to=TensorProto.DOUBLE)

    return Quantity(compute, nodes)


def side_by_side(quantities: Sequence[Quantity]) -> Quantity:
    """The columns of all, in their order."""

    def compute(z: Floats) -> Floats:
        return np.concatenate([quantity.compute(z) for quantity in quantities], axis=1)

    def nodes(write: Writer, z: str) -> str:
        return write("Concat", *(quantity.nodes(write, z) for quantity in quantities), axis=1)

    return Quantity(compute, nodes)
