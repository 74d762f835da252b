"""What is asked of a cluster before anybody works on it; no Ray is started here."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput
from search import cluster as clusters
from search.cluster import About, about, refuse_strangers, room_for, shipped, widest

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
