"""What the benchmark of samplers holds accuracies against: as a job does, by the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality import binding, report, resnet, score, table
from benchmarks.quality.task import Standard, Task
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec

NAN = np.nan


@pytest.fixture(scope="module")
def toy() -> NetSpec:
    return toy_spec()


class TestStandard:
    STANDARD = Standard.of(0.98, c0=0.9, learnt=2000, epochs=2, rows=3000)

    def test_thresholds_are_the_job_s(self) -> None:
        for reward in self.STANDARD.rewards.values():
            assert (reward.settings["c0"], reward.settings["a0"]) == pytest.approx((0.9, 0.97))

    def test_a_full_training_sees_16_times_the_images(self) -> None:
        gap = 5**16**-0.38
        assert self.STANDARD.expected(np.array([0.9])) == pytest.approx(1 - 0.02 * gap)

    def test_nothing_is_expected_of_what_diverged(self) -> None:
        assert self.STANDARD.expected(np.array([NAN, 0.0])).tolist() == [0, 0]

    def test_a_reward_is_of_what_is_expected(self) -> None:
        accuracies = np.array([0.9, 0.0])
        expected, _ = self.STANDARD.expected(accuracies)
        # C = C0, and both lie below A0
        logs = self.STANDARD.log("threshold", accuracies, np.array([0.9, 0.9]))
        assert logs == pytest.approx([15 * (expected - 0.97), 15 * -0.97])


def three(network: NetSpec, again: NDArray[np.float64]) -> table.Table:
    """Three candidates; the first one is smallest, the second more accurate."""
    layers = 5
    return table.Table(
        actions=np.array([[1] * layers, [4] * layers, [5] * layers], np.int8),
        network=np.arange(3),
        bytes=np.array([10, 50, 1000]),
        accuracy=np.array([0.9, 0.93, 0.97]),
        again=again,
        promises=np.array([0.1, 0.2, 0.9]),
        meta={
            "network": network.to_json(),
            "teacher": {"searched": 0.98, "judged": 0.96},
            "rows": {"learnt": 2000, "searched": 3000, "judged": 5000},
            "recipe": {"epochs": 2},
        },
    )


@pytest.fixture
def task(toy: NetSpec) -> Task:
    again = np.array([[0.86, 0.93, NAN], [0.8, 0.93, NAN]])
    return table.task(three(toy, again))


def test_searches_under_other_thresholds_are_not_taken_for_these(task: Task) -> None:
    other = replace(task, searched=Standard.of(0.98, c0=0.9, learnt=2000, epochs=2, rows=3000))
    assert other.digest("threshold") != task.digest("threshold") != task.digest("paper")
    assert replace(task, name="again").digest("paper") == task.digest("paper")


def test_choices_are_judged_by_the_teacher_on_the_same_rows(task: Task, toy: NetSpec) -> None:
    for standard, teacher, rows in ((task.searched, 0.98, 3000), (task.judged, 0.96, 5000)):
        assert standard.rewards["threshold"].settings["a0"] == pytest.approx(teacher - 0.01)
        assert (standard.expectation.teacher, standard.expectation.rows) == (teacher, rows)
    judge = score.Judge(task, "paper")
    smallest, whole = (1,) * 5, (5,) * 5
    space = task.space("paper")
    ratio = 1 - np.array([space.cost(smallest).bytes]) / space.teacher_cost.bytes
    first, second = (task.judged.log("paper", np.array([found]), ratio)[0] for found in (0.86, 0.8))
    assert judge.worth(smallest) == pytest.approx((first + second) / 2)
    # what the search saw stands in for what nobody trained again, by the standard of its rows
    stands_in = task.searched.log("paper", np.array([0.97]), np.zeros(1))
    assert judge.worth(whole) == pytest.approx(stands_in[0])
    assert judge.missing == {whole}


def test_who_distils_everything_chooses_by_what_is_expected(task: Task) -> None:
    # .90 and .93 let expect .965 and .969, so a log-reward of .06 between them, and .08 between
    # their sizes; at their word the second would be chosen, by .03 · 15 against .08
    assert report._best_seen(task, "threshold") == (1,) * 5


def test_task_2_has_the_teacher_on_both_kinds_of_rows(
    toy: NetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(self: resnet.Live, rows: NDArray[np.int64], name: str) -> NDArray[np.float32]:
        """Right about all rows but the first ten, or the first sixty."""
        right = np.eye(10, dtype=np.float32)[np.zeros(len(rows), int)]
        right[: {"searched": 10, "judged": 60}[name]] = np.eye(10, dtype=np.float32)[1]
        return right

    monkeypatch.setattr(resnet.Live, "network", toy)
    monkeypatch.setattr(resnet.Live, "_data", (None, np.zeros(60_000, np.int64)))
    monkeypatch.setattr(resnet.Live, "_said", said)
    found = resnet.task(tmp_path)
    assert found.searched.expectation.teacher == pytest.approx(0.99)
    assert found.judged.expectation.teacher == pytest.approx(0.98)
    assert found.judged.rewards["paper"].settings["a0"] == pytest.approx(0.97)


class TestBinding:
    STANDARD = Standard.of(0.98, c0=0.9, learnt=2000, epochs=2, rows=3000)

    def test_thresholds_that_are_far_from_everyone_are_idle(self) -> None:
        # all past C0 and all below A0: slopes of 2 and 15, wherever the thresholds are
        accuracies = np.linspace(0.6, 0.8, 40)
        compressed = np.linspace(0.97, 0.93, 40)
        found = binding.changed(self.STANDARD, accuracies, compressed)
        assert {found[name] for name in found if name != "Eq. 7"} == {(1, 0)}

    def test_relaxing_one_that_binds_gives_another_winner(self) -> None:
        expected, compressed = np.array([0.955, 0.966]), np.array([0.99, 0.91])
        root = 16**0.38
        accuracies = 1 - 0.02 * ((1 - expected) / 0.02) ** root
        # A0 = .97: 2 · .09 − 15 · .015 = −.045 and 2 · .01 − 15 · .004 = −.04, the second wins.
        # A0 = .96: .18 − .075 and .02 + .009; C0 = .92: .14 − .225 and −.2 − .06: the first wins
        found = binding.changed(self.STANDARD, np.repeat(accuracies, 20), np.repeat(compressed, 20))
        del found["Eq. 7"]
        assert found == {
            "half the drop": (1, 0),
            "twice the drop": (0, 1),
            "C0 less 0.02": (1, 0),
            "C0 plus 0.02": (0, 1),
        }
