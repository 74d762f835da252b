"""AppealNet's two-head students in the study: their file, their figures, and the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.routing import appealnet, appealnet_tables, arms, one_head, pairs
from benchmarks.routing.appealnet import BLACK_BOX, CONTENDERS, Arm, log_margin
from benchmarks.routing.pairs import Pair
from routers.evaluation.intervals import SHARES
from routers.evaluation.metrics import appeals_for, deferral_curve
from routers.models.scores import SCORES
from tests.benchmarks.test_routers import pair_of

TEST_ROWS = 40
MACS = {"macs": 1_000_000}


@pytest.fixture
def pair() -> Pair:
    """60 unseen rows of two classes behind 10 withheld ones; the teacher is always right."""
    rng = np.random.default_rng(1)
    part = ["withheld"] * 10 + ["validation"] * 10 + ["calibration"] * 10 + ["test"] * TEST_ROWS
    labels = rng.integers(2, size=len(part))
    logits = rng.normal(size=(len(part), 2)).astype(np.float32)
    logits[np.arange(len(part)), labels] += 1
    found = pair_of(logits, labels, np.ones(len(part), np.int64), np.array(part))
    found.about.update(MACS)
    return found


def keep(out: Path, pair: Pair, said: dict[str, dict[str, NDArray[np.float32]]]) -> None:
    folder = out / pair.name / "two_head"
    folder.mkdir(parents=True)
    for arm, arrays in said.items():
        save_file(arrays, folder / f"{arm}.safetensors")
        (folder / f"{arm}.json").write_text(json.dumps({"teacher_macs": 9_000_000}))


def arms_of(pair: Pair) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The plain student is the pair's; joint ones answer class 0 everywhere, and heads know it."""
    places = pair.of(*pairs.UNSEEN)
    own, labels = np.ascontiguousarray(pair.logits[places]), pair.labels[places]
    zero = np.tile(np.array([[3.0, 0.0]], np.float32), (len(places), 1))
    trust = np.where(labels == 0, 2.0, -2.0).astype(np.float32)
    head = {"logits": zero, "trust": trust}
    return {
        "plain": {"logits": own}, "frozen": {"logits": own, "trust": trust},
        "white": head, "black": head,
    }  # fmt: skip


def test_a_margin_is_kept_in_its_order() -> None:
    rng = np.random.default_rng(0)
    logits = (5 * rng.normal(size=(500, 7))).astype(np.float32)
    margin = SCORES["margin"].score(logits).astype(np.float64)
    expected = np.log((1 + margin) / (1 - margin))
    assert log_margin(logits) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # where float32 has no digits left for it, the order is still there
    sure = np.array([[40.0, 0.0], [60.0, 0.0]], np.float32)
    assert list(log_margin(sure)) == pytest.approx([40 + 0.0, 60 + 0.0], abs=0.01)


