"""Teachers made by a Python function, for callers who trust it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.formats.factory import is_factory
from teachers.formats.formats import check_teacher, load_teacher
from teachers.formats.manifest import Teacher, TeacherManifest

MANIFEST = TeacherManifest(
    "own", Preprocess(channels=1, height=4, width=4, mean=(0.5,), std=(0.5,)), ("a", "b")
)


def make() -> tuple[nn.Module, TeacherManifest]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double().train(), MANIFEST


def make_whole() -> Teacher:
    module, manifest = make()
    return Teacher(manifest, module, "unknown", "whole")


def make_other_weights() -> tuple[nn.Module, TeacherManifest]:
    module, manifest = make()
    nn.init.zeros_(module[1].bias)  # type: ignore[index]
    return module, manifest


def make_nothing() -> None:
    return None


def make_with_an_argument(size: int) -> None:
    raise AssertionError(size)


def make_and_fail() -> None:
    raise RuntimeError("no weights here")


def make_infinite() -> tuple[nn.Module, TeacherManifest]:
    module, manifest = make()
    nn.init.constant_(module[1].bias, float("inf"))  # type: ignore[index]
    return module, manifest


FACTORIES: tuple[Callable[..., object], ...] = (
    make,
    make_whole,
    make_other_weights,
    make_nothing,
    make_with_an_argument,
    make_and_fail,
    make_infinite,
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factories above as a module of their own: own_teachers.made."""
    package, module = ModuleType("own_teachers"), ModuleType("own_teachers.made")
    for factory in FACTORIES:
        setattr(module, factory.__name__, factory)
    monkeypatch.setitem(sys.modules, "own_teachers", package)
    monkeypatch.setitem(sys.modules, "own_teachers.made", module)


@pytest.mark.parametrize("name", ["make", "make_whole"])
def test_a_trusted_factory_gives_a_teacher(name: str) -> None:
    teacher = load_teacher(f"own_teachers.made:{name}", trusted=True)
    assert teacher.manifest == MANIFEST == check_teacher(f"own_teachers.made:{name}", trusted=True)
    assert teacher.name == name
    assert not teacher.module.training
    assert {tensor.dtype for tensor in teacher.module.state_dict().values()} == {torch.float32}


def test_functions_that_were_written_before_manifests_moved_still_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written_before.py").write_text(
        "from teachers.manifest import TeacherManifest\n"
        "from own_teachers.made import make\n"
        "def teacher():\n"
        "    module, manifest = make()\n"
        "    assert isinstance(manifest, TeacherManifest)\n"
        "    return module, manifest\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "teachers.manifest", raising=False)
    with pytest.warns(DeprecationWarning, match="called teachers.formats.manifest now"):
        found = load_teacher("written_before:teacher", trusted=True)
    assert found.manifest == MANIFEST


def test_the_fingerprint_is_that_of_the_weights() -> None:
    first, again, other = (
        load_teacher(f"own_teachers.made:{name}", trusted=True).fingerprint
        for name in ("make", "make_whole", "make_other_weights")
    )
    assert first == again != other
    assert len(first) == 64


@pytest.mark.parametrize("read", [check_teacher, load_teacher])
def test_nothing_is_imported_for_a_caller_who_does_not_trust_it(
    read: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "stranger.py").write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match=r"stranger:make.*trusted=True"):
        read("stranger:make")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_teachers.made:absent", r"absent failed.*AttributeError"),
        ("own_teachers.absent:make", r"own_teachers\.absent:make failed.*ModuleNotFoundError"),
        ("own_teachers.made:make_nothing", r"make_nothing gives something else.*NoneType"),
        ("own_teachers.made:make_with_an_argument", r"failed.*TypeError.*without arguments"),
        ("own_teachers.made:make_and_fail", r"make_and_fail failed.*no weights here"),
        ("own_teachers.made:make_infinite", r"1\.bias.*not finite"),
    ],
)
def test_a_factory_that_fails_is_named(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_teacher(name, trusted=True)


def test_a_file_is_never_taken_as_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_teachers.made:make").write_bytes(b"")
    with pytest.raises(BadInput, match="unknown format"):
        load_teacher("own_teachers.made:make", trusted=True)


@pytest.mark.parametrize(
    "path", ["t.onnx", "C:\\t.onnx", "/t:x", "a:b:c", "a.b", "https://h/x:y", "a/b:c", ":f", "a:"]
)
def test_paths_are_not_spelled_as_factories(path: str) -> None:
    assert not is_factory(path)
