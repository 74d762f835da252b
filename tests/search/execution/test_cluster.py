"""What is asked of a cluster before anybody works on it; no Ray is started here."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInput
from search.execution import cluster as clusters
from search.execution.cluster import (
    TOKEN,
    About,
    about,
    refuse_strangers,
    room_for,
    shipped,
    widest,
)

HERE = About("here", {"Python": "3.11", "ray": "2.60.0", "torch": "2.13.0", "numpy": "2.4.6"})


def test_nodes_like_this_one_are_welcome() -> None:
    refuse_strangers({"a": HERE, "b": replace(HERE, host="there")}, HERE)
    refuse_strangers({"this": about()}, about())


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            replace(HERE, versions={**HERE.versions, "torch": "2.12.1"}),
            ("node b", "version of torch", "torch 2.12.1", "torch 2.13.0", "Install torch 2.13.0"),
        ),
        (
            replace(HERE, versions={"Python": "3.11", "ray": "2.60.0", "torch": "2.13.0"}),
            ("node b", "version of numpy", "numpy none", "Install numpy 2.4.6"),
        ),
        (
            replace(HERE, missing="there cannot read the images /run/cache/x.npy"),
            ("node b", "cannot reach the data", "/run/cache/x.npy", "--memory-gb"),
        ),
        ("ModuleNotFoundError: No module named 'numpy'", ("node b", "cannot run our code")),
    ],
    ids=["other version", "not installed", "no file", "no answer"],
)
def test_a_node_that_is_not_is_named_with_the_remedy(
    node: About | str, said: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput) as refused:
        refuse_strangers({"a": HERE, "b": node}, HERE)
    for words in said:
        assert words in str(refused.value)


def test_what_this_machine_says_of_itself() -> None:
    said = about(lambda: "no such file")
    assert said.versions["Python"] == ".".join(platform.python_version_tuple()[:2])
    assert set(said.versions) == {"Python", "ray", "torch", "numpy"}
    # a build for other processors is the same version
    assert "+" not in said.versions["torch"]
    assert said.missing == "no such file"


def test_all_that_a_worker_imports_is_shipped() -> None:
    folders = [Path(folder) for folder in shipped()]
    assert [folder.name for folder in folders] == ["edge", "envs", "teachers", "routers", "search"]
    assert all((folder / "__init__.py").is_file() for folder in folders)


HOMES = ("no folder", "a file", "a token that is a folder", "writable", "none")


@pytest.mark.parametrize("kind", HOMES)
def test_a_local_cluster_has_a_token_of_its_own_whatever_the_home_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers and services have homes that nobody can write to; Ray would keep its token in it,
    and jobs that begin at once would write over one another's."""
    from ray._private.authentication import authentication_token_setup as setup

    home = tmp_path / "home"
    if kind == "no folder":
        home = Path("/proc/nowhere")
    elif kind == "a file":
        home.write_text("")
    elif kind == "a token that is a folder":
        (home / ".ray" / "auth_token").mkdir(parents=True)
    elif kind == "writable":
        home.mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in TOKEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    if kind == "none":
        monkeypatch.delenv("HOME")
    tokens = []
    for _ in range(2):
        with clusters._own_token():
            setup.enable_token_auth_by_default()  # as `ray.init` does
            setup.ensure_token_if_auth_enabled(None, create_token_if_missing=True)
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
            assert os.environ["RAY_AUTH_MODE"] == "token"
        assert not set(TOKEN) & set(os.environ)
        # so that a cluster that is joined next is joined as if there had been none
        raylet: Any = import_module("ray._raylet")
        assert raylet.get_authentication_mode() != raylet.AuthenticationMode.TOKEN
    assert len(set(tokens)) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", TOKEN)
def test_whoever_says_how_processes_know_each_other_decides(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in TOKEN:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "disabled")
    with clusters._own_token():
        assert {other: os.environ.get(other) for other in TOKEN if other in os.environ} == {
            name: "disabled"
        }
    assert os.environ[name] == "disabled"


def test_a_ray_that_cannot_write_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/home/x/.ray")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(BadInput, match="Ray cannot be started: got .*Set TMPDIR or HOME"):
        clusters._connected("local", {}).__enter__()


@pytest.mark.parametrize("kind", [Exception, RuntimeError])
def test_a_machine_that_is_too_busy_for_ray_is_told_so(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise kind("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(BadInput) as refused, clusters.cluster("local", 1):
        pytest.fail("it has not started")
    assert str(refused.value).startswith("Ray did not start: got The current node timed out")
    assert "--resume" in str(refused.value)
    with (
        pytest.raises(BadInput, match="Ray did not start|no Ray cluster answers: got ray://h:1"),
        clusters.cluster("ray://h:1", 1),
    ):
        pytest.fail("it has not started")


@pytest.mark.parametrize(
    ("threads", "gpus", "room"),
    [
        (1, 0, 8 + 4),
        (3, 0, 2 + 1),
        (1, 0.25, 2 * 4 + 0),  # 8 on the two GPUs of the first, none on the second
        (1, 0.4, 2 * 2),  # a candidate has no parts of two GPUs
        (1, 2, 1),
    ],
)
def test_how_many_candidates_fit(
    monkeypatch: pytest.MonkeyPatch, threads: int, gpus: float, room: int
) -> None:
    nodes = [{"Resources": {"CPU": 8.0, "GPU": 2.0}}, {"Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(clusters, "_nodes", lambda: nodes)
    assert room_for(threads, gpus) == room
    assert (widest(6), widest(100)) == (6, 8)


def test_a_candidate_that_fits_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Resources": {"CPU": 8.0}}, {"Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(clusters, "_nodes", lambda: nodes)
    with pytest.raises(BadInput, match="at most 8 processors and 0 GPUs on one node"):
        room_for(9, 0)
    with pytest.raises(BadInput, match="--threads 1 --gpus 0.5"):
        room_for(1, 0.5)