def test_what_is_packed_is_read_again(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "two_heads.parquet"
    with pytest.raises(FileNotFoundError, match=r"routers\.py heads"):
        appealnet.pack([pair], tmp_path, file)
    assert appealnet.read(pair, file) == {}
    keep(tmp_path, pair, arms_of(pair))
    appealnet.pack([pair], tmp_path, file)
    found = appealnet.read(pair, file)
    assert list(found) == list(arms.ARMS)
    places = pair.of(*pairs.UNSEEN)
    assert np.array_equal(found["plain"].right, pair.student_right[places])
    # the frozen trunk's answers are the pair's own, and stand there already
    assert np.array_equal(found["frozen"].right, pair.student_right[places])
    assert np.array_equal(found["white"].right, (pair.labels[places] == 0).astype(np.int64))
    assert found["plain"].trust is None
    trust = found["black"].trust
    assert trust is not None
    assert set(trust) == {-2.0, 2.0}
    assert np.abs(found["plain"].margin - log_margin(pair.logits[places])).max() <= 1 / 128
    assert appealnet.read(replace(pair, name="unheard-of"), file) == {}


def test_a_file_loses_no_pair_that_it_has(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "two_heads.parquet"
    keep(tmp_path, pair, arms_of(pair))
    appealnet.pack([pair], tmp_path, file)
    other = replace(pair, name="tiny-2")
    keep(tmp_path, other, arms_of(other))
    with pytest.raises(FileNotFoundError, match="tiny-1: in .*not finished"):
        appealnet.pack([other], tmp_path, file)
    appealnet.pack([pair, other], tmp_path, file)
    assert appealnet.read(other, file)


def test_acc_i_counts_from_the_plain_student(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "two_heads.parquet"
    keep(tmp_path, pair, arms_of(pair))
    appealnet.pack([pair], tmp_path, file)
    found = list(appealnet.lines(pair, 0, file))
    assert [row["router"] for row in found] == [one.name for one in (*CONTENDERS, *BLACK_BOX)]
    by_name = {row["router"]: row for row in found}
    plain, head = by_name["margin, further epochs"], by_name["head, joint (Eq. 9)"]
    # the head knows every error, so k appeals mend k rows; from its own accuracy to the accuracy
    # that is three quarters of the way from the *plain* student to the teacher
    wanted = plain["student"] + 0.75 * (1 - plain["student"])
    rows = np.ceil((wanted - head["student"]) * TEST_ROWS - 1e-9)
    assert head["appeals_for_acc_i_75"] == pytest.approx(max(0, rows) / TEST_ROWS)
    assert head["auroc"] == 1
    assert by_name["margin of that student"]["auroc"] == 0.5
    assert plain["difference"] == [0, 0, 0]
    difference, low, high = head["difference"]
    assert difference == pytest.approx(head["area"] - plain["area"])
    assert low <= difference <= high


def test_a_student_that_lost_more_than_its_appeals_win_never_gets_there() -> None:
    # half right, the teacher right on one more row: three of four at most
    own, teacher = np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0])
    curve = deferral_curve(np.array([4.0, 3.0, 2.0, 1.0]), own, teacher)
    assert appeals_for(curve, 0.5) == 0
    assert appeals_for(curve, 0.75) == 0.5
    assert appeals_for(curve, 0.76) is None


def test_tables_say_what_a_head_saves() -> None:
    def line(name: str, rate: float | None, kind: str = "two-head") -> dict[str, Any]:
        shares = {f"appeals_for_acc_i_{share}": rate for share in SHARES}
        return {
            "pair": "p", "seed": 0, "router": name, "kind": kind, "student": 0.8, "teacher": 0.9,
            "macs": [1_000_000, 10_000_000], "difference": [0.0, 0.0, 0.0], "area": 0.85,
            "auroc": 0.7, "accuracy_at_5": 0.81, "accuracy_at_10": 0.82, "accuracy_at_20": 0.84,
        } | shares  # fmt: skip

    margin, head, black = CONTENDERS[0].name, CONTENDERS[2].name, BLACK_BOX[1].name
    rows = [
        line(margin, 0.4), line(head, 0.1), line(margin, 0.4, "black box"),
        line(black, 0.5, "black box"),
    ]  # fmt: skip
    # 1 + .4 · 10 = 5 million MACs and 1 + .1 · 10 = 2: appealed inputs cost edge and cloud
    assert "5.0/2.0 (+60.0 %)" in list(appealnet_tables.costs(rows))[1]
    assert "40.00/50.00 (-25.0 %)" in list(appealnet_tables.black_box(rows))[1]
    rows[1] = line(head, None)
    assert "5.0 / -" in list(appealnet_tables.costs(rows))[1]
    assert len(list(appealnet_tables.areas(rows))) == 3


def test_without_the_images_no_student_is_trained(pair: Pair, tmp_path: Path) -> None:
    pair.about["data"] = "mnist"
    (told,) = one_head.trained(pair, tmp_path)
    assert "is not there" in told


def test_an_arm_is_a_student_with_its_answers() -> None:
    labels = np.array([0, 1])
    arm: Arm = appealnet.arm_of(np.array([[2, 0], [3, 0]], np.float32), None, labels)
    assert list(arm.right) == [1, 0]
    assert arm.margin[0] < arm.margin[1]
