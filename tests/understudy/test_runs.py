"""A run in a folder, of candidates that nobody had to train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from edge.errors import BadInput, MissingExtra
from search.job.lock import let_go, take
from tests.search.runs import LAYERS, invented_run
from tests.service.client.services import RESULT, finished_run
from understudy import Bundle, Run
from understudy import open as open_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four candidates: 40, 20, 10 and 5 KB with 91, 90, 85 and 60 %; at most 30 KB were asked."""
    found = open_path(finished_run(tmp_path / "run", max_kb=30))
    assert isinstance(found, Run)
    return found


def test_a_run_tells_what_came_of_it(run: Run) -> None:
    assert run.finished
    assert run.result == RESULT
    assert run.verdict == RESULT["verdict"]
    assert run.warnings == RESULT["warnings"]
    assert run.spec.max_kb == 30
    assert run.report.read_text() == "<h1>report</h1>"
    assert isinstance(run.bundle, Bundle)
    said = "4 candidates, student 20.0 KB, pair 93.00% with 10.0% appealed"
    assert repr(run) == f"Run({str(run.path)!r}: {said})"


def test_candidates_are_a_table(run: Run) -> None:
    table = run.candidates
    assert isinstance(table, pd.DataFrame)
    assert table["kb"].tolist() == [40, 20, 10, 5]
    assert table["number"].tolist() == [1, 2, 3, 4]
    assert set(LAYERS) <= set(table.columns)
    assert table.to_dict("records") == run.rows
    assert {type(row["macs"]) for row in run.rows} == {int}


def test_without_pandas_the_same_rows_are_dictionaries(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="Run.rows has them as dictionaries"):
        _ = run.candidates
    monkeypatch.undo()
    assert [row["status"] for row in run.rows] == ["done"] * 4


def test_other_thresholds_choose_another_winner(run: Run) -> None:
    found = run.rerank(max_kb=12)
    assert found.changed
    assert (found.before["number"], found.winner["number"]) == (2, 3)
    assert found.winner["kb"] == 10
    assert any("beyond the limits" in line for line in found.why)
    assert [row["number"] for row in found.table] == [3, 4]
    assert "candidate 3, 10.0 KB" in repr(found)
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_kb": 1}, "no candidate of the run can be that small"),
        ({"max_kb": -1}, "'max_kb' of the job cannot be used"),
        ({"budget": 3}, "'budget' is no field of re-ranking"),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(
    given: dict[str, float], said: str, run: Run
) -> None:
    with pytest.raises(BadInput, match=said):
        run.rerank(**given)


@pytest.mark.parametrize(
    ("kind", "x", "y"),
    [
        ("front", "size of the student (KB, log scale)", "expected accuracy on validation"),
        ("reward", "candidate, in order of evaluation", "reward (no unit)"),
        ("appeals", "share of inputs that are appealed", "accuracy of the pair, calibration rows"),
    ],
)
def test_pictures_show_themselves_in_a_notebook(kind: str, x: str, y: str, run: Run) -> None:
    figure = run.plot(kind)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_the_picture_marks_what_ships(run: Run) -> None:
    axes = run.plot().axes[0]
    (star,) = (dots for dots in axes.collections if dots.get_label() == "ships")
    assert np.asarray(star.get_offsets()).tolist() == [[20, 0.9]]


def test_there_is_no_other_picture(run: Run) -> None:
    with pytest.raises(BadInput, match="unknown picture: got 'pie'"):
        run.plot("pie")


def test_what_a_notebook_shows_is_short_and_escaped(run: Run) -> None:
    shown = run._repr_html_()
    assert "There are &lt;few&gt; rows." in shown
    assert RESULT["verdict"] in shown
    assert "20.0 KB of 1,000.0 KB" in shown
    assert "max_softmax, threshold 0.75" in shown
    assert len(shown) < 4000


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    invented_run(tmp_path / "run", [(40, 0.91), (20, 0.9)])
    run = Run(tmp_path / "run")
    assert not run.finished
    assert "not finished, nobody works on it" in repr(run)
    assert "not finished" in run._repr_html_()
    assert run.candidates["kb"].tolist() == [40, 20]
    assert len(run.plot().axes) == 1
    for use in (lambda: run.result, lambda: run.bundle, lambda: run.report, lambda: run.teacher,
                lambda: run.verdict, run.route, run.student):  # fmt: skip
        with pytest.raises(BadInput, match=r"the run is not finished.*resume\(\)"):
            use()


def test_a_run_that_somebody_works_on_names_them(tmp_path: Path) -> None:
    invented_run(tmp_path / "run", [(40, 0.91)])
    held = take(tmp_path / "run" / "run.lock")
    try:
        assert "goes on" in repr(Run(tmp_path / "run"))
        with pytest.raises(BadInput, match="Wait for that process"):
            _ = Run(tmp_path / "run").result
    finally:
        let_go(held)


def test_a_folder_without_a_run_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no run"):
        Run(tmp_path)


def test_routing_takes_goals_and_no_limits(run: Run) -> None:
    with pytest.raises(BadInput, match="'max_kb' is no field of routing"):
        run.route(max_kb=3)


def test_results_of_an_older_version_are_shown_too(run: Run) -> None:
    older = {name: value for name, value in RESULT.items() if name not in ("verdict", "warnings")}
    (run.path / "result.json").write_text(json.dumps(older))
    assert run.verdict == ""
    assert run.warnings == []
    assert "20.0 KB" in run._repr_html_()
