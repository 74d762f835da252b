"""The study of routers: the file of pairs, draws of its parts, and the verdict, on tiny pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.quality import lines
from benchmarks.routing import choice, making, pairs, remedies, running, verdict
from benchmarks.routing.contenders import Fits, figures, fitted, scored, told_apart
from benchmarks.routing.draws import ROUTER_ROWS, Draw, draw
from benchmarks.routing.pairs import PARTS, UNSEEN, Pair
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from search.job.spec import JobSpec


def pair_of(
    logits: list[list[float]] | NDArray[np.float32],
    labels: list[int] | NDArray[np.int64],
    teacher: list[int] | NDArray[np.int64],
    part: list[str] | NDArray[np.str_],
) -> Pair:
    said = np.array(logits, np.float32)
    return Pair(
        "tiny-1",
        np.array(part),
        np.arange(len(said)),
        np.array(labels, np.int64),
        said,
        np.array(teacher, np.int64),
        None,
        np.zeros_like(said),
        {"data": "tiny"},
    )


def drawn(pair: Pair) -> Draw:
    """The parts as the pair names them."""
    parts = ("withheld", "validation", "calibration", "test")
    return Draw(pair, 0, *(pair.of(part) for part in parts))


# The student answers class 0 with these margins over class 1, while class 2 is far below, and the
# label is 0 where it is right. Validation: the margin puts the error (.5) first; max_logit, whose
# logits are shifted as we like, puts it last.
VALIDATION = [([0.5, 0.0, -9.0], 1, 1), ([-1.0, -3.0, -9.0], 0, 1), ([-2.0, -5.0, -9.0], 0, 1)]
# Test, N = 4, by margin 1, 2, 3, 4: the student errs on the rows of margin 1 and 3; the teacher is
# right on all but the row of margin 4.
TEST = [
    ([1.0, 0.0, -9.0], 1, 1),
    ([2.0, 0.0, -9.0], 0, 1),
    ([3.0, 0.0, -9.0], 1, 1),
    ([4.0, 0.0, -9.0], 0, 0),
]


@pytest.fixture
def tiny() -> Draw:
    rows = [*VALIDATION, *VALIDATION, *TEST]
    part = ["withheld"] * 3 + ["validation"] * 3 + ["test"] * 4
    logits, labels, teacher = (list(column) for column in zip(*rows, strict=True))
    return drawn(pair_of(logits, labels, teacher, part))


def test_a_score_is_judged_by_the_pair_it_makes(tiny: Draw) -> None:
    margin = SCORES["margin"].score(tiny.logits("test"))
    found = figures(tiny, margin)
    # right answers with k appeals in the order of the margin: 2, 3, 3, 4, 3 of 4; trapezoids give
    # (2/2 + 3 + 3 + 4 + 3/2) / 4 / 4 = 12.5/16
    assert found["area"] == pytest.approx(12.5 / 16)
    # of the pairs (right, wrong): (2, 1), (4, 1), (4, 3) are in order, (2, 3) is not
    assert found["auroc"] == 0.75
    # the gap is 3 − 2 = 1 answer: the first appeal wins all of it
    assert found["appeals_for_acc_i_90"] == 0.25


def test_the_baseline_is_chosen_on_validation_and_not_on_test(tiny: Draw) -> None:
    name, said = choice.best_score(tiny)
    # on validation all scores but max_logit and energy find the error first; on test all agree
    assert name not in ("max_logit", "energy")
    assert list(np.argsort(said)) == [0, 1, 2, 3]


def test_a_better_order_is_ahead_by_the_difference_of_areas(tiny: Draw) -> None:
    student, teacher = tiny.right("test")
    margin = np.array([1.0, 2.0, 3.0, 4.0])
    oracle = np.array([1.0, 3.0, 2.0, 4.0])
    # the oracle's right answers: 2, 3, 4, 4, 3 of 4, area (1 + 3 + 4 + 4 + 1.5)/16 = 13.5/16
    found, low, high = choice.difference(oracle, margin, student, teacher, seed=0)
    assert found == pytest.approx(1 / 16)
    assert low <= found <= high
    assert choice.difference(margin, margin, student, teacher, seed=0) == [0, 0, 0]


def line(kind: str, router: str, area: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"pair": "p", "seed": seed, "kind": kind, "router": router, "area": area, **more}


def choice_line(seed: int, area: float, baseline: float, low: float, high: float) -> dict[str, Any]:
    return line(
        "choice", "svm", area, seed, baseline="margin", baseline_area=baseline,
        difference=[area - baseline, low, high], oracle_area=0.9, random_area=0.5, student=0.6,
        teacher=0.8, student_us=100.0, pair_us=120.0, router_us=9.0, bytes=2048,
    )  # fmt: skip


def test_choice_baseline_hindsight_and_oracle_come_in_their_order() -> None:
    rows = [
        choice_line(0, 0.75, 0.70, 0.01, 0.09),
        choice_line(1, 0.71, 0.70, -0.03, 0.05),
        line("family", "rf/logits/qbc", 0.80, 0),
        line("family", "rf/logits/qbc", 0.60, 1),
        line("score", "margin", 0.72, 1),
        # no router of a job: hindsight must not pick it
        line("remedy", "blend", 0.85, 0),
        # out of the race, and timed: neither has an area
        {"pair": "p", "seed": 0, "kind": "family", "router": "knn/logits/qbc", "reason": "no"},
        {"pair": "p", "seed": 0, "kind": "time", "router": "margin", "us": 8.0},
    ]
    (found,) = verdict.entries(rows)
    assert found["best_baseline_area"] == pytest.approx(0.70)
    assert found["choice_area"] == pytest.approx((0.75 + 0.71) / 2)
    assert found["hindsight_area"] == pytest.approx((0.80 + 0.72) / 2)
    assert found["hindsights"] == ["rf/logits/qbc", "margin"]
    order = ("random", "best_baseline", "choice", "hindsight", "oracle")
    areas = [found[f"{kind}_area"] for kind in order]
    assert areas == sorted(areas)
    # mean .03; deviations: of rows .08/3.92 = .0204, of two seeds drawn from (.05, .01) .0141;
    # together .0248, so about .03 ± 1.96 · .0248
    assert found["difference"] == pytest.approx(0.03)
    assert found["interval"] == pytest.approx([-0.0186, 0.0786], abs=0.003)
    assert found["verdict"] == "level"
    assert found["time_ratio"] == pytest.approx(0.2)


def test_hindsight_is_held_against_the_choice(tiny: Draw) -> None:
    # by margin the area is 12.5/16, as worked above
    margin, same = line("score", "margin", 12.5 / 16), line("choice", "max_softmax", 0.0)
    found = choice.looked_back(tiny, margin, same)
    assert (found["kind"], found["router"]) == ("hindsight", "margin")
    # both scores put the rows in the same order
    assert found["difference"] == [0, 0, 0]
    rows = [
        choice_line(0, 0.70, 0.70, 0, 0), line("score", "gini", 0.71), line("score", "energy", 0.6),
        {"pair": "p", "seed": 0, "kind": "hindsight", "router": "gini",
         "difference": [0.01, -0.01, 0.03]},
        # another one was the best when fewer had been fitted
        {"pair": "p", "seed": 0, "kind": "hindsight", "router": "energy",
         "difference": [0.5, 0.4, 0.6]},
    ]  # fmt: skip
    (entry,) = verdict.entries(rows)
    assert entry["hindsight_interval"] == pytest.approx([-0.01, 0.03], abs=0.002)
    assert verdict.entries(rows[:1])[0]["hindsight_interval"] is None


def test_one_lucky_draw_of_five_is_no_win() -> None:
    lucky, same = (0.05, 0.02, 0.08), (0.0, 0.0, 0.0)
    # none of five draws hits the lucky seed with probability .8⁵ = .33
    assert verdict.interval([lucky, same, same, same, same])[0] == 0
    low, high = verdict.interval([lucky] * 5)
    assert (low, high) == pytest.approx((0.02, 0.08), abs=0.002)


def test_wins_are_counted_by_pair() -> None:
    ahead, behind = choice_line(0, 0.75, 0.7, 0.02, 0.08), choice_line(0, 0.6, 0.7, -0.2, -0.01)
    level = choice_line(0, 0.7, 0.7, 0.0, 0.0)
    rows = [{**row, "pair": name} for row, name in ((ahead, "a"), (behind, "b"), (level, "c"))]
    rows[1]["pair_us"] = 150.0
    found = verdict.overall(verdict.entries(rows))
    assert (found["wins"], found["behind"]) == (1, 1)
    assert [entry["verdict"] for entry in found["pairs"]] == ["ahead", "behind", "level"]
    assert found["time_ratio"] == pytest.approx(0.5)  # the worst pair's
    assert found["choice_area"] == pytest.approx((0.75 + 0.6 + 0.7) / 3)


def test_a_router_as_a_classifier_of_rows() -> None:
    trusted, right = np.array([True, True, True, False]), np.array([1, 1, 0, 0])
    # 3 of 4 rows; both of the right ones and one of the two wrong ones
    assert told_apart(trusted, right) == {"tells": 0.75, "tells_balanced": 0.75}
    assert told_apart(trusted, np.array([1, 1, 1, 0])) == {"tells": 1.0, "tells_balanced": 1.0}
    assert told_apart(~trusted, np.array([1, 1, 1, 1]))["tells_balanced"] == 0.25


@pytest.fixture
def noisy() -> Pair:
    """1,200 rows of 4 classes; the larger the noise of a row, the likelier its error."""
    rng = np.random.default_rng(0)
    sizes = {"withheld": 500, "validation": 150, "calibration": 150, "test": 400}
    part = np.repeat(list(sizes), list(sizes.values()))
    labels = rng.integers(4, size=len(part))
    noise = rng.gamma(2, 0.6, size=(len(part), 1))
    logits = (noise * rng.normal(size=(len(part), 4))).astype(np.float32)
    logits[np.arange(len(part)), labels] += 2
    return pair_of(logits, labels, (rng.random(len(part)) < 0.95).astype(np.int64), part)


def test_a_draw_keeps_withheld_and_unseen_rows_apart(
    noisy: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROUTER_ROWS, "tiny", 300)
    first, again, other = draw(noisy, 0), draw(noisy, 0), draw(noisy, 1)
    assert len(first.router) == 300
    assert set(noisy.part[first.router]) == {"withheld"}
    unseen = np.concatenate([first.places(part) for part in UNSEEN])
    # each of the 700 rows in one part, the parts as large as they were
    assert sorted(unseen) == list(noisy.of(*UNSEEN))
    assert [len(first.places(part)) for part in UNSEEN] == [150, 150, 400]
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)
    assert not np.array_equal(first.router, other.router)
    # stratified: a class has its share of the test part to within a row
    shares = np.bincount(noisy.labels[unseen], minlength=4) * 400 / 700
    assert np.all(np.abs(np.bincount(first.labels("test"), minlength=4) - shares) <= 1)


def test_every_score_and_the_fits_asked_for_have_a_line(noisy: Pair) -> None:
    of = draw(noisy, 0)
    made = [row for row, _ in scored(of)]
    assert [row["router"] for row in made] == list(SCORES)
    fits = Fits("derived", "random", ("gbdt",))
    ((row, model),) = fitted(of, fits)
    assert row["router"] == "gbdt/derived/random"
    assert row["bytes"] == len(model)
    errors = int(np.sum(of.right("router")[0] == 0))
    assert row["fitted_rows"] == 2 * errors
    student = of.right("test")[0]
    for one in (row, *made):
        assert one["accuracy_at_20"] >= student.mean() - 0.02
        assert student.mean() < one["area"] < 1
    assert len(Fits("logits", "qbc").names) == len(FAMILIES)


def test_useful_labels_ask_for_an_appeal_only_where_the_teacher_mends_it(tiny: Draw) -> None:
    # test rows: wrong and mended, right, wrong and mended, right (the teacher is wrong there)
    assert list(remedies.labels(tiny, "test", useful=True)) == [0, 1, 0, 1]
    nobody = drawn(pair_of([[1, 0], [1, 0]], [1, 1], [0, 1], ["test", "test"]))
    assert list(remedies.labels(nobody, "test", useful=False)) == [0, 0]
    assert list(remedies.labels(nobody, "test", useful=True)) == [1, 0]


def test_the_teachers_weak_classes_are_drawn_towards_all() -> None:
    part = ["validation"] * 4
    said = drawn(pair_of([[1, 0], [1, 0], [1, 0], [0, 1]], [0, 0, 0, 0], [1, 1, 0, 0], part))
    # half of all rows; class 0: 2 of 3, class 1: 0 of 1, and 20 rows at one half for each
    expected = [(2 + 10) / 23, (0 + 10) / 21]
    assert remedies.class_accuracy(said) == pytest.approx(expected)


@pytest.mark.parametrize("name", remedies.REMEDIES)
def test_every_remedy_scores_the_test_rows(name: str, noisy: Pair) -> None:
    of = draw(noisy, 0)
    score = remedies.REMEDIES[name](of)
    if name.startswith("flip"):
        assert score is None  # no mirrored images
        return
    assert score is not None
    assert score.shape == of.test.shape
    assert np.isfinite(score).all()
    student, teacher = of.right("test")
    # better than appeals at random, whose area is the middle of both accuracies
    assert figures(of, score)["area"] > (student.mean() + teacher.mean()) / 2


def test_finished_lines_are_not_made_again(
    noisy: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def chosen(of: Draw, student: bytes) -> Iterator[dict[str, Any]]:
        asked.append(of.seed)
        yield choice_line(of.seed, 0.7, 0.7, 0, 0) | {"made_of": choice.of_choice()}

    monkeypatch.setattr(choice, "lines", chosen)
    monkeypatch.setattr(choice, "untrained", lambda network, file: b"")
    monkeypatch.setattr(Pair, "network", None)
    fits = (Fits("logits", "all", ("gbdt",)),)
    plan = running.Plan((0,), fits, ("blend",), tmp_path)
    found = running.run([noisy], plan)
    kinds = [row["kind"] for row in found]
    # a choice, the scores, a fit, a remedy, and the best of them; those of seed 0 that have a file
    # are timed
    assert kinds.count("time") == len(SCORES) + 1
    assert len(kinds) == 1 + len(SCORES) + 1 + 1 + 1 + kinds.count("time")
    written = lines.rows(plan.file(noisy))
    assert running.run([noisy], plan) == found
    assert lines.rows(plan.file(noisy)) == written
    more = running.run([noisy], running.Plan((0, 1), fits, (), tmp_path))
    assert asked == [0, 1]
    assert {row["seed"] for row in more} == {0, 1}


def answers(shift: float, rows: int = 0) -> dict[str, NDArray[Any]]:
    """What a pair keeps: two rows of each part; the teacher says class 1 of all."""
    found: dict[str, NDArray[Any]] = {}
    for place, part in enumerate(PARTS):
        found[f"{part}.rows"] = np.array([2 * place + rows, 2 * place + 1 + rows])
        found[f"{part}.labels"] = np.array([0, 1])
        found[f"{part}.teacher"] = np.array([[0.0, 1.5], [-2.25, 3.0]], np.float32)
        found[f"{part}.student"] = np.array([[1.0, 0.0], [shift, 0.0]], np.float32)
    return found


def keep(out: Path, name: str, said: dict[str, NDArray[Any]]) -> None:
    folder = out / name
    folder.mkdir(parents=True)
    save_file(said, folder / "answers.safetensors")
    (folder / "netspec.json").write_text("{}")
    (folder / "about.json").write_text(f'{{"pair": "{name}", "data": "mnist"}}')


def test_pairs_are_packed_on_a_grid_and_read_again(tmp_path: Path) -> None:
    small, large = (task.name for task in making.TASKS if task.data == "mnist")
    keep(tmp_path, small, answers(1 / 3))
    keep(tmp_path, large, answers(-2.0))
    file = tmp_path / "pairs.parquet"
    lost = pairs.pack(tmp_path, file)
    # 1/3 = 341.33/1024 is kept as 341/1024
    assert lost[small] == {"error": pytest.approx(1 / 3 - 341 / 1024, rel=1e-3), "answers": 0}
    first, second = pairs.read(file)
    assert (first.name, second.name) == (small, large)
    assert list(first.part) == [part for part in PARTS for _ in range(2)]
    assert first.logits[1, 0] == np.float32(341 / 1024)
    assert second.logits[1, 0] == -2
    # labels 0 and 1; the second row's logits are (shift, 0)
    assert list(first.student_right[:2]) == [1, 0]
    assert list(second.student_right[:2]) == [1, 1]
    assert list(first.teacher_right[:2]) == [0, 1]
    assert first.flipped is None
    assert np.isnan(first.teacher[first.of("withheld")]).all()
    assert first.teacher[first.of("test")].tolist() == [[0, 1.5], [-2.25, 3]]


def test_what_would_not_fit_the_file_is_refused(tmp_path: Path) -> None:
    small, large = (task.name for task in making.TASKS if task.data == "mnist")
    with pytest.raises(FileNotFoundError, match=r"routers\.py pairs"):
        pairs.pack(tmp_path, tmp_path / "pairs.parquet")
    keep(tmp_path, small, answers(40.0))
    with pytest.raises(ValueError, match="beyond ±32"):
        pairs.pack(tmp_path, tmp_path / "pairs.parquet")
    other = tmp_path / "other"
    keep(other, small, answers(1.0))
    keep(other, large, answers(1.0, rows=9))
    with pytest.raises(ValueError, match="withheld different rows"):
        pairs.pack(other, tmp_path / "pairs.parquet")


def test_a_choice_is_made_as_a_job_makes_it(noisy: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Stopped(Exception):
        pass

    def ranked(data: object, **options: Any) -> None:
        asked.update(options)
        raise Stopped

    monkeypatch.setattr(choice, "fit_and_rank", ranked)
    with pytest.raises(Stopped):
        list(choice.lines(draw(noisy, 3), b""))
    job = JobSpec(teacher="t", data="d", out="o")
    assert asked == {
        "seed": 3, "families": job.families, "sampling": job.sampling, "features": job.features,
        "trials": job.router_trials,
    }  # fmt: skip


def test_the_committed_file_holds_what_it_promises() -> None:
    found = {pair.name: pair for pair in pairs.read()}
    assert list(found) == ["mnist-60", "mnist-300", "cifar10-300", "cifar10-670"]
    assert pairs.FILE.stat().st_size <= 4_000_000
    for pair in found.values():
        data = pair.about["data"]
        asked = making.DATA[data]
        counts = {part: len(pair.of(part)) for part in PARTS}
        withheld = asked.rows - asked.learnt
        assert counts == {
            "withheld": withheld, "validation": 2500, "calibration": 2500, "test": 10_000
        }  # fmt: skip
        assert withheld > ROUTER_ROWS[data]
        rows = len(pair.part)
        assert pair.logits.shape == (rows, 10)
        assert np.isfinite(pair.logits).all()
        assert len(np.unique(pair.rows)) == rows
        assert (pair.flipped is None) == (data == "mnist")
        # a plausible student, as it was measured, and a better teacher
        least = {"mnist": 0.97, "cifar10": 0.75}[data]
        test = pair.of("test")
        assert pair.student_right[test].mean() == pytest.approx(pair.about["test"], abs=5e-4)
        assert least < pair.student_right[test].mean() < pair.teacher_right[test].mean()
        assert pair.network.classes == 10
        assert {"commit", "where", "seed", "kb", "epochs"} <= set(pair.about)
