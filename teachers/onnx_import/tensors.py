"""Stored tensors to numpy arrays, with every length proved before memory is taken.

A tensor of a few bytes may claim gigabytes: the claim (dimensions × bytes per number) must equal
what is stored, in the file itself or beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from onnx import TensorProto

from edge import strict
from edge.errors import BadInput
from teachers.onnx_import.graph import Array, is_float
from teachers.onnx_import.refusals import REEXPORT, refuse_file

MOST_BYTES = 2 * 1024**3
MOST_AXES = 8
#: numbers that are looked at together
PIECE = 2**20

#: stored type → numpy's, little-endian; bfloat16 has none and is read as its 16 bits
RAW: dict[Any, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.DOUBLE: "<f8",
    TensorProto.FLOAT16: "<f2",
    TensorProto.BFLOAT16: "<u2",
    TensorProto.INT8: "i1",
    TensorProto.UINT8: "u1",
    TensorProto.INT16: "<i2",
    TensorProto.UINT16: "<u2",
    TensorProto.INT32: "<i4",
    TensorProto.UINT32: "<u4",
    TensorProto.INT64: "<i8",
    TensorProto.UINT64: "<u8",
    TensorProto.BOOL: "?",
}
#: where a type's numbers stand when they are not raw bytes; all others are in int32_data
TYPED: dict[Any, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


class TensorReader:
    """Reads the tensors of one model; ``folder`` is where its external data must stand.

    All tensors together may hold at most ``most_bytes``, so that a thousand of them cannot point
    at the same region.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.left = most_bytes
        self.files: set[Path] = set()

    def reserve(self, tensors: Iterable[TensorProto]) -> None:
        """BadInput where these are too large together, before the first of them is read."""
        needed = 0
        for tensor in tensors:
            label = f"the teacher's tensor {strict.shorten(tensor.name)!r}"
            if tensor.data_location == TensorProto.EXTERNAL:
                needed += math.prod(_shape(tensor, label)) * _kind(tensor, label).itemsize
            else:
                needed += tensor.ByteSize()
        if needed > self.left:
            raise refuse_file(
                "the teacher's weights are too large",
                value=f"{needed} bytes",
                bound=f"at most {MOST_BYTES} bytes in all tensors together",
            )

    def read(self, tensor: TensorProto, name: str) -> Array:
        """The tensor as float32, int64 or bool; BadInput where it is not whole and finite."""
        label = f"the teacher's tensor {strict.shorten(name or '(no name)')!r}"
        kind = _kind(tensor, label)
        shape = _shape(tensor, label)
        needed = math.prod(shape) * kind.itemsize
        if needed > self.left:
            raise refuse_file(
                f"{label} is too large",
                value=f"{list(shape)}, {needed} bytes",
                bound=f"at most {MOST_BYTES} bytes in all tensors together",
            )
        self.left -= needed
        return _plain(self._stored(tensor, kind, shape, needed, label), tensor.data_type, label)

    def _stored(
        self, tensor: TensorProto, kind: np.dtype, shape: tuple[int, ...], needed: int, label: str
    ) -> Array:
        if tensor.data_location == TensorProto.EXTERNAL:
            return np.frombuffer(self._external(tensor, needed, label), kind).reshape(shape)
        if tensor.HasField("raw_data"):
            _whole(label, len(tensor.raw_data), needed, "bytes")
            return np.frombuffer(tensor.raw_data, kind).reshape(shape)
        values = getattr(tensor, TYPED.get(tensor.data_type, "int32_data"))
        _whole(label, len(values), math.prod(shape), "numbers")
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            # halves are kept as their bits
            bits = np.array(values, np.int64).astype("<u2")
            return bits.view(kind).reshape(shape)
        with np.errstate(all="ignore"):
            return np.array(values).astype(kind).reshape(shape)

    def _external(self, tensor: TensorProto, needed: int, label: str) -> bytes:
        said = {str(entry.key): str(entry.value) for entry in tensor.external_data}
        path = self._inside(said.get("location", ""), label)
        try:
            return self._part(path, said, needed, label)
        except OSError as error:
            raise refuse_file(
                f"{label} stands in external data that cannot be read",
                value=f"{path.name} ({error.strerror})",
                bound="a readable file",
                remedy="Check the file and its permissions.",
            ) from None

    def _part(self, path: Path, said: Mapping[str, str], needed: int, label: str) -> bytes:
        """The bytes of ``path`` that offset and length name."""
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise refuse_file(
                f"{label} stands in a file that is too large",
                value=f"{path.name}, {size} bytes",
                bound=f"at most {MOST_BYTES} bytes",
            )
        self.files.add(path)
        offset = _number(said.get("offset", "0"), "offset", label)
        length = _number(said.get("length", str(size - offset)), "length", label)
        _whole(label, length, needed, "bytes")
        if offset + length > size:
            raise refuse_file(
                f"{label} ends outside its external data",
                value=f"bytes {offset} to {offset + length} of {path.name}",
                bound=f"within its {size} bytes",
                remedy="The data file may be truncated: copy or export it again.",
            )
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        # somebody may be writing the file at this moment
        _whole(label, len(data), needed, "bytes")
        return data

    def _inside(self, location: str, label: str) -> Path:
        """The data file, if it is a plain file below the model's folder, links followed."""
        parts = PurePosixPath(location)
        plain = bool(location) and "\\" not in location and "\0" not in location
        if plain and not parts.is_absolute() and ".." not in parts.parts and ":" not in location:
            folder = self.folder.resolve()
            try:
                path = (folder / parts).resolve()
                if path.is_relative_to(folder) and path.is_file():
                    return path
            except OSError:
                pass
        raise refuse_file(
            f"{label} stands in external data that cannot be used",
            value=repr(strict.shorten(location)),
            bound="the relative path of a file in the model's own folder",
            remedy="Put the data file beside the model, or export with the weights inside it.",
        )


