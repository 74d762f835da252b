"""The distribution: what it installs, under which names, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import understudy
import understudy_beside
from understudy import own

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"edge", "envs", "teachers", "routers", "search", "service", "understudy"}
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


@pytest.mark.parametrize("module", ["edge.runtime", "edge.bundle", "service.cli.main"])
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
    assert table["scripts"] == {"understudy": "understudy.cli:main"}


def test_the_version_is_written_in_one_place() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    assert tool["setuptools"]["dynamic"]["version"] == {"attr": "understudy.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", understudy.__version__)


# --- beside a project with packages of the same names


def test_the_names_that_are_looked_after_are_all_of_ours() -> None:
    assert set(own.PACKAGES) == TOP_LEVEL - {"understudy"} == set(understudy_beside.PACKAGES)
    assert own.ROOT == Path(understudy_beside.ROOT) == ROOT


@pytest.fixture
def beside(tmp_path: Path) -> Callable[..., str]:
    """Runs a script beside packages of the project's own; understudy comes last on the path."""
    for name in own.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "search" / "grid.py").write_text("SIZE = 7\n")
    (tmp_path / "edge" / "bundle.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "other").mkdir()

    def run(code: str, *, start: bool = True, folder: str = ".") -> str:
        """``start``: as ``understudy.pth`` of a regular install does."""
        last = (
            f"import sys; root = {str(ROOT)!r}\n"
            "sys.path = [place for place in sys.path if place != root] + [root]\n"
        )
        begin = "import understudy_beside; understudy_beside.install()\n" if start else ""
        script = tmp_path / folder / "script.py"
        script.write_text(last + begin + code)
        done = subprocess.run(
            [sys.executable, "-S", "-E", str(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("name", own.PACKAGES)
def test_whoever_imports_understudy_gets_its_packages(
    name: str, beside: Callable[..., str]
) -> None:
    code = f"import understudy, importlib.util; print(importlib.util.find_spec({name!r}).origin)"
    assert beside(code, start=False).strip() == str(ROOT / name / "__init__.py")


def test_a_project_keeps_its_own_packages_and_ours_fill_in_what_they_lack(
    beside: Callable[..., str],
) -> None:
    said = beside(
        "import search, search.grid, edge.bundle, edge.errors\n"
        "print(search.WHOSE, search.grid.SIZE, edge.bundle.WHOSE, edge.errors.BadInput.__name__)"
    )
    assert said == "theirs 7 theirs BadInput\n"


@pytest.mark.parametrize(
    "module", ["search.nothing", "edge.errors.deeper", "nothing", "os.nothing"]
)
def test_what_nobody_has_is_still_missing(module: str, beside: Callable[..., str]) -> None:
    said = beside(f"try:\n    import {module}\nexcept ModuleNotFoundError as e:\n    print(e.name)")
    assert said.strip() in (module, module.rpartition(".")[0])


def test_packages_that_were_imported_too_early_are_named(beside: Callable[..., str]) -> None:
    said = beside("import search\nimport understudy")
    assert "another package 'search' was imported already" in said
    assert "import understudy first" in said
    assert "'edge'" not in said


def test_a_script_elsewhere_is_none_the_wiser(beside: Callable[..., str]) -> None:
    said = beside("import understudy, edge.errors\nprint(edge.errors.__file__)", folder="other")
    assert said.strip() == str(ROOT / "edge" / "errors.py")


def test_the_start_loads_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import understudy_beside\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not {"pathlib", "re", "typing", "understudy", "edge"} & set(done.stdout.split())


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
    wanted -= {"understudy"}  # an extra may be made of others
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert wanted <= pinned
