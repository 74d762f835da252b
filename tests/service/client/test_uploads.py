"""Uploads: not twice, and not from the start again."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from service.client import uploads
from service.client.login import Service
from service.client.parcels import Parcel
from service.client.refusals import Refusal
from service.client.transport import Transport
from service.client.uploads import send
from tests.service.client.scripted import API, Answer, Asked, Scripted, answer, problem, serving

READY = {"id": "dataset_1", "state": "ready"}


class Taking:
    """A service that takes uploads in pieces; the link breaks when ``breaks`` says so."""

    def __init__(self, breaks: set[int] = frozenset(), there: list[Any] | None = None) -> None:  # type: ignore[assignment]
        self.breaks, self.there = breaks, there or []
        self.stored, self.pieces = bytearray(), 0
        self.size = 0

    def __call__(self, asked: Asked) -> Answer | None:
        path = asked.path.removeprefix(API)
        if asked.method == "GET" and path.startswith("/datasets?"):
            return answer({"items": self.there, "cursor": None})
        if path == "/uploads":
            self.size = json.loads(asked.body)["bytes"]
            return answer({"id": "upload_1", "received": 0}, 201)
        if path == "/uploads/upload_1" and asked.method == "PATCH":
            return self._piece(asked)
        if path == "/uploads/upload_1":
            return answer({"id": "upload_1", "received": len(self.stored)})
        if path.startswith("/uploads/upload_1/complete"):
            return answer(READY, 201)
        return answer(READY, 201)

    def _piece(self, asked: Asked) -> Answer | None:
        assert int(asked.headers["upload-offset"]) == len(self.stored)
        self.pieces += 1
        if self.pieces in self.breaks:
            self.stored += asked.body[: len(asked.body) // 2]  # what came is kept
            return None
        self.stored += asked.body
        return answer({"id": "upload_1", "received": len(self.stored)})


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parcel:
    """Ten pieces of data."""
    monkeypatch.setattr(uploads, "LARGE", 1000)
    monkeypatch.setattr(uploads, "PIECE", 500)
    path = tmp_path / "data.zip"
    path.write_bytes(bytes(range(250)) * 20)
    return Parcel.of("dataset", "data", [("data.zip", path)])


def to(server: Scripted) -> Transport:
    return Transport(Service(server.url, None))


def test_a_large_file_goes_in_pieces(parcel: Parcel) -> None:
    taking = Taking()
    told: list[int] = []
    with serving(taking) as server:
        assert send(to(server), parcel, lambda _, done, total: told.append(done)) == READY
    assert bytes(taking.stored) == parcel.files[0][1].read_bytes()
    assert told == sorted(told)
    assert told[-1] == parcel.bytes
    begin = next(asked for asked in server.asked if asked.path.endswith("/uploads"))
    assert json.loads(begin.body)["sha256"] == sha256(bytes(taking.stored)).hexdigest()


def test_a_link_that_breaks_costs_no_byte_that_came(parcel: Parcel) -> None:
    taking = Taking(breaks={2, 3, 7})
    with serving(taking) as server:
        assert send(to(server), parcel) == READY
    assert bytes(taking.stored) == parcel.files[0][1].read_bytes()


def test_another_process_goes_on_with_the_upload(parcel: Parcel) -> None:
    taking = Taking(breaks=set(range(3, 1000)))
    with serving(taking) as server:
        transport = Transport(Service(server.url, None), patience=0.0)
        with pytest.raises(BadInput, match="does not answer"):
            send(transport, parcel)
        before = len(taking.stored)
        assert before
        taking.breaks = set()
        assert send(to(server), parcel) == READY
    begun = [path for path in server.paths() if path == "POST /uploads"]
    assert len(begun) == 1
    assert bytes(taking.stored) == parcel.files[0][1].read_bytes()


def test_what_the_service_has_is_not_sent_again(parcel: Parcel) -> None:
    with serving(Taking(there=[{"id": "dataset_0", "state": "refused"}, READY])) as server:
        assert send(to(server), parcel) == READY
    (asked,) = server.paths()
    assert asked.startswith(f"GET /datasets?sha256={parcel.digest}")


def test_a_small_one_goes_in_one_request_that_may_be_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(b"weights of a teacher")
    small = Parcel.of("teacher", "mine", [("teacher.onnx", path)])
    posts = []

    def rule(asked: Asked) -> Answer | None:
        if asked.method == "GET":
            return answer({"items": [], "cursor": None})
        posts.append(asked)
        return None if len(posts) == 1 else answer({"id": "teacher_1", "state": "ready"}, 201)

    with serving(rule) as server:
        assert send(to(server), small)["id"] == "teacher_1"
    first, second = posts
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    for asked in posts:
        assert b"weights of a teacher" in asked.body
        assert re.search(rb'name="name"\r\n\r\nmine\r\n', asked.body)


def test_it_is_waited_for_until_it_is_checked(parcel: Parcel) -> None:
    bad = {"problem": "no data set", "value": "x", "bound": "y", "remedy": "Z.", "field": "file"}
    bad |= {"message": "no data set: got x; expected y. Z."}
    states: list[dict[str, object]] = [{"id": "dataset_1", "state": "checking"}]
    states.append({"id": "dataset_1", "state": "refused", "problem": bad})

    def rule(asked: Asked) -> Answer | None:
        if "sha256" in asked.path:
            return answer({"items": [states[0]], "cursor": None})
        return answer(states[1])

    with (
        serving(rule) as server,
        pytest.raises(Refusal, match="^no data set: got x") as caught,
    ):
        send(to(server), parcel)
    assert caught.value.remedy == "Z."


def test_a_refusal_ends_an_upload(parcel: Parcel) -> None:
    def rule(asked: Asked) -> Answer | None:
        if asked.method == "PATCH":
            return problem(413, "Too large.")
        return Taking()(asked)

    with serving(rule) as server, pytest.raises(Refusal, match="Too large."):
        send(to(server), parcel)
