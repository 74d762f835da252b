"""JSON that is refused unless it says exactly what a dataclass declares.

A bundle comes from outside, so nothing in it is guessed: unknown, missing and repeated keys,
numbers as text, true for 1, NaN and infinity are all errors that name the place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edge.errors import BadInput

T = TypeVar("T")


def loads(text: bytes, where: str, remedy: str) -> object:
    """Parse strict UTF-8 JSON; ``where`` names the document in the message of a BadInput."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key that stands twice")
        return found

    def no_constant(name: str) -> object:
        raise ValueError(f"the constant {name}")

    def finite(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            raise ValueError(f"{number}, which no float64 holds")
        return value

    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=no_constant,
            parse_float=finite,
        )
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{where} cannot be read", value=shorten(error), bound="strict JSON", remedy=remedy
        ) from error


def dump(value: object) -> object:
    """A dataclass, NumPy numbers and all, as plain dicts, lists, str, bool, int and float."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: dump(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): dump(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def canonical(value: object) -> bytes:
    """The one spelling of a JSON value that checksums are taken over: sorted, no spaces.

    Floats are written as Python's shortest exact form, so reading and writing again gives the
    same bytes. NaN and infinity raise ValueError.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: object) -> str:
    """SHA-256, in hex, of the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def parse(kind: type[T], value: object, where: str, remedy: str) -> T:
    """Build the dataclass ``kind`` from parsed JSON, or raise BadInput naming the field.

    Understands nested dataclasses, ``tuple[X, ...]``, ``Mapping[str, X]``, ``Literal`` of
    strings, ``X | None``, str, bool, int and float (finite; an int is taken). Every field must be
    there, with or without a default: defaults are for whoever writes, not for whoever reads.
    """
    reader = _Reader(remedy)
    result = reader.read(kind, value, where)
    assert isinstance(result, kind)
    return result


def shorten(value: object, limit: int = 80) -> str:
    """One line for messages, so that a refused megabyte does not fill the screen."""
    text = " ".join(str(value).split()) or repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Reader:
    """Reads one document; holds what to tell its author."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy

    def refuse(self, where: str, value: object, bound: str) -> BadInput:
        return BadInput(where, value=shorten(value), bound=bound, remedy=self.remedy)

    def read(self, kind: Any, value: object, where: str) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if is_dataclass(kind):
            return self.record(kind, value, where)
        if origin is tuple:
            if not isinstance(value, list):
                raise self.refuse(where, value, "a list")
            return tuple(
                self.read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)
            )
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.refuse(where, value, "an object")
            return {k: self.read(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
        if origin is Literal:
            if not isinstance(value, str) or value not in arguments:
                raise self.refuse(where, value, "one of " + ", ".join(arguments))
            return value
        if origin in (Union, UnionType):
            if value is None and NoneType in arguments:
                return None
            return self.read(next(a for a in arguments if a is not NoneType), value, where)
        return self.scalar(kind, value, where)

    def record(self, kind: Any, value: object, where: str) -> Any:
        names = [item.name for item in fields(kind)]
        if not isinstance(value, dict):
            raise self.refuse(where, value, "an object with the keys " + ", ".join(names))
        for key in value:
            if key not in names:
                raise self.refuse(f"{where}: unknown key", key, "one of " + ", ".join(names))
        for name in names:
            if name not in value:
                raise self.refuse(f"{where}: missing key", f"no {name}", f"a value for {name}")
        hints = get_type_hints(kind)
        return kind(**{n: self.read(hints[n], value[n], f"{where}.{n}") for n in names})

    def scalar(self, kind: Any, value: object, where: str) -> Any:
        # type() and not isinstance: True is an int to Python, and must not be one here.
        if kind is float and type(value) in (int, float):
            try:
                number = float(value)  # type: ignore[arg-type]
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
            raise self.refuse(where, value, "a finite number")
        if type(value) is kind:
            return value
        names = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
        raise self.refuse(where, json.dumps(value), names[kind])
