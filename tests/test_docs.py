"""Docs that cannot drift: every member of an open set is named, and what is printed is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import REQUIRED_FILES
from edge.preprocess import Preprocess
from envs.compression.criteria import CRITERIA
from envs.graph.ops import OPS
from routers.calibration.goals import GOALS
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx.features import FEATURES
from routers.selection.qbc import SAMPLING
from search.packaging.package import HEAD_FILE, INT8_FILE, ROUTER_FILE
from search.packaging.router_rows import WAYS
from search.samplers import SAMPLERS
from teachers.formats.formats import FORMATS
from teachers.formats.manifest import parse_manifest
from teachers.formats.zoo import ARCHITECTURES
from teachers.onnx_import.table import OPERATORS

ROOT = Path(__file__).resolve().parents[1]
NETWORKS, ROUTING = (
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("networks", "routing")
)


def section(title: str, page: str = NETWORKS) -> str:
    """A section of a page, with the sections inside it."""
    heading = re.search(rf"^(#+) {title}$", page, re.MULTILINE)
    assert heading, title
    rest = page[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def first_cells(text: str) -> list[str]:
    """The names in backticks that stand in the first column of its tables."""
    rows = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def assert_same(named: Iterable[str], known: Iterable[str]) -> None:
    listed = list(named)
    assert sorted(listed) == sorted(set(listed)), "a name stands in two rows"
    assert set(listed) == set(known)


def test_every_operator_is_described_and_no_other() -> None:
    assert_same(first_cells(section("Operators")), OPS)


def test_operators_stand_in_the_table_of_their_kind() -> None:
    layers, tails, *_ = section("Operators").split("\n*")[1:]
    assert_same(first_cells(layers), [name for name, op in OPS.items() if op.weighted])
    assert_same(first_cells(tails), [name for name, op in OPS.items() if op.tail])


def test_every_architecture_is_described_and_no_other() -> None:
    assert_same(first_cells(section("Architectures")), ARCHITECTURES)


def test_every_criterion_is_described_and_no_other() -> None:
    assert_same(first_cells(section("Settings")), CRITERIA)


def test_every_operator_of_the_onnx_import_is_named_and_no_other() -> None:
    rows = [line for line in section("ONNX").splitlines() if line.startswith("| ")]
    assert_same(re.findall(r"`([^`]+)`", "\n".join(rows)), OPERATORS)


def test_every_format_is_shown() -> None:
    for suffix in FORMATS:
        assert f"`teacher{suffix}`" in section("Three ways to hand one in")


@pytest.mark.parametrize("number", [0, 1])
def test_the_manifests_shown_are_valid(number: int) -> None:
    shown = re.findall(r"```json\n(.*?)```", NETWORKS, re.DOTALL)
    assert len(shown) == 2
    data = json.loads(shown[number].replace('"…"', ", ".join(f'"{name}"' for name in range(9))))
    manifest = parse_manifest({"arch": "onnx"} | data, "the page")
    assert manifest.classes == 10


def test_the_factory_shown_gives_a_teacher() -> None:
    (code,) = re.findall(r"```python\n(from edge.*?)```", NETWORKS, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    _, manifest = namespace["my_teacher"]()
    assert isinstance(manifest.preprocess, Preprocess)
    assert manifest.unseen == "last 5000 rows"


def test_the_worked_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(# a residual block.*?)```", NETWORKS, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", NETWORKS, re.DOTALL)
    exec(code, {"__name__": "page"})
    assert capsys.readouterr().out.strip() == shown.strip()


def test_every_sampler_is_described_and_no_other() -> None:
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert_same(first_cells(page), ["--sampler", *SAMPLERS])


def test_every_score_family_feature_sampling_and_choice_of_rows_is_named() -> None:
    rows = first_cells(section("Rows to fit on", ROUTING))
    assert_same(rows, WAYS)
    assert_same(set(first_cells(section("Routers", ROUTING))) - set(rows), SCORES)
    assert ",".join(FAMILIES) in section("Routers", ROUTING)
    for name in (*FEATURES, *SAMPLING):
        assert f"`{name}`" in section("Routers", ROUTING)


def test_every_goal_is_described_and_no_other() -> None:
    shown = first_cells(section("What the threshold is for", ROUTING))
    assert_same([name.split()[0] for name in shown], [f"--{g.replace('_', '-')}" for g in GOALS])


def test_every_file_of_a_bundle_is_described() -> None:
    shown = first_cells(section("The bundle", ROUTING))
    assert_same(shown, {*REQUIRED_FILES, ROUTER_FILE, INT8_FILE, HEAD_FILE, "manifest.json"})


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)
