"""A job of a real service, with the methods of a run in a folder."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadInput
from service.jobs.model import Scope, State
from tests.service.client.services import RESULT, Running, running
from tests.understudy.test_given import Net
from understudy import Client, RemoteRun


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def client(service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "UNDERSTUDY_URL", "UNDERSTUDY_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Client(service.url)


@pytest.fixture
def run(client: Client, service: Running) -> RemoteRun:
    """A finished job of four candidates."""
    return client.job(service.job().id)


def test_a_module_and_arrays_are_submitted(client: Client, service: Running) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    run = client.submit(Net(), (images / 127.5 - 1, np.arange(60) % 3), max_kb=4, budget=2,
                        class_names=["a", "b", "c"], appeals=0.2)  # fmt: skip
    assert run.state == "queued"
    assert run.job["name"] == "net"
    assert run.job["spec"] == {"max_kb": 4, "budget": 2, "appeals": 0.2}
    teacher = run._http.transport.get(f"/teachers/{run.job['teacher']}")
    assert teacher["state"] == "ready"
    data = run._http.transport.get(f"/datasets/{run.job['data']}")
    assert data["facts"]["class_names"] == ["a", "b", "c"]
    again = client.submit(run.job["teacher"], run.job["data"], budget=3)
    assert again.job["teacher"] == run.job["teacher"]
    assert again.id in [job.id for job in client.jobs(state="queued")]


def test_what_cannot_be_used_is_refused_as_it_is_here(client: Client) -> None:
    with pytest.raises(BadInput, match="'max_kb' of the job cannot be used"):
        client.submit("teacher_1", "digits", max_kb=-1)
    with pytest.raises(BadInput, match="the job's teacher is not there"):
        client.submit("teacher_1", "digits")
    with pytest.raises(BadInput, match="There is no job 'job_1'"):
        client.job("job_1")


def test_a_finished_job_has_all_that_a_run_has(run: RemoteRun, tmp_path: Path) -> None:
    assert run.wait() is run
    assert run.finished
    assert run.verdict == RESULT["verdict"]
    assert run.warnings == RESULT["warnings"]
    assert run.candidates["kb"].tolist() == [40, 20, 10, 5]
    assert run.report.read_text() == "<h1>report</h1>"
    assert len(run.plot("front").axes) == 1
    assert run.download(tmp_path / "mine") == tmp_path / "mine"
    assert (tmp_path / "mine" / "bundle" / "manifest.json").is_file()
    assert run.id in repr(run)
    assert "There are &lt;few&gt; rows." in run._repr_html_()


def test_the_bundle_is_fetched_once(run: RemoteRun, client: Client, tmp_path: Path) -> None:
    (answer,) = run.bundle.predict(np.array([[[255], [0]]], np.uint8))
    assert answer.class_name == "left"
    folder = run.bundle.path
    assert folder.is_relative_to(tmp_path / ".cache" / "understudy" / "jobs")
    before = (folder / "pair.onnx").stat().st_mtime_ns
    assert client.job(run.id).bundle.path == folder
    assert (folder / "pair.onnx").stat().st_mtime_ns == before
    run._http.transport.post(f"/jobs/{run.id}/threshold", {"appeals": 0})
    assert run.bundle.threshold == 0.75
    assert client.job(run.id).bundle.threshold < 0.75


def test_a_home_that_cannot_be_written_is_no_hindrance(
    run: RemoteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run.bundle.class_names == ("left", "right")


def test_other_thresholds_and_a_job_that_ships_them(run: RemoteRun) -> None:
    found = run.rerank(max_kb=12)
    assert found.winner["kb"] == 10
    new = found.ship(progress=False)
    assert isinstance(new, RemoteRun)
    assert (new.job["kind"], new.job["parent"]) == ("finalize", run.id)
    assert new.job["spec"]["max_kb"] == 12
    with pytest.raises(BadInput, match="no candidate of the run can be that small"):
        run.rerank(max_kb=1)


def test_another_goal_is_a_job_of_its_own(run: RemoteRun) -> None:
    new = run.route(appeals=0.3, progress=False)
    assert (new.job["kind"], new.job["parent"], new.state) == ("route", run.id, "queued")
    with pytest.raises(BadInput, match="'max_kb' is no field of routing"):
        run.route(max_kb=3)


def test_cancel_and_go_on(client: Client, service: Running) -> None:
    run = client.job(service.job(State.SEARCHING).id)
    assert run.cancel().job["wanted"] == "cancel"
    service.store.transition(run.id, State.SEARCHING, State.CANCELLED, "asked", "test")
    with pytest.raises(BadInput, match="the job was cancelled"):
        run.wait()
    assert run.resume(budget=40).state == "queued"
    assert run.job["spec"]["budget"] == 40
    with pytest.raises(TimeoutError, match="queued"):
        run.wait(timeout=0)
    run.delete()


def test_a_key_is_shown_by_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "service") as service:
        _, secret = service.store.create_key(tenant="ours", name="me", scope=Scope.READ)
        client = Client(service.url, key=secret)
        assert client.jobs() == []
        with pytest.raises(BadInput, match="has the scope read; this needs submit") as caught:
            client._http.cancel("job_1")
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        text = "".join(told.format()) + repr(client) + repr(vars(client))
        hidden = text.replace(repr(secret), "", 1)  # this test's own variable
        assert secret not in hidden
