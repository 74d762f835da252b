"""Sending teachers and data: once, and a large file in pieces that go on where they broke off."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from edge.files import write_bytes
from service.client.parcels import LARGE, Parcel
from service.client.places import cache_folder
from service.client.refusals import Refusal, refusal_of_content
from service.client.transport import (
    Json,
    Transport,
    is_passing,
    load_httpx,
    pauses,
    unreachable,
)

#: bytes of a piece, and of what is read at a time
PIECE, READ = 8 << 20, 1 << 18
#: seconds of one question whether an upload is checked
CHECK = 20.0
#: what is done, bytes done and bytes in all
Tell = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""


def send(transport: Transport, parcel: Parcel, tell: Tell = silent) -> Json:
    """Upload a parcel unless the service has it; its row there, once it is checked.

    Raises:
        BadInput: the service refuses it.
    """
    row = find(transport, parcel)
    if row is None:
        row = _in_pieces(transport, parcel, tell) if _is_large(parcel) else _whole(
            transport, parcel, tell
        )  # fmt: skip
    return checked(transport, parcel.kind, row, tell)


def find(transport: Transport, parcel: Parcel) -> Json | None:
    """The row of the same content, if the service has taken it before."""
    listing = transport.get(f"/{parcel.kind}s", sha256=parcel.digest, limit=10)
    rows: list[Json] = [row for row in listing["items"] if row["state"] != "refused"]
    return rows[0] if rows else None


def checked(transport: Transport, kind: str, row: Mapping[str, Any], tell: Tell = silent) -> Json:
    """A row once the service has looked at its content.

    Raises:
        Refusal: it cannot be used.
    """
    found = dict(row)
    while found["state"] == "checking":
        tell(f"the service checks the {_word(kind)}", 0, 0)
        found = transport.get(f"/{kind}s/{found['id']}", wait=CHECK)
    if found["state"] == "ready":
        return found
    raise refusal_of_content(found.get("problem") or {"message": f"It is {found['state']}."})


def _word(kind: str) -> str:
    return "teacher" if kind == "teacher" else "data"


def _is_large(parcel: Parcel) -> bool:
    return parcel.bytes >= LARGE and len(parcel.files) == 1


def _whole(transport: Transport, parcel: Parcel, tell: Tell) -> Json:
    """All files in one request, streamed from the disk."""
    once = {"idempotency-key": uuid.uuid4().hex}
    with ExitStack() as opened:
        streams = [(name, opened.enter_context(path.open("rb"))) for name, path in parcel.files]

        def body() -> Mapping[str, Any]:
            tell(f"the {_word(parcel.kind)} is sent", 0, parcel.bytes)
            for _, stream in streams:
                stream.seek(0)
            parts = [("files", (name, stream, "application/octet-stream"))
                     for name, stream in streams]  # fmt: skip
            return {"files": parts, "data": {"name": parcel.name}}

        response = transport.request("POST", f"/{parcel.kind}s", headers=once, body=body)
    tell(f"the {_word(parcel.kind)} is sent", parcel.bytes, parcel.bytes)
    row: Json = response.json()
    return row


def _in_pieces(transport: Transport, parcel: Parcel, tell: Tell) -> Json:
    (name, path), = parcel.files  # fmt: skip
    note = _note(transport.url, parcel)
    upload = _begun(transport, note) or transport.post(
        "/uploads",
        {"kind": parcel.kind, "name": name, "bytes": parcel.bytes, "sha256": parcel.digest},
    )
    with suppress(OSError):  # without a note, an upload that is cut off begins anew
        write_bytes(note, json.dumps({"id": upload["id"]}).encode())
    at, tries, broke_off = int(upload["received"]), iter(pauses()), time.monotonic()
    while at < parcel.bytes:
        tell(f"the {_word(parcel.kind)} is sent", at, parcel.bytes)
        try:
            at = _piece(transport, upload["id"], path, at, parcel.bytes)
            tries, broke_off = iter(pauses()), time.monotonic()
        except (load_httpx().TransportError, Refusal) as error:
            if isinstance(error, Refusal) and not (is_passing(error) or error.status == 409):
                raise
            if time.monotonic() - broke_off > transport.patience:
                if isinstance(error, Refusal):
                    raise
                raise unreachable(transport.url, error) from None
            time.sleep(next(tries))
            at = int(transport.get(f"/uploads/{upload['id']}")["received"])
    tell(f"the {_word(parcel.kind)} is sent", parcel.bytes, parcel.bytes)
    row: Json = transport.post(f"/uploads/{upload['id']}/complete", name=parcel.name)
    note.unlink(missing_ok=True)
    return row


def _piece(transport: Transport, id_: str, path: Path, at: int, size: int) -> int:
    """Send what follows after ``at``; where the upload stands then."""
    length = min(PIECE, size - at)

    def pieces() -> Iterator[bytes]:
        left = length
        with path.open("rb") as file:
            file.seek(at)
            while left and (some := file.read(min(READ, left))):
                left -= len(some)
                yield some

    headers = {
        "upload-offset": str(at),
        "content-length": str(length),
        "content-type": "application/octet-stream",
    }
    response = transport.once("PATCH", f"/uploads/{id_}", headers=headers, content=pieces())
    return int(response.json()["received"])


def _begun(transport: Transport, note: Path) -> Json | None:
    """The upload that an earlier process has begun, if it still waits for its next piece."""
    try:
        id_ = str(json.loads(note.read_text())["id"])
        found: Json = transport.get(f"/uploads/{id_}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInput) and not isinstance(error, Refusal):
            raise
        return None
    return found


def _note(url: str, parcel: Parcel) -> Path:
    """Where it is noted which upload a parcel has begun."""
    name = sha256(f"{url} {parcel.kind} {parcel.digest}".encode()).hexdigest()[:32]
    return cache_folder() / "uploads" / f"{name}.json"
