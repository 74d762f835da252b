"""The distribution: what it installs, under which names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"edge", "envs", "teachers", "routers", "search", "service"}
HEAVY = ("torch", "ray", "sklearn", "xgboost", "optuna", "gymnasium", "onnx", "pyarrow")


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def listed_packages() -> set[str]:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    return set(tool["setuptools"]["packages"])


def test_the_listed_packages_are_the_folders_with_code() -> None:
    folders = {
        init.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for name in TOP_LEVEL
        for init in (ROOT / name).rglob("__init__.py")
    }
    assert listed_packages() == folders
    assert {name.split(".")[0] for name in folders} == TOP_LEVEL


@pytest.mark.parametrize("package", sorted(TOP_LEVEL))
def test_every_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", sorted(TOP_LEVEL))
def test_a_top_level_name_belongs_to_this_distribution_alone(package: str) -> None:
    # Flat names risk a collision; this fails as soon as a dependency brings one of ours.
    # An editable install may list no files, so absence of an owner is no collision.
    owners = set(metadata.packages_distributions().get(package, []))
    assert owners <= {"understudy"}
    # No folder of that name lies anywhere else on the path either.
    elsewhere = [
        entry
        for entry in map(Path, sys.path)
        if entry.resolve() != ROOT and (entry / package / "__init__.py").exists()
    ]
    assert elsewhere == []


@pytest.mark.parametrize("module", ["edge.runtime", "edge.bundle", "service.cli"])
def test_importing_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}\nprint(','.join(n for n in {HEAVY!r} if n in sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_console_script_leads_to_the_command_line() -> None:
    table = project()["project"]
    assert isinstance(table, dict)
    assert table["scripts"] == {"understudy": "service.cli:main"}


def test_torch_is_pinned_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in lines


def test_every_direct_dependency_is_constrained() -> None:
    def plain(requirement: str) -> str:
        name = requirement.split(">")[0].split("[")[0].split("=")[0]
        return name.strip().lower()

    table = project()["project"]
    assert isinstance(table, dict)
    extras = table["optional-dependencies"]
    wanted = {plain(line) for line in table["dependencies"]}
    wanted |= {plain(line) for lines in extras.values() for line in lines}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert wanted <= pinned
