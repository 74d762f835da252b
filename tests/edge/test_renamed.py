"""Modules by the names that they had before."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from edge.renamed import RENAMED, now


@pytest.mark.parametrize("new", sorted(set(RENAMED.values())))
def test_every_module_is_where_the_table_says(new: str) -> None:
    assert find_spec(new) is not None


def test_names_that_did_not_move_are_nobodys_business() -> None:
    assert now("search.pipeline") is None
    assert now("search.nothing") is None
    assert now("numpy.linalg") is None
    # a module of a package that moved as a whole
    assert now("envs.ops.base") == "envs.graph.ops.base"
    with pytest.raises(ModuleNotFoundError):
        import_module("search.nothing")


@pytest.mark.parametrize(
    "line",
    [
        "from routers.calibrate import threshold_for_appeals",
        "from teachers.manifest import TeacherManifest",
        "from teachers import datasets",
        "import search.events; search.events.Note",
        "from search.spec import JobSpec",
        "from search.space import Space",
        "from envs.compression import CompressionEnv",
        "from envs.ops.base import Op",
        "from teachers.formats import load_teacher",
    ],
)
def test_old_imports_give_the_module_as_it_is_now_and_say_so(line: str) -> None:
    code = f"import warnings; warnings.simplefilter('always'); {line}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "now" in found.stderr


def test_a_module_under_two_names_is_one_module() -> None:
    sys.modules.pop("teachers.manifest", None)
    with pytest.warns(DeprecationWarning, match=r"teachers\.manifest is called teachers\.formats"):
        old = import_module("teachers.manifest")
    assert old is import_module("teachers.formats.manifest")
    assert old.__name__ == "teachers.formats.manifest"
