"""The state of a training, as bytes that hold numbers and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

_META = "understudy"
#: bytes of a header, as safetensors itself bounds it
_MOST_HEADER = 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """``arrays`` by name, and ``meta``: JSON values such as the number of the epoch."""

    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """One safetensors file, with ``meta`` as JSON in its header."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        # ascontiguousarray makes a vector of a scalar
        arrays = {name: array.reshape(self.arrays[name].shape) for name, array in arrays.items()}
        return save(arrays, {_META: json.dumps(dict(self.meta))})

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """The inverse of :meth:`to_bytes`; ValueError for bytes that it did not write."""
        try:
            arrays = load(content)
            meta = _meta(BytesIO(content))
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"no checkpoint of a training: {error}") from None
        return cls(arrays, meta)

    @staticmethod
    def meta_of(path: Path) -> dict[str, Any]:
        """The ``meta`` of a file, without its arrays; ValueError for one of something else."""
        try:
            with path.open("rb") as file:
                return _meta(file)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no checkpoint of a training: {error}") from None

    def part(self, name: str) -> dict[str, NDArray[Any]]:
        """Copies of the arrays called ``name.…``, without that."""
        start = f"{name}."
        return {
            key.removeprefix(start): array.copy()
            for key, array in self.arrays.items()
            if key.startswith(start)
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def _meta(file: BinaryIO) -> dict[str, Any]:
    """Of an open safetensors file, whose header is JSON after eight bytes for its length."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(min(length, _MOST_HEADER)))
    found: dict[str, Any] = json.loads(header["__metadata__"][_META])
    return found
