"""Jobs over HTTP: submitted, listed, followed, changed; refusals in the command line's words."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api.settings import Settings
from service.jobs.model import State
from service.jobs.store import Store


@pytest.fixture
def teacher(store: Store) -> str:
    made = store.create_teacher(
        tenant="local", name="mine", sha256="0" * 64, bytes=1, files=[], created_by="local",
        state="ready",
    )  # fmt: skip
    return made.id


def submit(client: TestClient, teacher: str, **fields: Any) -> Any:
    body = {"teacher": teacher, "data": "digits"} | fields
    return client.post("/api/v1/jobs", json=body)


def test_a_job_is_queued_with_its_fields(client: TestClient, teacher: str) -> None:
    answer = submit(client, teacher, max_kb=22, budget=3, name="first")
    assert answer.status_code == 201
    job = answer.json()
    assert (job["state"], job["name"], job["place_in_queue"]) == ("queued", "first", 1)
    assert job["spec"] == {"max_kb": 22.0, "budget": 3}
    assert client.get(answer.headers["location"]).json()["id"] == job["id"]
    yaml = client.get(f"/api/v1/jobs/{job['id']}/job.yaml").text
    assert "max_kb: 22" in yaml


@pytest.mark.parametrize(
    ("fields", "pointer", "said"),
    [
        ({"max_kb": -1}, "/max_kb", "got -1; expected greater than 0"),
        ({"max_drop": 5}, "/max_drop", "Did you mean --max-drop 0.05?"),
        ({"bugdet": 3}, "/bugdet", "Did you mean 'budget'?"),
        ({"sampler": "best"}, "/sampler", "best"),
        ({"storage": "sqlite:////etc/x"}, "/storage", "a place that the service does not share"),
        ({"warm": ["/root"]}, "/warm", "a place that the service does not share"),
        ({"teacher_unseen": "/etc"}, "/teacher_unseen", "'last N' or 'N per class'"),
        ({"ray": "ray://10.0.0.1:1"}, "/ray", "local"),
        ({"data": "nothing"}, "/data", "the id of a data set, or 'digits'"),
    ],
)
def test_a_bad_field_is_pointed_at(
    client: TestClient, teacher: str, fields: dict[str, Any], pointer: str, said: str
) -> None:
    answer = submit(client, teacher, **fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["pointer"] == pointer
    assert said in problem["detail"]


def test_a_request_that_is_sent_twice_is_done_once(client: TestClient, teacher: str) -> None:
    headers = {"Idempotency-Key": "k1"}
    body = {"teacher": teacher, "data": "digits"}
    one, two = (client.post("/api/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert one.status_code == two.status_code == 201
    assert one.json()["id"] == two.json()["id"]
    assert two.headers["idempotent-replayed"] == "true"
    other = client.post("/api/v1/jobs", json=body | {"budget": 2}, headers=headers)
    assert other.status_code == 422
    assert len(client.get("/api/v1/jobs").json()["items"]) == 1


def test_lists_are_cut_filtered_and_sorted(client: TestClient, teacher: str) -> None:
    for number in range(5):
        submit(client, teacher, name=f"job {number}")
    first = client.get("/api/v1/jobs", params={"limit": 2, "sort": "name"}).json()
    assert [job["name"] for job in first["items"]] == ["job 0", "job 1"]
    query = {"limit": 2, "sort": "name", "cursor": first["cursor"]}
    second = client.get("/api/v1/jobs", params=query).json()
    assert [job["name"] for job in second["items"]] == ["job 2", "job 3"]
    assert client.get("/api/v1/jobs", params={"state": "done"}).json()["items"] == []
    assert client.get("/api/v1/jobs", params={"sort": "nonsense"}).status_code == 422


def test_cancel_resume_and_delete(client: TestClient, teacher: str, store: Store) -> None:
    id_ = submit(client, teacher, budget=3).json()["id"]
    url = f"/api/v1/jobs/{id_}"
    assert client.post(f"{url}/resume", json={}).status_code == 409
    assert client.post(f"{url}/cancel").json()["state"] == "cancelled"
    again = client.post(f"{url}/resume", json={"budget": 9}).json()
    assert (again["state"], again["spec"]["budget"]) == ("queued", 9)
    assert [one["after"] for one in again["history"]] == ["queued", "cancelled", "queued"]
    assert client.get(f"{url}/bundle.zip").status_code == 409
    assert client.delete(url).status_code == 202
    assert client.get(url).status_code == 404
    actions = [entry["action"] for entry in client.get("/api/v1/audit").json()["items"]]
    assert actions == ["delete", "resume", "cancel", "submit"]


def events(settings: Settings, store: Store, id_: str, *texts: str) -> None:
    """Append notes to a job's file of events, as its run would."""
    job = store.get_job("local", id_)
    assert job is not None
    path = settings.folder / job.folder / "run" / "events.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for text in texts:
            line = {"time": time.time(), "kind": "note", "text": text, "warning": False, "name": ""}
            file.write(json.dumps(line).encode() + b"\n")


