"""Strangers' first jobs: figures follow from the rows, and cases are what they should be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import strangers
from benchmarks.strange import data, exports, hand, job, report, rivals
from benchmarks.strange.cases import BY_NAME, CASES, MANY_ROWS, QUICK, Case
from benchmarks.strange.job import Plan
from benchmarks.strange.networks import NETWORKS, size_kb, widest
from teachers.data.datasets import load_dataset
from teachers.formats.formats import load_teacher


def row(
    name: str,
    student: float,
    *,
    plain: tuple[int, int] = (0, 0),
    hand: tuple[int, int] = (0, 0),
    search: tuple[int, int] | None = None,
    teacher: float = 0.95,
    test_rows: int = 1000,
    **changed: Any,
) -> dict[str, Any]:
    """A finished case; of each rival, the rows that only the student and only the rival has right.

    ``search``: those of what the search alone found, and the plain student.
    """
    accuracy = {"teacher": teacher, "student": student}
    for rival, (ours, theirs) in (("plain", plain), ("hand", hand)):
        accuracy[rival] = student - (ours - theirs) / test_rows
    only = {"student/plain": list(plain), "student/hand": list(hand)}
    if search is not None:
        only["search/plain"] = list(search)
        accuracy["search"] = accuracy["plain"] + (search[0] - search[1]) / test_rows
    return {
        "case": name,
        "rows": 1000,
        "limit_kb": 40.0,
        "kb": {"student": 39.0},
        "sound": True,
        "test_rows": test_rows,
        "accuracy": accuracy,
        "only": only,
        "warnings": [],
        "finalists": [],
        "seconds": {"all": 60.0},
    } | changed


class TestLead:
    def test_by_hand(self) -> None:
        # 30 and 10 of 998 rows: (30 - 10) / 1000 = .02 in the middle, and
        # 1.96 · √(41 - 1000 · .02²) / 1000 = 1.96 · √40.6 / 1000 = .012489 to each side
        found = report.lead(30, 10, 998)
        assert found.mean == pytest.approx(20 / 998)
        assert found.low == pytest.approx(0.02 - 0.012489, abs=1e-6)
        assert found.high == pytest.approx(0.02 + 0.012489, abs=1e-6)

    def test_it_turns_round_with_the_pair(self) -> None:
        one, other = report.lead(7, 19, 400), report.lead(19, 7, 400)
        assert (one.mean, one.low, one.high) == (-other.mean, -other.high, -other.low)

    def test_two_who_never_differ_are_equal_only_as_far_as_the_rows_tell(self) -> None:
        few, many = report.lead(0, 0, 50), report.lead(0, 0, 5000)
        assert few.mean == many.mean == 0
        assert few.low < -0.01 < many.low < 0

    def test_it_covers_what_it_should(self) -> None:
        rng = np.random.default_rng(0)
        draws = rng.multinomial(2000, [0.03, 0.04, 0.93], size=1000)
        leads = [report.lead(int(ours), int(theirs), 2000) for ours, theirs, _ in draws]
        covered = np.mean([one.low <= -0.01 <= one.high for one in leads])
        assert 0.93 < covered < 0.97


class TestSummary:
    def test_the_better_rival_counts(self) -> None:
        # 40 rows behind the hand-trained one, 20 ahead of the uniform one
        found = row("a", 0.9, plain=(30, 10), hand=(10, 50))
        assert report.better_rival(found) == "hand"
        assert report.lead_of(found).mean == pytest.approx(-0.04)
        assert report.summary([found])["mean_lead"] == pytest.approx(-4)

    def test_behind_means_a_point_beyond_doubt(self) -> None:
        rows = [
            # 4 points behind: the interval ends 2.5 points behind
            row("behind", 0.9, plain=(10, 50)),
            # 1.5 points behind, and as little as .4: nobody knows whether it is a point
            row("perhaps", 0.9, plain=(10, 25)),
            row("equal", 0.9, plain=(4, 4), hand=(30, 0)),
            row("ahead", 0.9, plain=(30, 0), hand=(50, 0)),
        ]
        found = report.summary(rows)
        assert found["below_plain"] == 1
        assert found["which"]["below_plain"] == ["behind"]
        assert found["which"]["undecided"] == ["perhaps"]
        assert found["cases"] == 4
        assert found["seconds"] == 240

    def test_a_job_that_failed_is_worse_than_any_rival(self) -> None:
        rows = [row("good", 0.9), {"case": "bad", "rows": 9, "failed": "exit code 2: Error: no"}]
        found = report.summary(rows)
        assert found["below_plain"] == 1
        assert found["which"]["failed"] == ["bad"]
        assert found["cases"] == 2

    def test_a_case_that_was_skipped_counts_nowhere_and_is_said(self) -> None:
        found = report.summary([{"case": "k", "rows": 9, "skipped": "no keras"}])
        assert (found["cases"], found["below_plain"], found["mean_lead"]) == (0, 0, None)
        assert found["which"] == {"skipped": ["k"]}

    def test_silence_is_a_poor_student_without_a_warning(self) -> None:
        # nine tenths of 95 % are 85.5 %
        rows = [
            row("silent", 0.85),
            row("warned", 0.85, warnings=["student-far-below"]),
            row("just kept", 0.856),
            row("poor like its teacher", 0.4, teacher=0.43),
        ]
        found = report.summary(rows)
        assert (found["silent"], found["which"]["silent"]) == (1, ["silent"])
        assert found["false_alarms"] == 0

    def test_a_false_alarm_is_a_warning_where_all_is_well(self) -> None:
        rows = [
            row("alarmed", 0.93, warnings=["scores-tie", "few-rows"]),
            row("due", 0.5, warnings=["student-at-chance"]),
            row("few rows", 0.93, sound=False, warnings=["few-rows"]),
        ]
        found = report.summary(rows)
        assert found["false_alarms"] == 2
        assert found["which"]["false_alarms"] == ["alarmed: scores-tie", "alarmed: few-rows"]

    def test_the_search_alone_is_judged_where_there_are_many_rows(self) -> None:
        rows = [
            row("few", 0.9, search=(0, 50)),
            row("many", 0.9, search=(20, 10), rows=MANY_ROWS),
            row("all", 0.9, search=(10, 15), rows=60_000),
            row("without a final round that tells", 0.9, rows=60_000),
        ]
        # + 1 point and - .5 points
        assert report.summary(rows)["mean_lead_search_over_uniform"] == pytest.approx(0.25)
        assert report.summary(rows[:1])["mean_lead_search_over_uniform"] is None

    def test_expectations_are_held_against_what_was_reached(self) -> None:
        finalists = [
            {"expected": 0.93, "accuracy": 0.90},
            {"expected": 0.86, "accuracy": 0.90},
            {"expected": None, "accuracy": 0.10},
        ]
        # √((3² + 4²) / 2) = 3.536
        found = report.summary([row("a", 0.9, finalists=finalists)])
        assert found["expectation_error"] == pytest.approx(3.536, abs=1e-3)
        assert report.summary([row("a", 0.9)])["expectation_error"] is None

    def test_the_table_has_a_line_for_each_case(self) -> None:
        rows = [
            row("one", 0.912, plain=(5, 25), hand=(30, 0), warnings=["scores-tie"]),
            {"case": "two", "rows": 9, "failed": "exit code 2"},
        ]
        _, first, second = report.lines(rows)
        assert first.split()[:6] == ["one", "39.0", "40", "95.00", "91.20", "93.20"]
        assert "-2.00 [" in first
        assert first.endswith("scores-tie")
        assert second.split() == ["two", "failed:", "exit", "code", "2"]


class TestCases:
    def test_there_are_enough_and_each_has_a_name_of_its_own(self) -> None:
        assert len(CASES) >= 24
        assert len(BY_NAME) == len(CASES)
        assert len(QUICK) == 8
        assert set(QUICK) <= set(BY_NAME)

    def test_every_network_export_and_size_of_data_occurs(self) -> None:
        assert {case.network for case in CASES} == set(NETWORKS)
        assert {case.export for case in CASES} == {*exports.EXPORTS, "function", "keras"}
        for name in ("mnist", "cifar10"):
            rows = Counter(case.rows for case in CASES if case.data == name)
            assert set(rows) == {300, 1000, 5000, None}
        forms = {case.form for case in CASES if case.data == "digits"}
        assert forms == {"folder", "parquet"}

    def test_the_quick_ones_are_cheap_and_of_many_kinds(self) -> None:
        quick = [BY_NAME[name] for name in QUICK]
        assert len(quick) == 8
        assert all(case.count <= 1000 for case in quick)
        assert len({case.network for case in quick}) >= 6
        assert len({case.export for case in quick}) >= 4
        assert {case.data for case in quick} == {"digits", "shapes", "mnist"}

    def test_teachers_that_are_one_and_the_same_share_a_folder(self) -> None:
        case = BY_NAME["digits-plain-dynamo"]
        smaller = Case(**(vars(case) | {"name": "x", "max_kb": 10}))
        wider = Case(**(vars(case) | {"name": "x", "width": 33}))
        assert smaller.teacher_folder == case.teacher_folder != wider.teacher_folder
        kept = BY_NAME["digits-plain-unfolded"]
        assert kept.teacher_folder != case.teacher_folder
        assert kept.weights_folder == case.weights_folder


class TestNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 24)])
    def test_the_widest_keeps_the_limit_and_answers(
        self, name: str, channels: int, side: int
    ) -> None:
        net = widest(name, channels, 5, side, 40.0, folded=False).eval()
        # GroupNorm goes in steps of four channels a group
        assert 28 < size_kb(net, folded=False) <= 40
        with torch.inference_mode():
            assert net(torch.zeros(2, channels, side, side)).shape == (2, 5)

    def test_folded_batch_norm_leaves_a_bias(self) -> None:
        net = NETWORKS["plain"](4, 1, 2, 16)
        # 4, 8, 8 and 12 channels: weights 4·9 + 8·36 + 8·72 + 12·72 = 1,764, the classifier 26;
        # batch norm has four numbers a channel, of which one is left
        assert size_kb(net, folded=False) == 4 * (1764 + 26 + 4 * 32) / 1024
        assert size_kb(net, folded=True) == 4 * (1764 + 26 + 32) / 1024
        assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.modules())

    def test_what_nothing_keeps_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"no vgg of at most 0.1 KB"):
            widest("vgg", 3, 10, 32, 0.1, folded=True)


class TestData:
    def test_shapes_are_balanced_and_different(self) -> None:
        made = data.shapes(400)
        assert made.train.shape == (400, 24, 24, 3)
        assert len(made.test) == data.SHAPES_TEST_ROWS >= 2000
        assert np.bincount(made.train_labels, minlength=len(data.SHAPES)).min() > 20
        assert len(np.unique(made.train.reshape(400, -1), axis=0)) == 400

    @pytest.mark.parametrize("form", ["folder", "parquet"])
    def test_the_product_reads_what_is_written(self, tmp_path: Path, form: str) -> None:
        data.write("digits", 300, form, tmp_path)
        images = data.read(tmp_path)
        exports.manifest(images, tmp_path)
        about = json.loads((tmp_path / "teacher.json").read_text())
        assert about["input"] == [1, 16, 16]
        look = job_look(images)
        found = load_dataset(str(tmp_path / "data"), look, images.names)
        assert found.class_names == images.names
        pixels = images.test.reshape(len(images.test), -1).tolist()
        ours = sorted(zip(images.test_labels, pixels, strict=True))
        rows = slice(found.train_rows, None)
        theirs = found.images[rows].reshape(len(ours), -1).tolist()
        assert sorted(zip(found.labels[rows], theirs, strict=True)) == ours
        assert found.train_rows == 300


def job_look(images: data.Images) -> Any:
    from edge.preprocess import Preprocess

    channels, height, width = images.shape
    mean, std = map(tuple, images.scale)
    return Preprocess(channels, height, width, mean=mean, std=std)


class TestTraining:
    def test_a_stranger_learns_digits(self) -> None:
        images = data.digits(300)
        torch.manual_seed(0)
        net = hand.train(NETWORKS["plain"](8, 1, 10, 16), images, (1, 200))
        assert not net.training
        assert (hand.answers(net, images) == images.test_labels).mean() > 0.6

    def test_shifted_images_keep_what_they_show(self) -> None:
        batch = torch.zeros(8, 1, 16, 16)
        batch[:, :, 7:9, 7:9] = 1
        moved = hand._moved(batch, torch.Generator().manual_seed(0), flip=True)
        assert moved.shape == batch.shape
        assert moved.sum((1, 2, 3)).tolist() == [4.0] * 8
        assert len({tuple(one.nonzero()[0].tolist()) for one in moved}) > 3


@pytest.mark.parametrize("export", [*exports.EXPORTS, "function"])
def test_the_product_takes_every_export(
    tmp_path: Path, export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = data.digits(100)
    torch.manual_seed(0)
    net = NETWORKS["plain"](4, 1, 10, 16).eval()
    exports.manifest(images, tmp_path)
    name = str(tmp_path / "teacher.onnx")
    if export == "function":
        torch.save(net.state_dict(), tmp_path / "weights.pt")
        exports.function("plain", 4, images, tmp_path, "stranger_of_a_test")
        monkeypatch.syspath_prepend(tmp_path)
        name = "stranger_of_a_test:teacher"
    else:
        exports.EXPORTS[export](net, images, tmp_path)
    teacher = load_teacher(name, trusted=True)
    assert teacher.manifest.class_names == images.names
    inputs = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(teacher.module(inputs), net(inputs), atol=1e-4)


class TestResuming:
    CASE = BY_NAME["digits-plain-dynamo"]

    def test_what_is_finished_is_not_done_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = Plan(tmp_path, tmp_path / "made")
        monkeypatch.setattr(job, "_run", lambda case, plan: row(case.name, 0.9))
        first = job.run(self.CASE, plan)
        monkeypatch.setattr(job, "_run", lambda case, plan: pytest.fail("it was done"))
        assert job.run(self.CASE, plan) == first
        assert Plan(tmp_path, tmp_path, seed=1).row(self.CASE) is None

    @pytest.mark.parametrize("how", ["skipped", "failed"])
    def test_a_case_that_came_to_nothing_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        plan = Plan(tmp_path, tmp_path / "made")
        monkeypatch.setattr(job, "_run", lambda case, plan: {"case": case.name, how: "no"})
        assert job.run(self.CASE, plan)[how] == "no"
        # a report shows what failed
        assert (plan.row(self.CASE) is None) == (how == "skipped")
        monkeypatch.setattr(job, "_run", lambda case, plan: row(case.name, 0.9))
        assert "accuracy" in job.run(self.CASE, plan)

    def test_seconds_of_all_attempts_count(self, tmp_path: Path) -> None:
        path = tmp_path / "case" / "seconds.json"
        with pytest.raises(KeyboardInterrupt), job.Clock(path).step("job"):
            raise KeyboardInterrupt
        path.write_text('{"teacher": 3.5, "job": 60.0}')
        with job.Clock(path).step("job"):
            pass
        found = job.Clock(path).seconds()
        assert found["teacher"] == 3.5
        assert 60 <= found["job"] < 70
        assert found["all"] == pytest.approx(found["teacher"] + found["job"])

    def test_answers_come_back_as_they_were_kept(self, tmp_path: Path) -> None:
        rivals.keep(tmp_path / "x.json", np.array([3, 1, 4]), 39.5)
        answers, kb = rivals.kept(tmp_path / "x.json")
        assert (answers.tolist(), kb) == ([3, 1, 4], 39.5)

    def test_the_figures_of_a_row_pair_by_pair(self) -> None:
        labels = np.array([0, 1, 2, 3])
        answers = {
            "teacher": (labels, 400.0),
            "student": (np.array([0, 1, 2, 0]), 40.0),
            "plain": (np.array([0, 0, 0, 3]), 39.0),
            "hand": (np.array([0, 1, 2, 0]), 38.0),
        }
        stated: Any = {"accuracy": 0.75}
        result = {
            "teacher": stated,
            "student": stated,
            "pair": stated,
            "warnings": [{"name": "scores-tie", "text": "…"}],
            "finalists": [{"key": "k", "kb": 40.0, "accuracy": 0.7}],
        }
        found = job._figures(answers, labels, result)
        assert found["accuracy"] == {"teacher": 1, "student": 0.75, "plain": 0.5, "hand": 0.75}
        # rows 1 and 2 are right by the student alone, row 3 by the plain one alone
        assert found["only"] == {"student/plain": [2, 1], "student/hand": [0, 0]}
        assert found["warnings"] == ["scores-tie"]
        assert found["finalists"][0]["expected"] is None


def test_a_job_that_swallows_an_interrupt_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0.5)
    code = """
import signal, sys
calls = []
def handler(*_):
    calls.append(1)
    if len(calls) == 2:
        sys.exit(130)
signal.signal(signal.SIGINT, handler)
print("ready", flush=True)
while True:
    signal.pause()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        job._interrupt(process)
        assert process.returncode == 130


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    strangers.tell([row("a", 0.9)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["cases"] == 1
