"""Whose class is whose: the classes of data, in the teacher's order, by their names.

Names that a person would call the same are the same: "Été" in an editor's Unicode and in a Mac's,
"golden retriever" and "Golden_Retriever", "07" and "7". Every way to fold names is tried, the
strictest first, and one under which two classes of the same side would become one is passed over,
because "a" and "A" are two classes of a data set of letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edge.errors import BadInput
from teachers.data.source import Remark, Table

#: most names in a message
SHOWN = 8


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    # folding may decompose, so that the form is made again
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def _joined(name: str) -> str:
    text = re.sub(r"[\s_\-.]+", "", _caseless(name))
    return str(int(text)) if text.isdecimal() else text


def _bare(name: str) -> str:
    """Without accents, which many leave out of the names of files."""
    text = unicodedata.normalize("NFKD", _joined(name))
    return "".join(letter for letter in text if not unicodedata.combining(letter))


FOLDS: tuple[Callable[[str], str], ...] = (str, _composed, _caseless, _joined, _bare)


def matched(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """The place in ``known`` of each of ``names``, or None where it is not among them.

    The strictest fold under which all are found decides; where none is, the loosest that keeps the
    names of either side apart.
    """
    best: list[int | None] = [None] * len(names)
    for fold in FOLDS:
        ours, theirs = [fold(name) for name in known], [fold(name) for name in names]
        if len(set(ours)) < len(ours) or len(set(theirs)) < len(theirs):
            break  # a looser fold keeps no more apart
        places = {name: place for place, name in enumerate(ours)}
        best = [places.get(name) for name in theirs]
        if None not in best:
            break
    return best


def are_numbers(names: Sequence[str]) -> bool:
    """Whether names are the numbers 0 … n − 1 or 1 … n, which say nothing but a place."""
    if not names or not all(name.isdecimal() for name in names):
        return False
    values = sorted(int(name) for name in names)
    return values in ([*range(len(names))], [*range(1, len(names) + 1)])


def fit_classes(table: Table, classes: int, names: Sequence[str] = ()) -> Table:
    """The same rows with the teacher's labels.

    Args:
        table: of the data; its own names may be missing, or be folders' names.
        classes: how many the teacher has.
        names: the teacher's; empty where its JSON leaves them out, which the data's then fill.

    Raises:
        BadInput: the data have other classes, or names that are the teacher's in part.
    """
    if len(table.labels) == 0 or table.train_rows == 0:
        raise BadInput(
            f"data {table.name} is empty",
            value="0 training rows",
            bound="at least one row in every class",
            remedy="Check the path.",
        )
    table = _without_empty(table, classes, names)
    lowest, highest = int(table.labels.min()), int(table.labels.max())
    found = max(len(table.class_names), highest + 1)
    theirs = table.class_names
    places = matched(theirs, names) if names and theirs else []
    if any(place is not None for place in places) and lowest >= 0 and highest < len(theirs):
        _refuse_partial(table, names, places)
    if lowest < 0 or found != classes:
        raise _other_classes(table, classes, found, lowest, highest)
    if not names or not theirs:
        named = replace(_by_position(table), given_names=theirs)
        return replace(named, class_names=theirs or tuple(names))
    if all(place is not None for place in places):
        return _renumbered(table, [place for place in places if place is not None], names)
    if are_numbers(theirs):
        order = np.argsort([int(name) for name in theirs], kind="stable")
        text = f"the classes of {table.name} are numbers: they are taken as the teacher's labels"
        table = _with(table, Remark(text))
        return _renumbered(table, np.argsort(order).tolist(), names)
    # names of which the teacher knows none: another language, or none of its own
    told = f"the class names of {table.name} ({_few(theirs)}) are not the teacher's"
    if are_numbers(names):
        table = _with(table, Remark(f"{told}, which are numbers: classes are taken in their order"))
        return replace(table, class_names=tuple(names), given_names=theirs)
    text = (
        f"{told} ({_few(names)}): classes are taken in their order, which is right only if it is "
        "the same; name the folders as `class_names` in the teacher's JSON does"
    )
    table = _with(table, Remark(text, "class-names-differ"))
    return replace(table, class_names=tuple(names), given_names=theirs)


def _by_position(table: Table) -> Table:
    """What is said where folders named by numbers do not stand in the order of the numbers."""
    names = table.class_names
    if not are_numbers(names) or list(names) == sorted(names, key=int):
        return table
    text = (
        f"the classes of {table.name} are taken in the order of their names as texts, "
        f"{_few(names)}, as torchvision and Keras sort folders; if the teacher counts them by "
        "number, say `class_names` in its JSON"
    )
    return _with(table, Remark(text))


def _without_empty(table: Table, classes: int, names: Sequence[str]) -> Table:
    """Folders without a picture are no classes where the teacher has none of that name.

    Where the teacher has no names, they are none if what is left is as many as it has.
    """
    theirs = table.class_names
    if len(theirs) <= int(table.labels.max(initial=-1)) or table.labels.min(initial=0) < 0:
        return table
    rows = np.bincount(table.labels, minlength=len(theirs))
    places = matched(theirs, names) if names else [None] * len(theirs)
    if all(place is None for place in places) and int((rows > 0).sum()) != classes:
        return table
    keep = [i for i, place in enumerate(places) if rows[i] or place is not None]
    if len(keep) == len(theirs):
        return table
    gone = [name for i, name in enumerate(theirs) if i not in set(keep)]
    number = np.full(len(theirs), -1)
    number[keep] = np.arange(len(keep))
    text = f"left out of {table.name}: {_few(gone)} (folders without a picture)"
    return replace(
        _with(table, Remark(text)),
        labels=number[table.labels].astype(np.int64),
        class_names=tuple(theirs[i] for i in keep),
    )


def _renumbered(table: Table, places: Sequence[int], names: Sequence[str]) -> Table:
    number = np.asarray(places, dtype=np.int64)
    given = tuple(table.class_names[i] for i in np.argsort(number))
    return replace(table, labels=number[table.labels], class_names=tuple(names), given_names=given)


def _with(table: Table, remark: Remark) -> Table:
    return replace(table, remarks=(*table.remarks, remark))


def _refuse_partial(table: Table, names: Sequence[str], places: Sequence[int | None]) -> None:
    ours = [name for name, place in zip(table.class_names, places, strict=True) if place is None]
    theirs = [name for place, name in enumerate(names) if place not in set(places)]
    if ours or theirs:
        raise BadInput(
            f"the class names of data {table.name} are the teacher's only in part",
            value=f"{len(table.class_names)} classes"
            + (f", of which the teacher lacks {_few(ours)}" if ours else ""),
            bound=f"{len(names)} classes, " + (f"with {_few(theirs)}" if theirs else "no other"),
            remedy="Rename the class folders (or `class_names` in the JSON), or take the data "
            "that this teacher was trained for.",
        )


def _other_classes(table: Table, classes: int, found: int, lowest: int, highest: int) -> BadInput:
    unlabelled = int((table.labels < 0).sum())
    remedy = "Take the data that this teacher was trained for."
    if unlabelled:
        remedy = f"A label of -1 means that there is none: remove these {unlabelled} rows."
    elif lowest == 1 and highest == classes:
        remedy = "Labels count from 0: subtract 1."
    if table.class_names:
        remedy = f"They are {_few(table.class_names)}. {remedy}"
    return BadInput(
        f"the classes of data {table.name} are not the teacher's",
        value=f"{found} classes, labels {lowest} to {highest}",
        bound=f"{classes} classes, labels 0 to {classes - 1}",
        remedy=remedy,
    )


def _few(names: Sequence[str]) -> str:
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(str(name)) for name in names[:SHOWN]) + more
