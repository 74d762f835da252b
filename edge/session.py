"""One ONNX file in onnxruntime, checked before its first use: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge import strict
from edge.errors import BadInput

# Rows per call. Bounds the memory of a large request; larger batches are no faster on a CPU.
CHUNK = 256

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: name, ONNX type, and shape with None for what varies."""

    name: str
    type: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.type} [{dims}]"


class Session:
    """A loaded ONNX model with one float32 input, run on the CPU in chunks of rows.

    ``source`` is a path or the file's bytes (external data only with a path); ``name`` stands for
    it in messages; ``threads`` are those of one operator. Every failure of onnxruntime comes out
    as a BadInput that names the file.
    """

    def __init__(self, source: Path | bytes, name: str, *, threads: int = 1) -> None:
        if threads < 1:
            raise BadInput("threads", value=threads, bound="at least 1", remedy="Use 1 or more.")
        self.name = name
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # our one message says it; no second one on stderr
        model = source if isinstance(source, bytes) else str(source)
        try:
            self._session: Any = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class but this
            raise self._bad("cannot be loaded", error, "an ONNX model for onnxruntime") from error
        self.inputs = tuple(_port(item) for item in self._session.get_inputs())
        self.outputs = tuple(_port(item) for item in self._session.get_outputs())

    def only_input(self, row_shape: tuple[int, ...], name: str | None = None) -> Port:
        """The single input, float32 [N, *row_shape], under ``name`` if one is given.

        A graph may leave sizes open, all of them; N may be fixed to 1 and to nothing else.
        """
        wanted = Port(name or "one input", "tensor(float)", (None, *row_shape))
        found = "; ".join(str(port) for port in self.inputs) or "no input"
        if len(self.inputs) != 1:
            raise self._bad("has other inputs than it should", found, str(wanted))
        port = self.inputs[0]
        fits = (
            port.type == wanted.type
            and (name is None or port.name == name)
            and len(port.shape) == len(wanted.shape)
            and port.shape[0] in (None, 1)
            and all(
                size in (None, row) for size, row in zip(port.shape[1:], row_shape, strict=True)
            )
        )
        if not fits:
            raise self._bad("has another input than it should", found, str(wanted))
        return port

    def run(self, rows: FloatArray, output: str, row_shape: tuple[int, ...]) -> FloatArray:
        """Output ``output`` for ``rows``, float32 [N, *row_shape]; N may be 0.

        Raises BadInput when the model fails or its output has another shape or type.
        """
        return self.run_all(rows, {output: (np.float32, row_shape)})[output]

    def run_all(
        self, rows: FloatArray, outputs: Mapping[str, tuple[Any, tuple[int, ...]]]
    ) -> dict[str, NDArray[Any]]:
        """Several outputs in one go, each [N, *row_shape] of its type; otherwise as ``run``.

        ``outputs``: name → (type of its numbers, row_shape).
        """
        result = {
            name: np.empty((len(rows), *shape), kind) for name, (kind, shape) in outputs.items()
        }
        for part in self._chunks(len(rows)):
            feed = {self.inputs[0].name: np.ascontiguousarray(rows[part], np.float32)}
            try:
                found = self._session.run(list(outputs), feed)
            except Exception as error:  # as above
                raise self._bad("cannot be run", error, "a model that runs") from error
            for (name, whole), values in zip(result.items(), map(np.asarray, found), strict=True):
                if values.dtype != whole.dtype or values.shape != whole[part].shape:
                    raise self._bad(
                        f"gives an output {name} that does not fit",
                        f"{values.dtype} {values.shape}",
                        f"{whole.dtype} {whole[part].shape}",
                    )
                whole[part] = values
        return result

    def runner(self, rows: FloatArray) -> Callable[[], None]:
        """A call that runs the model on ``rows`` and drops what it gives, to be timed."""
        feed = {self.inputs[0].name: np.ascontiguousarray(rows, np.float32)}

        def run() -> None:
            try:
                self._session.run(None, feed)
            except Exception as error:  # as above
                raise self._bad("cannot be run", error, "a model that runs") from error

        return run

    def _chunks(self, rows: int) -> Iterator[slice]:
        step = self.inputs[0].shape[0] or CHUNK
        return (slice(start, min(start + step, rows)) for start in range(0, rows, step))

    def _bad(self, what: str, value: object, bound: str) -> BadInput:
        return BadInput(
            f"{self.name} {what}",
            value=strict.shorten(value, 200),
            bound=bound,
            remedy="Check that this is the right file and that it is intact.",
        )


def _port(item: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return Port(item.name, item.type, shape)