def _kind(tensor: TensorProto, label: str) -> np.dtype:
    if tensor.data_type not in RAW or tensor.HasField("segment"):
        known = tensor.data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type
        raise refuse_file(
            f"{label} has a type that cannot be used",
            value=name,
            bound="one of " + ", ".join(TensorProto.DataType.Name(kind) for kind in RAW),
            remedy="Export the teacher in float32; quantised teachers are not accepted.",
        )
    return np.dtype(RAW[tensor.data_type])


def _shape(tensor: TensorProto, label: str) -> tuple[int, ...]:
    shape = tuple(int(size) for size in tensor.dims)
    huge = 0 in shape and math.prod(size or 1 for size in shape) > MOST_BYTES
    if len(shape) > MOST_AXES or any(size < 0 or size > MOST_BYTES for size in shape) or huge:
        raise refuse_file(
            f"{label} claims an impossible shape",
            value=list(shape[: MOST_AXES + 1]),
            bound=f"at most {MOST_AXES} sizes of 0 to {MOST_BYTES}",
        )
    return shape


def _whole(label: str, found: int, wanted: int, unit: str) -> None:
    if found != wanted:
        raise refuse_file(
            f"{label} is not whole",
            value=f"{found} {unit} stored",
            bound=f"{wanted}, as its shape says",
            remedy="The file may be truncated or damaged: copy or export it again.",
        )


def _number(text: str, what: str, label: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise refuse_file(
            f"{label}: {what} of its external data",
            value=repr(strict.shorten(text)),
            bound="a whole number, at least 0",
        )
    return int(text)


def _plain(array: Array, data_type: int, label: str) -> Array:
    """float32, int64 or bool; NaN is refused, and infinity in anything but a lone bound."""
    if data_type == TensorProto.BFLOAT16:
        # bfloat16 is the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    if is_float(array):
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        check_finite(array, label)
        return array
    return array if array.dtype == np.bool_ else array.astype(np.int64)


def check_finite(array: Array, label: str) -> None:
    """BadInput where weights are not finite; one infinite number may be the bound of a Clip."""
    flat = array.reshape(-1)
    if array.size == 1:
        wrong = int(np.isnan(flat[0]))
    else:
        # piece by piece: a gigabyte of weights needs no gigabyte of answers
        pieces = (flat[start : start + PIECE] for start in range(0, flat.size, PIECE))
        wrong = sum(piece.size - int(np.count_nonzero(np.isfinite(piece))) for piece in pieces)
    if wrong:
        raise BadInput(
            f"{label} is not finite",
            value=f"{wrong} NaN or infinite values",
            bound="finite float32 weights",
            remedy=f"Train it again or keep it in float32. {REEXPORT}",
        )
