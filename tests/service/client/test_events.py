"""Events of a job over a link that breaks: each once, in order, to the end."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from edge.errors import BadInput, Unfinished
from search.job.events import CandidateDone, Finished, Note, Stage, to_dict
from service.client.client import Client
from service.client.events import follow
from service.client.login import Service
from service.client.refusals import Refusal
from service.client.transport import Transport
from service.client.watching import lines, told
from tests.service.client.scripted import Answer, Asked, answer, problem, serving

#: what the run's file holds
LINES = [
    {"time": 1.0, "kind": "started", "pid": 1},
    {"time": 2.0} | to_dict(Note("an earlier process")),
    {"time": 3.0, "kind": "started", "pid": 2},
    {"time": 4.0} | to_dict(Stage("search", "3 candidates")),
    {"time": 5.0} | to_dict(CandidateDone(1, 3, 0.5, 0.9, 20.0, 0.5, 0.9, 20.0, False, "")),
    {"time": 6.0, "kind": "an event of a later version"},
    {"time": 7.0} | to_dict(Note("the end is near")),
]
FILE = [json.dumps(line).encode() + b"\n" for line in LINES]
ENDS = [sum(map(len, FILE[: n + 1])) for n in range(len(FILE))]
STREAM = {"content-type": "text/event-stream"}


class Job:
    """A service with one job; each stream gives so many lines and then breaks off.

    Args:
        gives: lines of each stream in turn, the last for all that follow; None: all, and the end.
        state: of the job in the end.
    """

    def __init__(self, *gives: int | None, state: str = "done", streams: bool = True) -> None:
        self.gives, self.state, self.streams = list(gives) or [None], state, streams
        self.reason, self.problem = "", None
        self.begun = "searching"
        self.looked = 0

    def __call__(self, asked: Asked) -> Answer | None:
        path = urlsplit(asked.path)
        if path.path.endswith("/events"):
            if asked.headers.get("accept") == "text/event-stream":
                return self._stream(int(asked.headers["last-event-id"]))
            return self._part(int(parse_qs(path.query)["from"][0]))
        if path.path.endswith("/result"):
            return answer({"verdict": "Well."})
        self.looked += 1
        state = self.begun if self.looked == 1 else self.state
        return answer({"id": "job_1", "state": state, "reason": self.reason,
                       "problem": self.problem, "place_in_queue": 2})  # fmt: skip

    def _stream(self, start: int) -> Answer:
        if not self.streams:
            return Answer(200, b"<html>", {"content-type": "text/html"})
        gives = self.gives.pop(0) if len(self.gives) > 1 else self.gives[0]
        left = [n for n, end in enumerate(ENDS) if end > start]
        given = left if gives is None else left[:gives]
        body = b"retry: 1000\n\n: alive\n\n"
        for n in given:
            body += b"id: %d\ndata: %s\n\n" % (ENDS[n], FILE[n].strip())
        body += b'event: job\ndata: {"state": "%s"}\n\n' % self.state.encode()
        if gives is None:
            body += b"event: end\ndata: {}\n\n"
        else:
            body += b"id: 999999\ndata: {half of a mess"
        return Answer(200, body, STREAM)

    def _part(self, start: int) -> Answer:
        left = [line for line, end in zip(LINES, ENDS, strict=True) if end > start]
        end = ENDS[-1] if left else max(start, ENDS[-1])
        return answer({"events": left, "next": end, "state": self.state, "ended": not left})


def followed(job: Job) -> list[dict[str, object]]:
    with serving(job) as server:
        transport = Transport(Service(server.url, None))
        return [update.data for update in follow(transport, "job_1") if update.kind == "event"]


def test_every_event_comes_once() -> None:
    assert followed(Job()) == LINES


def test_a_stream_that_breaks_is_gone_on_with_after_the_last_event() -> None:
    assert followed(Job(2, 1, 0, 3, None)) == LINES


def test_where_no_stream_comes_through_events_are_asked_for() -> None:
    assert followed(Job(streams=False)) == LINES


def test_streams_that_always_break_off_are_given_up_for_questions() -> None:
    assert followed(Job(2, 0)) == LINES


def test_a_service_that_goes_away_is_told() -> None:
    job = Job(2)

    def rule(asked: Asked) -> Answer | None:
        return job(asked) if len(server.asked) == 1 else None

    with serving(rule) as server:
        transport = Transport(Service(server.url, None), patience=0.3)
        with pytest.raises(BadInput, match="the service does not answer"):
            list(follow(transport, "job_1"))


def test_a_job_that_is_not_there_is_not_waited_for() -> None:
    said = "There is no job 'job_1'."
    with serving(lambda _: problem(404, said)) as server, pytest.raises(Refusal, match=said):
        list(follow(Transport(Service(server.url, None)), "job_1"))
    assert len(server.asked) == 1


def test_a_job_is_told_from_its_last_start_on_as_a_run_here_is() -> None:
    with serving(Job()) as server:
        found = list(told(Client(server.url), "job_1"))
    assert [type(event) for event in found] == [Stage, CandidateDone, Note, Finished]
    assert isinstance(found[-1], Finished)
    assert found[-1].result["bundle"] == f"{server.url}/api/v1/jobs/job_1/bundle.zip"


def test_a_job_that_waits_says_where() -> None:
    job = Job()
    job.begun = "queued"
    with serving(job) as server:
        assert next(told(Client(server.url), "job_1")) == Stage("queued", "place 2")


def test_the_lines_are_those_of_the_file() -> None:
    with serving(Job()) as server:
        assert list(lines(Client(server.url), "job_1")) == LINES[2:]


@pytest.mark.parametrize(
    ("state", "problem", "error", "said"),
    [
        (
            "cancelled",
            None,
            BadInput,
            "was cancelled: got job_1; .* understudy resume job_1",
        ),
        ("failed", None, Unfinished, "out of luck.*understudy resume job_1"),
        ("failed", {"message": "no such data: got x; expected y. Z."}, BadInput, "^no such data: "),
    ],
)
def test_a_job_that_ended_early_says_how_to_go_on(
    state: str, problem: dict[str, str] | None, error: type[Exception], said: str
) -> None:
    job = Job(state=state)
    job.reason, job.problem = "out of luck", problem  # type: ignore[assignment]
    with serving(job) as server, pytest.raises(error, match=said):
        list(told(Client(server.url), "job_1"))
