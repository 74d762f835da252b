"""Requests over a link that breaks, to services that are busy, gone or something else."""

from __future__ import annotations

import logging
import pickle
import time
import traceback

import pytest

from edge.errors import BadInput
from service.client.login import Secret, Service
from service.client.refusals import Refusal
from service.client.transport import Transport
from tests.service.client.scripted import Answer, answer, in_turn, problem, serving

KEY = "und_verysecretindeed"


def test_the_key_goes_along_and_is_seen_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(in_turn(answer({"items": []}), problem(401, "no"))) as server:
        transport = Transport(Service(server.url, Secret(KEY)))
        assert transport.get("/jobs") == {"items": []}
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        with pytest.raises(Refusal) as caught:
            transport.get("/jobs")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(shown.format())
    assert KEY not in repr(transport)
    assert KEY not in caplog.text


@pytest.mark.parametrize("first", [None, problem(503, "busy"), Answer(502, b"<html>")])
def test_a_request_is_sent_again_where_that_may_help(first: Answer | None) -> None:
    with serving(in_turn(first, first, answer({"state": "queued"}))) as server:
        assert Transport(Service(server.url, None)).get("/jobs/job_1") == {"state": "queued"}
    assert len(server.asked) == 3


def test_a_change_is_sent_again_under_the_same_key() -> None:
    answers = (None, problem(409, "still being answered", retry_after="0"), answer({"id": "job_1"}))
    with serving(in_turn(*answers)) as server:
        transport = Transport(Service(server.url, None))
        assert transport.post("/jobs", {"teacher": "t"}) == {"id": "job_1"}
        transport.post("/jobs", {"teacher": "t"})
    keys = [asked.headers["idempotency-key"] for asked in server.asked]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert {asked.body for asked in server.asked} == {b'{"teacher":"t"}'}


def test_a_limit_that_lasts_is_told_at_once() -> None:
    limit = in_turn(problem(429, "The limit of queued jobs.", retry_after="30"))
    with serving(limit) as server, pytest.raises(Refusal, match="The limit of queued"):
        Transport(Service(server.url, None)).post("/jobs")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 500])
def test_what_would_be_refused_again_is_not_sent_again(status: int) -> None:
    refused = in_turn(problem(status, "Not so."))
    with serving(refused) as server, pytest.raises(Refusal, match="^Not so.$"):
        Transport(Service(server.url, None)).post("/jobs")
    assert len(server.asked) == 1


def test_a_bad_input_there_is_the_same_bad_input_here() -> None:
    told = BadInput("'max_kb' of the job cannot be used", value=-3, bound="greater than 0",
                    remedy="Mend --max-kb.", field="max_kb")  # fmt: skip
    error = {"pointer": "/max_kb", "value": "-3", "bound": told.bound, "remedy": told.remedy}
    body = {"detail": str(told), "status": 422, "errors": [error]}
    with serving(in_turn(answer(body, 422))) as server, pytest.raises(BadInput) as caught:
        Transport(Service(server.url, None)).post("/jobs")
    found = caught.value
    assert str(found) == str(told)
    assert (found.problem, found.bound, found.remedy, found.field) == (
        told.problem, told.bound, told.remedy, "max_kb",
    )  # fmt: skip
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 (what was pickled here)
    assert str(again) == str(told)
    assert again.status == 422


def test_a_proxys_page_is_told_by_its_status() -> None:
    page = in_turn(Answer(403, b"<html>no</html>"))
    with serving(page) as server, pytest.raises(Refusal, match="answered 403 Forbidden."):
        Transport(Service(server.url, None)).get("/jobs")


def test_a_key_is_not_taken_elsewhere() -> None:
    with serving(in_turn(answer({}))) as other:
        moved = in_turn(Answer(307, b"", {"location": other.url}))
        with serving(moved) as server, pytest.raises(BadInput, match="else.*" + other.url):
            Transport(Service(server.url, Secret(KEY))).get("/jobs")
    assert other.asked == []


def test_another_server_is_no_service() -> None:
    with (
        serving(
            in_turn(Answer(200, b"<html>hello</html>", {"content-type": "text/html"}))
        ) as server,
        pytest.raises(BadInput, match="no service of understudy: got text/html"),
    ):
        Transport(Service(server.url, None)).get("/jobs")


def test_where_nobody_answers_it_is_said_within_seconds() -> None:
    with serving(in_turn(None)) as server:
        url = server.url
    began = time.monotonic()
    with pytest.raises(
        BadInput, match=f"the service does not answer: got {url} .*understudy serve"
    ):
        Transport(Service(url, None)).get("/jobs")
    assert time.monotonic() - began < 5


def test_a_service_that_has_answered_is_waited_for_longer() -> None:
    silent = [None] * 40
    with serving(in_turn(answer({}), *silent, answer({"well": True}))) as server:
        transport = Transport(Service(server.url, None), patience=30)
        transport.get("/jobs")
        assert transport.get("/jobs") == {"well": True}
