"""The threshold of a finished bundle is turned by what its manifest keeps, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle import load_bundle, write_bundle
from edge.errors import BadInput
from edge.manifest import Calibration, Figure
from edge.runtime import EdgeRuntime
from routers.calibration.goals import Accuracy, Appeals, Risk
from search.packaging.recalibrate import standing, turn
from tests.edge.models import contents, manifest, pixels

# Ten calibration rows with scores .50, .55, … .95. The student errs on the three lowest and on the
# sixth, the teacher only on the sixth.
SCORES = tuple(0.5 + 0.05 * row for row in range(10))
ROWS = Calibration(SCORES, (0, 0, 0, 1, 1, 0, 1, 1, 1, 1), (1, 1, 1, 1, 1, 0, 1, 1, 1, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    figures = {
        "test.pair_accuracy": Figure(0.9, "test", 10),
        "test.student_accuracy": Figure(0.6, "test", 10),
        "calibration.appeals": Figure(0.2, "calibration", 10),
    }
    plain = replace(manifest(), calibration=ROWS, figures=figures, warnings=("Mind the gap.",))
    write_bundle(tmp_path / "bundle", plain, contents())
    return tmp_path / "bundle"


def trusted(folder: Path) -> list[bool]:
    """For a tie (a score of one half), and for pixels of which one is a little brighter."""
    # 4·(.8 − .6) = .8: softmax 1/(1 + e^-.8) = .69
    decisions = EdgeRuntime(load_bundle(folder)).decide(pixels((255, 255), (204, 153)))
    return [decision.trusted for decision in decisions]


def test_the_edge_decides_by_the_new_threshold(folder: Path) -> None:
    assert trusted(folder) == [False, False]  # .75, as the bundle was made

    found = turn(folder, Accuracy(0.9))

    # the three lowest rows have to appeal, so that the threshold is the fourth score
    assert found.threshold == pytest.approx(0.65)
    assert (found.expected.appeals, found.expected.accuracy) == (0.3, 0.9)
    assert trusted(folder) == [False, True]


def test_what_was_measured_with_the_old_threshold_is_dropped(folder: Path) -> None:
    turn(folder, Appeals(0.1))
    found = load_bundle(folder).manifest
    assert found.goal == {"appeals": 0.1}
    assert {name: figure.value for name, figure in found.figures.items()} == {
        "test.student_accuracy": 0.6,  # says nothing of the pair
        "calibration.appeals": 0.1,
        "calibration.pair_accuracy": 0.7,
        "calibration.acc_i": pytest.approx(1 / 3),  # one of three answers won back
    }
    assert found.warnings == ("Mind the gap.",)
    card = load_bundle(folder).read("MODEL_CARD.md").decode()
    assert "at most 10% of the inputs appealed" in card


def test_a_warning_of_the_old_threshold_goes_with_it(tmp_path: Path) -> None:
    # a teacher that mends nothing: appeals win nothing, and a budget is not spent
    useless = replace(ROWS, teacher_right=ROWS.student_right)
    write_bundle(tmp_path / "b", replace(manifest(), calibration=useless, warnings=()), contents())
    turn(tmp_path / "b", Appeals(0.3))
    assert "nothing is appealed" in load_bundle(tmp_path / "b").manifest.warnings[0]
    turn(tmp_path / "b", Appeals(0.0))
    assert load_bundle(tmp_path / "b").manifest.warnings == ()


def test_another_folder_leaves_the_bundle_as_it_is(folder: Path, tmp_path: Path) -> None:
    before = load_bundle(folder).manifest
    turn(folder, Accuracy(0.9), tmp_path / "other")
    assert load_bundle(folder).manifest == before
    assert load_bundle(tmp_path / "other").manifest.goal == {"accuracy": 0.9}


@pytest.mark.parametrize("goal", [Accuracy(0.95), Risk(0.001)])
def test_what_cannot_be_reached_changes_nothing(folder: Path, goal: Accuracy | Risk) -> None:
    before = load_bundle(folder).manifest
    with pytest.raises(BadInput, match="10 calibration rows"):
        turn(folder, goal)
    assert load_bundle(folder).manifest == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_failure_half_way_leaves_the_old_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_bundle(folder).manifest
    real, renamed = Path.rename, []

    def once(path: Path, target: Path) -> Path:
        renamed.append(path.name)
        if len(renamed) == 3:  # written, the old one moved away, and now the new one to its place
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(BadInput, match="cannot be replaced: got No space left"):
        turn(folder, Appeals(0.1))
    assert load_bundle(folder).manifest == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_bundle_without_calibration_rows_is_refused(tmp_path: Path) -> None:
    bare = replace(manifest(), calibration=Calibration((), (), ()))
    write_bundle(tmp_path / "bundle", bare, contents())
    with pytest.raises(BadInput, match="no calibration rows"):
        turn(tmp_path / "bundle", Appeals(0.1))


def test_a_budget_of_nothing_holds_for_images_that_score_below_every_row(folder: Path) -> None:
    found = turn(folder, Appeals(0.0))
    assert "no threshold, nothing appeals" in found.words()
    # a tie scores .5, and so does no calibration row above .5: nothing is appealed all the same
    assert trusted(folder) == [True, True]
    assert "never, whatever its score" in (folder / "MODEL_CARD.md").read_text()


def test_nothing_is_met_by_a_student_that_guesses(folder: Path, tmp_path: Path) -> None:
    rows = 40
    blind = Calibration(
        tuple(0.5 + 0.01 * row for row in range(rows)), (0, 1) * (rows // 2), (1,) * rows
    )
    write_bundle(
        tmp_path / "blind",
        replace(load_bundle(folder).manifest, calibration=blind, files={}),
        contents(),
    )
    found = turn(tmp_path / "blind", Appeals(0.2))
    assert found.met
    assert found.words().endswith(": but the student is no better than chance")


def test_a_warning_with_a_name_outlasts_the_threshold(folder: Path, tmp_path: Path) -> None:
    warnings = ("Mind the gap.", "student-far-below-teacher: the student is right on 60%")
    write_bundle(
        tmp_path / "odd",
        replace(load_bundle(folder).manifest, warnings=warnings, files={}),
        contents(),
    )
    found = turn(tmp_path / "odd", Appeals(0.1))
    assert found.doubt == "the student is far below its teacher"
    assert load_bundle(tmp_path / "odd").manifest.warnings == warnings
    assert standing(tmp_path / "odd") == ["student-far-below-teacher"]


def test_a_warning_of_the_old_goal_goes_with_it(folder: Path) -> None:
    turn(folder, Appeals(0.05))  # half a row of ten
    assert standing(folder) == ["budget-unspent"]
    turn(folder, Appeals(0.2))
    assert load_bundle(folder).manifest.warnings == ("Mind the gap.",)
