"""Students in int8: static quantisation in ONNX Runtime's QDQ form.

Activations are uint8, weights int8 with a scale per channel: signed activations and dynamic
quantisation were slower than fp32 on the processors that we measured.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from envs.export.tidy import tidied

#: operators that move numbers and change none
MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
#: of the input's range; no ratio of small whole numbers, which would leave many grey levels at ties
WIDER = 1.00379


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """What quantisation looks at, one batch after the other."""

    def __init__(self, batches: Iterable[NDArray[np.float32]], name: str) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)
        self._name = name

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def to_int8(
    model: bytes,
    batches: Iterable[NDArray[np.float32]],
    name: str = "image",
    *,
    reduce_range: bool = False,
) -> bytes:
    """The same network with int8 weights and uint8 activations; same inputs and outputs.

    Args:
        model: an ONNX file in fp32.
        batches: inputs N×C×H×W that tell the ranges of activations, preprocessed.
        name: of the input.
        reduce_range: seven bits for weights. Without instructions for eight-bit products a
            processor adds pairs of them in 16 bits, which eight can overflow.

    Raises:
        ValueError: no input was given.
    """
    given = [batch for batch in batches if len(batch)]
    if not given:
        raise ValueError("quantisation needs at least one input to see ranges of activations")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, small = (Path(folder) / f"{step}.onnx" for step in ("fp32", "ready", "int8"))
        plain.write_bytes(model)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            small,
            _Batches(given, name),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "TensorQuantOverrides": {
                    tensor: [_range_of(given)] for tensor in _same(onnx.load(ready), name)
                }
            },
        )
        # the tools declare every domain that ONNX Runtime knows
        return tidied(small.read_bytes(), "student")


def _same(model: onnx.ModelProto, name: str) -> list[str]:
    """The input, and tensors that hold its numbers in another order or shape."""
    found = [name]
    for node in model.graph.node:
        if node.op_type in MOVES and node.input[0] in found:
            found.append(node.output[0])
    return found


def _range_of(batches: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The range of the input, a little wider than it is.

    From black to white, the 256 steps of quantisation would be the 256 grey levels themselves,
    all off by one fraction; where that is a half, as for a mean and deviation of .5, the last bit
    of a division decides how every pixel is rounded, and runtimes disagree on the image.
    """
    low = min(0.0, *(float(batch.min()) for batch in batches))
    high = max(0.0, *(float(batch.max()) for batch in batches))
    return {
        "rmin": np.array(low * WIDER, np.float32),
        "rmax": np.array(high * WIDER, np.float32),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """It advises what has been done already, through the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
