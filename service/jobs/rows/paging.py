"""Lists in parts: a cursor names the last row that was seen, so later parts cost no more."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from edge.errors import BadInput, check_member
from service.jobs.model import Page

T = TypeVar("T")
#: most rows of one part
MOST = 1000
#: stand where a row has no figure: such rows come last, whichever the direction
_LAST = 1e300


def page(
    connection: Connection,
    query: sa.Select[Any],
    sorts: Mapping[str, sa.ColumnElement[Any]],
    id_: sa.ColumnElement[Any],
    make: Callable[[Row[Any]], T],
    *,
    sort: str,
    cursor: str | None,
    limit: int,
) -> Page[T]:
    """One part of a list.

    Args:
        connection: of a transaction.
        query: of all rows.
        sorts: what may be sorted by, as name → column.
        id_: column that tells rows apart.
        make: a row's value.
        sort: a name of ``sorts``, with ``-`` before it the greatest first.
        cursor: of the part before; None for the first.
        limit: rows of this part.

    Raises:
        BadInput: an unknown sort, a cursor that is none, or too many rows at a time.
    """
    name, down = sort.removeprefix("-"), sort.startswith("-")
    check_member("sort", name, sorts, "Choose one of these, with - before it for the reverse.")
    if not 1 <= limit <= MOST:
        raise BadInput(
            "so many rows cannot be had at a time",
            value=limit,
            bound=f"a limit from 1 to {MOST:,}",
            remedy="Ask for fewer, and go on with the cursor.",
            field="limit",
        )
    column = sorts[name]
    # a column that is always there is left as it is: its index gives the order
    if isinstance(column.type, sa.Float) and getattr(column, "nullable", True):
        column = sa.func.coalesce(column, sa.literal(-_LAST if down else _LAST, sa.Float(53)))
    if cursor is not None:
        value, last = _read(cursor, sort)
        beyond = column < value if down else column > value
        after = id_ < last if down else id_ > last
        query = query.where(sa.or_(beyond, sa.and_(column == value, after)))
    order = [column.desc(), id_.desc()] if down else [column.asc(), id_.asc()]
    query = query.add_columns(column.label("_sorted"), id_.label("_id"))
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    following = _write(sort, rows[-1]._sorted, rows[-1]._id) if more else None
    return Page([make(row) for row in rows], following)


def _write(sort: str, value: Any, last: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, value, last]).encode()).decode().rstrip("=")


def _read(cursor: str, sort: str) -> tuple[Any, Any]:
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        asked, value, last = json.loads(plain)
        if asked != sort or not isinstance(value, str | int | float):
            raise ValueError
        if not isinstance(last, str | int):
            raise ValueError
    except (ValueError, binascii.Error, TypeError):
        raise BadInput(
            "the cursor cannot be used",
            value=cursor[:80],
            bound="the cursor of the part before, of a list sorted the same way",
            remedy="Begin again without one.",
            field="cursor",
        ) from None
    return value, last


def contains(column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    """Whether a text stands anywhere in a column, in either case."""
    return sa.func.lower(column).contains(text.lower(), autoescape=True)
