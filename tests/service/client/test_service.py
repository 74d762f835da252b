"""The client and its commands against the real service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge.bundle import load_bundle
from edge.errors import BadInput
from search.job.events import Finished, Stage
from search.job.spec import make_spec
from search.job.spec_file import to_yaml
from service.cli.main import app
from service.client import uploads
from service.client.client import Client
from service.client.login import find_service
from service.client.watching import told
from service.jobs.model import Scope, State, Wanted
from tests.service.client.services import Running, running, untrained_teacher

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.url) as found:
        yield found


@pytest.fixture
def command(service: Running, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`understudy ARGUMENTS…` for a service that the environment names."""
    monkeypatch.setenv("UNDERSTUDY_URL", service.url)

    def call(*arguments: str | Path, stdin: str = "") -> Result:
        return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)

    return call


def last_json(done: Result) -> dict[str, object]:
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_job_of_a_file_is_submitted_and_its_teacher_sent_once(
    command: Command, client: Client, service: Running, tmp_path: Path
) -> None:
    teacher = untrained_teacher(tmp_path)
    spec = make_spec({"teacher": str(teacher), "data": "digits", "out": "runs/x",
                      "max_kb": 44})  # fmt: skip
    (tmp_path / "job.yaml").write_text(to_yaml(spec))  # every default of the file included
    job = last_json(command("submit", tmp_path / "job.yaml", "--budget", "3", "--json"))
    assert job["state"] == "queued"
    assert job["data"] == "digits"
    told = job["spec"]
    assert isinstance(told, dict)
    assert (told["max_kb"], told["budget"]) == (44, 3)
    again = last_json(command("submit", tmp_path / "job.yaml", "--json"))
    assert again["teacher"] == job["teacher"]
    assert len(client.transport.get("/teachers")["items"]) == 1


def test_what_the_service_refuses_is_told_in_its_words(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    done = command("submit", "--teacher", tmp_path / "bad.onnx", "--data", "digits")
    assert isinstance(done.exception, BadInput)
    assert "this is no ONNX file" in str(done.exception)
    done = command("submit", "--teacher", untrained_teacher(tmp_path), "--data", "digits",
                   "--profile", "my.json")  # fmt: skip
    assert isinstance(done.exception, BadInput)
    assert done.exception.field == "profile"


def test_a_value_that_cannot_be_used_is_refused_before_anything_is_sent(command: Command) -> None:
    done = command("submit", "--teacher", "missing.onnx", "--data", "digits", "--max-kb", "-1")
    assert "'max_kb' of the job cannot be used" in str(done.exception)


def test_data_go_as_a_folder_a_file_or_in_pieces(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.service.client.test_parcels import pictures

    folder = pictures(tmp_path / "pictures")
    whole = client.data(str(folder))
    assert client.data(str(folder)) == whole
    images = np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4)
    np.savez(tmp_path / "arrays.npz", x=images, y=np.arange(40) % 2)
    monkeypatch.setattr(uploads, "LARGE", 100)
    monkeypatch.setattr(uploads, "PIECE", 300)
    pieces = client.data(str(tmp_path / "arrays.npz"))
    facts = client.transport.get(f"/datasets/{pieces}")["facts"]
    assert (facts["rows"], facts["classes"]) == (40, 2)
    assert client.data(pieces) == pieces


def test_jobs_are_listed(command: Command, service: Running) -> None:
    done = service.job()
    found = last_json(command("jobs", "--json", "--state", "done"))
    rows = found["jobs"]
    assert isinstance(rows, list)
    assert done.id in [row["id"] for row in rows]
    assert {row["state"] for row in rows} == {"done"}
    shown = command("jobs", "--limit", "1")
    assert done.id in shown.stdout
    assert "no jobs" in command("jobs", "--name", "nobody's").stdout


def test_more_jobs_than_a_page_has(client: Client, service: Running,
                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    made = {service.job(State.CANCELLED, finished=False).id for _ in range(5)}
    ask = client.transport.get

    def small(path: str, **params: object) -> object:
        return ask(path, **params | {"limit": 2})

    monkeypatch.setattr(client.transport, "get", small)
    found = [job["id"] for job in client.jobs(1000, state="cancelled")]
    assert made <= set(found)
    assert len(found) == len(set(found))


def test_a_finished_job_is_watched_and_downloaded(
    command: Command, client: Client, service: Running, tmp_path: Path
) -> None:
    job = service.job()
    shown = command("watch", job.id)
    assert shown.exit_code == 0, shown.exception
    assert "20.0 KB is right on 90.00%" in shown.output
    found = last_json(command("download", job.id, "--out", tmp_path / "mine", "--json"))
    assert found["files"] == ["bundle", "candidates.csv", "job.yaml", "report.html", "result.json"]
    load_bundle(tmp_path / "mine" / "bundle")
    again = command("download", job.id, "--out", tmp_path / "mine")
    assert "the folder exists" in str(again.exception)
    events = list(told(client, job.id))
    assert isinstance(events[-1], Finished)


def test_a_job_that_goes_on_is_followed_to_its_end(client: Client, service: Running) -> None:
    job = service.job(State.SEARCHING)
    following = told(client, job.id)
    assert next(following) == Stage("search", "4 candidates")
    service.store.transition(job.id, State.SEARCHING, State.DONE, "", "test")
    assert [type(event) for event in following] == [Finished]


def test_cancel_and_resume(command: Command, service: Running) -> None:
    job = service.job(State.SEARCHING)
    assert command("cancel", job.id).exit_code == 0
    assert service.store.jobs_in([State.SEARCHING])[0].wanted is Wanted.CANCEL
    service.store.transition(job.id, State.SEARCHING, State.CANCELLED, "asked", "test")
    stopped = command("watch", job.id)
    assert "the job was cancelled" in str(stopped.exception)
    found = last_json(command("resume", job.id, "--budget", "50", "--json"))
    assert found["state"] == "queued"
    assert found["spec"]["budget"] == 50  # type: ignore[index]
    refused = command("resume", job.id)
    assert isinstance(refused.exception, BadInput)


def test_a_key_is_asked_for_checked_and_kept(tmp_path: Path, home: Path) -> None:
    with running(tmp_path / "service") as service:
        _, secret = service.store.create_key(tenant="ours", name="me", scope=Scope.SUBMIT)
        with pytest.raises(BadInput, match="This service needs a key"):
            Client(service.url).check()
        done = CliRunner().invoke(app, ["login", service.url], input="und_wrong\n")
        assert "This service needs a key" in str(done.exception)
        assert not home.joinpath(".config").exists()
        done = CliRunner().invoke(app, ["login", service.url, "--json"], input=f"{secret}\n")
        assert last_json(done)["key"] is True
        assert secret not in done.output
        kept = find_service()
        assert kept.url == service.url
        assert kept.key is not None
        assert kept.key.reveal() == secret
        assert list(Client().jobs()) == []


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    done = CliRunner().invoke(app, ["jobs", "--url", "http://127.0.0.1:1"])
    assert "[client]'" in str(done.exception)
