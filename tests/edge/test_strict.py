"""JSON from outside says exactly what the dataclass declares, or is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from edge import strict
from edge.errors import BadInput


@dataclass(frozen=True)
class Leaf:
    size: int
    kind: Literal["small", "large"]


@dataclass(frozen=True)
class Tree:
    name: str
    height: float
    evergreen: bool
    leaves: tuple[Leaf, ...]
    notes: Mapping[str, str]
    age: float | None = None


OAK = Tree("oak", 20.5, False, (Leaf(3, "small"), Leaf(9, "large")), {"soil": "clay"}, None)


def as_json(**changes: object) -> dict[str, object]:
    value = strict.dump(OAK)
    assert isinstance(value, dict)
    return {**value, **changes}


def test_dump_and_parse_are_inverse() -> None:
    text = strict.canonical(strict.dump(OAK))
    assert strict.parse(Tree, strict.loads(text, "tree", ""), "tree", "") == OAK


def test_the_canonical_form_sorts_keys_and_leaves_no_spaces() -> None:
    assert strict.canonical({"b": [1, 0.1], "a": "é"}) == b'{"a":"\\u00e9","b":[1,0.1]}'


def test_numpy_numbers_are_written_as_numbers() -> None:
    # float32 0.1 is 0.100000001490116..., and is written as exactly that float64.
    assert strict.dump((np.float32(0.1), np.int64(7))) == [float(np.float32(0.1)), 7]


@pytest.mark.parametrize(
    ("changes", "place", "bound"),
    [
        ({"wood": "hard"}, "tree: unknown key", "name, height"),
        ({"name": 7}, "tree.name", "text"),
        ({"evergreen": 1}, "tree.evergreen", "true or false"),
        ({"height": True}, "tree.height", "a number"),
        ({"height": "20"}, "tree.height", "a number"),
        ({"height": 10**400}, "tree.height", "a finite number"),
        ({"leaves": {}}, "tree.leaves", "a list"),
        ({"leaves": [{"size": 1.0, "kind": "small"}]}, r"tree.leaves\[0\].size", "a whole number"),
        ({"leaves": [{"size": True, "kind": "small"}]}, r"tree.leaves\[0\].size", "a whole"),
        ({"leaves": [{"size": 1, "kind": "huge"}]}, r"leaves\[0\].kind", "one of small, large"),
        ({"leaves": [{"size": 1}]}, "missing key: got no kind", "a value for kind"),
        ({"leaves": [[]]}, r"leaves\[0\]", "an object with the keys size, kind"),
        ({"notes": []}, "tree.notes", "an object"),
        ({"notes": {"soil": None}}, "tree.notes.soil", "text"),
        ({"age": "old"}, "tree.age", "a number"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(
    changes: dict[str, object], place: str, bound: str
) -> None:
    with pytest.raises(BadInput, match=f"{place}.*{bound}.* Mend it."):
        strict.parse(Tree, as_json(**changes), "tree", "Mend it.")


def test_a_field_with_a_default_must_be_there_all_the_same() -> None:
    value = as_json()
    del value["age"]
    with pytest.raises(BadInput, match="missing key: got no age"):
        strict.parse(Tree, value, "tree", "")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b"1" * 10_000,
        b"[" * 100_000,
    ],
    ids=lambda text: text[:12].decode("latin-1"),
)
def test_what_is_not_strict_json_is_refused(text: bytes) -> None:
    with pytest.raises(BadInput, match="letter cannot be read: got .*; expected strict JSON"):
        strict.loads(text, "letter", "")


def test_a_refused_value_is_shortened_to_one_line() -> None:
    assert strict.shorten("a\n" * 1000) == "a " * 39 + "a…"
    assert strict.shorten("") == "''"