def test_events_are_told_from_where_one_stood(
    client: TestClient, teacher: str, store: Store, settings: Settings
) -> None:
    id_ = submit(client, teacher).json()["id"]
    url = f"/api/v1/jobs/{id_}/events"
    events(settings, store, id_, "one", "two")
    first = client.get(url).json()
    assert [event["text"] for event in first["events"]] == ["one", "two"]
    assert not first["ended"]
    events(settings, store, id_, "three")
    more = client.get(url, params={"from": first["next"], "wait": 5}).json()
    assert [event["text"] for event in more["events"]] == ["three"]


def test_a_stream_goes_on_after_the_last_event_and_ends_with_the_job(
    app: FastAPI, store: Store, settings: Settings
) -> None:
    import httpx

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    job = store.create_job(tenant="local", name="job", spec={}, created_by="local")
    events(settings, store, job.id, "one", "two")
    headers = {"Accept": "text/event-stream"}
    seen: list[tuple[str, str]] = []
    url = f"http://127.0.0.1:{port}/api/v1/jobs/{job.id}/events"

    def read(last: str | None, until: str) -> None:
        asked = headers | ({} if last is None else {"Last-Event-ID": last})
        id_ = ""
        with httpx.stream("GET", url, headers=asked, timeout=10) as stream:
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    id_ = line[4:]
                if line.startswith("data: ") and '"text"' in line:
                    seen.append((id_, json.loads(line[6:])["text"]))
                if until in line:
                    return

    try:
        read(None, '"two"')
        assert [text for _, text in seen] == ["one", "two"]
        threading.Timer(0.4, events, (settings, store, job.id, "three")).start()
        read(seen[0][0], '"three"')
        assert [text for _, text in seen[2:]] == ["two", "three"]
        store.transition(job.id, State.QUEUED, State.CANCELLED, "for a test")
        read(seen[-1][0], "event: end")
        assert len(seen) == 4
    finally:
        server.should_exit = True
        thread.join(10)


def test_every_page_is_shown(client: TestClient, teacher: str) -> None:
    id_ = submit(client, teacher, name="<b>&").json()["id"]
    paths = [
        "/",
        "/new",
        f"/new?teacher={teacher}",
        "/content",
        "/keys",
        f"/compare?id={id_}&id={id_}",
    ]
    paths += [f"/jobs/{id_}{part}" for part in ("", "/thresholds", "/router", "/try", "/download")]
    for path in paths:
        page = client.get(path)
        assert page.status_code == 200, path
        assert "<b>&" not in page.text, path
    assert client.get("/jobs/job_nothing").status_code == 404
    assert "There is no job" in client.get("/jobs/job_nothing").text


def test_the_description_tells_every_refusal(client: TestClient) -> None:
    told = client.get("/api/v1/openapi.json").json()
    for path, methods in told["paths"].items():
        if path.startswith("/api/v1"):
            for method, about in methods.items():
                assert {"401", "403", "421"} <= set(about["responses"]), (method, path)


def test_metrics_and_health(client: TestClient, teacher: str, tmp_path: Path) -> None:
    submit(client, teacher)
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"
    assert 'understudy_jobs{state="queued"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "form", "said"),
    [
        ("/jobs/{id}/resume", {"budget": "many"}, "budget"),
        ("/jobs/{id}/finalize", {"fields": "no JSON"}, "Invalid JSON"),
        ("/keys", {"name": "mine", "scope": "owner"}, "scope"),
        ("/content/nonsense/x/delete", {}, "There is no kind of content"),
        ("/new", {"teacher": "teacher_x", "data": "digits"}, "Upload it first."),
        ("/new", {"data": "digits"}, "the job lacks a teacher"),
    ],
)
def test_a_form_that_holds_nonsense_is_told_so(
    client: TestClient, teacher: str, path: str, form: dict[str, str], said: str
) -> None:
    id_ = submit(client, teacher).json()["id"]
    client.get("/")  # begins a session
    token = client.get("/").text.partition('name="csrf" content="')[2].partition('"')[0]
    answer = client.post(path.replace("{id}", id_), data=form | {"csrf": token})
    assert answer.status_code < 500
    assert said in answer.text
