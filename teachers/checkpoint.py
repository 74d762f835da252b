"""The state of a training, as bytes that hold numbers and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

_META = "understudy"


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
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            meta = json.loads(header["__metadata__"][_META])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"no checkpoint of a training: {error}") from None
        return cls(arrays, meta)

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
