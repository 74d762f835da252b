"""Ranking anew, by hand: a teacher of 1,000 KB and 90 %, and three candidates.

number   KB     C     A
1        100   .90   .88
2         50   .95   .85
3         20   .98   .70
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from edge.files import write_bytes
from search.analysis.rerank import rerank, why
from search.analysis.rerank_plot import equal_reward, write_picture
from search.analysis.scored_trials import Run, read_run, standings
from search.report.plot_style import canvas
from teachers.distillation.checkpoint import Checkpoint
from tests.search.runs import candidate, invented_run, run_of

THREE = [(100, 0.88), (50, 0.85), (20, 0.70)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return invented_run(tmp_path_factory.mktemp("runs") / "run", THREE)


def winner(run: Run, **given: object) -> int:
    return rerank(run, given).after.winner + 1


def test_the_thresholds_of_the_default_choose(run: Run) -> None:
    # as it ran: C0 = .95, A0 = .89. Exponents: 1: 20·(−.05) + 15·(−.01) = −1.15;
    # 2: 0 + 15·(−.04) = −.6; 3: 2·.03 + 15·(−.19) = −2.79
    found = rerank(run, {})
    assert [int(i) for i in found.after.order] == [1, 0, 2]
    exponents = [math.log(found.after.rewards[i]) for i in range(3)]
    assert exponents == pytest.approx([-1.15, -0.6, -2.79])
    assert not found.changed
    # C0 lowered to .85, all keep it: 1: 2·.05 − .15 = −.05; 2: 2·.1 − .6 = −.4
    assert winner(run, c0=0.85) == 1
    # A0 lowered to .6, all keep it: 1: −1 + 1.5·.28; 2: 0 + 1.5·.25 = .375;
    # 3: 2·.03 + 1.5·.1 = .21; and with C0 = .98, 2 loses 20·.03 = .6
    assert winner(run, a0=0.6) == 2
    assert winner(run, a0=0.6, c0=0.98) == 3


def test_limits_give_thresholds_unless_they_are_named(run: Run) -> None:
    found = rerank(run, {"max_kb": 60, "max_drop": 0.25}).after
    assert found.reward.settings["c0"] == pytest.approx(0.94)
    assert found.reward.settings["a0"] == pytest.approx(0.65)
    assert [int(i) for i in found.order] == [1, 2]  # 100 KB are too many
    assert rerank(run, {"max_kb": 60, "c0": 0.5}).after.reward.settings["c0"] == 0.5


def test_under_the_paper_thresholds_do_nothing_and_it_says_so(run: Run) -> None:
    paper = rerank(run, {"reward": "paper"})
    assert any("cancel out of the order" in line for line in paper.result()["why"])
    for c0 in (0.0, 0.95, 1.0):
        other = rerank(run, {"reward": "paper", "c0": c0, "a0": 1 - c0}).after
        assert other.order.tolist() == paper.after.order.tolist()


def test_it_says_which_threshold_binds_and_what_the_next_best_lacks(run: Run) -> None:
    said = rerank(run, {"c0": 0.85}).result()["why"]
    assert said[0].startswith("C0 is met: the winner's 100.0 KB keeps 150.0 KB")
    assert "0.1 × 20 = 2 only" in said[0]
    assert said[1].startswith("A0 binds: the winner's expected 88.00% misses 89.00%")
    # from 2 to 1: size 2·(.05 − .10), accuracy 15·.03
    assert said[2] == (
        "candidate 1 overtakes 2: -0.100 for its size and +0.450 for its expected accuracy, "
        "in the logarithm of the reward"
    )
    # candidate 2 lacks .35 in the exponent: 15·(A − .85) = .35 gives A = .87333; by size alone
    # it would have to win 2·(C − .95) = .35, more than the .05 that are left
    assert said[3] == (
        "next is candidate 2 (50.0 KB, expected 85.00%): it would need 87.33% (+2.33 points)"
    )


def test_only_what_was_trained_to_the_end_may_win(tmp_path: Path) -> None:
    records = [
        candidate(1, 50, 0.5),
        candidate(2, 50, 0.9, pruned=True),
        candidate(3, 50, 0.0, reason="out of memory"),
    ]
    found = rerank(run_of(tmp_path / "run", records), {}).after
    assert found.order.tolist() == [0]
    assert found.rewards[2] == 0
    nobody = run_of(tmp_path / "nobody", records[1:])
    with pytest.raises(BadInput, match="no candidate was trained to the end"):
        rerank(nobody, {})


def test_of_equals_the_first_wins_as_in_a_search(tmp_path: Path) -> None:
    assert winner(invented_run(tmp_path / "run", [(40, 0.8), (50, 0.85), (50, 0.85)])) == 2


def test_a_limit_that_nobody_keeps_names_one_that_somebody_does(run: Run) -> None:
    with pytest.raises(BadInput, match="can be that small: got --max-kb 5; expected 20 KB or more"):
        rerank(run, {"max_kb": 5})
    assert winner(run, max_kb=20.0) == 3
    with pytest.raises(BadInput, match="got --max-macs 5; expected 20000 MACs or more"):
        rerank(run, {"max_macs": 5})
    assert winner(run, max_macs=20_000) == 3


def test_every_limit_on_cost_is_kept(tmp_path: Path, run: Run) -> None:
    # as it ran 2 wins with 50,000 multiply-accumulates
    found = rerank(run, {"max_macs": 49_999})
    assert found.after.order.tolist() == [2]
    assert any("2, with 50.0 KB and 50,000 MACs, is beyond" in said for said in why(found))
    small_and_slow = [candidate(1, 10, 0.8, macs=900), candidate(2, 90, 0.8, macs=100)]
    with pytest.raises(BadInput, match="all limits .* at once: got --max-kb 50 --max-macs 500"):
        rerank(run_of(tmp_path / "run", small_and_slow), {"max_kb": 50, "max_macs": 500})


def test_rewards_are_of_what_the_full_training_should_reach(run: Run) -> None:
    """It sees 16 times the images: with a gain of ½, b = ¼.

    Errors of .12, .15 and .30, over the teacher's .1, come down to .1 · 1.2^¼ = .1047,
    .1 · 1.5^¼ = .1107 and .1 · 3^¼ = .1316. Exponents, at C0 = .95 and A0 = .89:
    1: −1 + 1.5·.0053 = −.992; 2: 15·(−.0007) = −.01; 3: 2·.03 + 15·(−.0216) = −.264.
    """
    found = rerank(run, {"proxy_gain": 0.5})
    assert found.after.expected == pytest.approx([0.89534, 0.88933, 0.86839], abs=1e-5)
    assert found.before.order.tolist() == [1, 0, 2]
    assert found.after.order.tolist() == [1, 2, 0]
    row = found.after.row(2)
    assert (row["accuracy"], row["drop"]) == (0.70, pytest.approx(0.9 - 0.86839, abs=1e-5))
    assert any("expected 88.93% misses 89.00%" in said for said in why(found))


def test_who_trained_for_less_has_more_to_come(tmp_path: Path) -> None:
    records = [candidate(1, 50, 0.7), candidate(2, 40, 0.7, pruned=True, epochs=1)]
    found = rerank(run_of(tmp_path / "run", records, proxy_gain=0.5), {}).after
    assert found.expected[1] > found.expected[0] > 0.7


def test_milliseconds_are_left_out_and_it_says_so(tmp_path: Path, run: Run) -> None:
    timed = invented_run(tmp_path / "run", THREE, max_ms=2.0, gamma=5.0)
    found = rerank(timed, {})
    assert found.after.rewards.tolist() == rerank(run, {}).after.rewards.tolist()
    assert "does not know milliseconds" in why(found)[0]
    assert found.after.reward.settings.get("gamma", 0) == 0
    assert found.after.spec.gamma == 5  # what is made of it is a job on latency as before


def test_the_fastest_is_ordered_without_milliseconds_and_stays_the_target(tmp_path: Path) -> None:
    found = rerank(invented_run(tmp_path / "run", THREE, target="fastest"), {})
    assert found.after.spec.target == "fastest"
    assert "does not know milliseconds" in why(found)[0]
    # accuracy below the drop counts as where the fastest is sought
    assert found.after.reward.settings["beta"] == 300
    assert found.after.reward.settings["rho"] == 0.01


def test_under_accuracy_alone_weights_do_nothing_and_it_says_so(tmp_path: Path) -> None:
    timed = invented_run(tmp_path / "run", THREE, target="accurate")
    found = rerank(timed, {"alpha": 100.0, "beta": 1.0})
    assert found.after.order.tolist() == found.before.order.tolist() == [0, 1, 2]
    said = why(found)
    assert "accuracy alone" in said[0]
    assert said[-1] == "next is candidate 2 (50.0 KB, 85.00%): 3.00 points behind"
    # a threshold that can be met lets size count
    assert rerank(timed, {"a0": 0.6, "alpha": 100.0}).after.winner != 0
    gone = rerank(timed, {"max_kb": 60})
    assert "beyond the limits" in "".join(why(gone))


def test_n2n_has_nothing_that_binds(run: Run) -> None:
    # C·(2 − C)·A: .99·.88 = .871; .9975·.85 = .848; .9996·.70 = .700
    found = rerank(run, {"reward": "n2n"})
    assert found.after.order.tolist() == [0, 1, 2]
    assert "no weights and no thresholds" in found.result()["why"][0]
    assert "c0" not in found.result()["after"]


def test_what_was_measured_after_the_full_training_stands_beside_it(tmp_path: Path) -> None:
    run = invented_run(tmp_path / "run", THREE)
    run.folder.write_result({"finalists": [{"key": "key2", "kb": 50.0, "accuracy": 0.87}]})
    found = rerank(read_run(str(run.folder.root)), {}).after
    assert [found.row(i)["measured"] for i in range(3)] == [None, 0.87, None]


def test_the_order_is_that_of_the_last_round(tmp_path: Path) -> None:
    """The surer of two that were trained in full is first, and nobody untrained before it."""
    run = invented_run(tmp_path / "run", THREE, target="accurate")
    run.folder.trained.mkdir()
    for key, accuracy, entropy in (("key2", 0.87, 0.5), ("key3", 0.86, 0.4)):
        meta = {"accuracy": accuracy, "cross_entropy": entropy}
        content = Checkpoint({"w": np.zeros(3, np.float32)}, meta).to_bytes()
        write_bytes(run.folder.trained / f"{key}.safetensors", content)
    # 500 rows: .87 − .894 · .1 < .86; candidate 1 is expected at .88, which no training reached
    found = rerank(read_run(str(run.folder.root)), {}).after
    assert [int(i) + 1 for i in found.order] == [3, 1, 2]
    assert found.expected.tolist() == pytest.approx([0.87, 0.87, 0.86])


def test_so_does_what_an_unfinished_run_has_trained_in_full(tmp_path: Path) -> None:
    run = invented_run(tmp_path / "run", THREE)
    for key, accuracy in (("key1", 0.86), ("key2", 0.5)):
        content = Checkpoint({"w": np.zeros(3, np.float32)}, {"accuracy": accuracy}).to_bytes()
        write_bytes(run.folder.trained / f"{key}.safetensors", content)
    write_bytes(run.folder.trained / "other.safetensors", b"of another program")
    assert read_run(str(run.folder.root)).measured == {"key1": 0.86, "key2": 0.5}
    # the finished run's word is the last
    run.folder.write_result({"finalists": [{"key": "key2", "kb": 50.0, "accuracy": 0.87}]})
    assert read_run(str(run.folder.root)).measured == {"key1": 0.86, "key2": 0.87}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": -1}, "'alpha' of the job cannot be used: got -1"),
        ({"reward": "odd"}, "unknown reward: got 'odd'"),
        ({"c0": 1.5}, "'c0' of the job cannot be used"),
    ],
)
def test_values_are_checked_as_in_a_job(run: Run, given: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rerank(run, given)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_winner_has_the_highest_reward_of_a_search(
    run: Run, alpha: float, beta: float, c0: float, a0: float, rho: float
) -> None:
    spec = run.spec.model_copy(
        update={"alpha": alpha, "beta": beta, "c0": c0, "a0": a0, "rho": rho}
    )
    found = standings(run, spec)
    rewards = [found.reward(a, 1 - kb / 1000) for kb, a in THREE]
    assert rewards[found.winner] == pytest.approx(max(rewards), rel=1e-9)


def test_the_picture_names_both_winners_and_the_thresholds_in_sight(
    run: Run, tmp_path: Path
) -> None:
    # C0 = .94 is 60 KB, A0 = .65 lies below all candidates
    found = rerank(run, {"max_kb": 60, "max_drop": 0.25, "c0": 0.96})
    for name, start in (("map.svg", b"<svg"), ("map.png", b"\x89PNG")):
        write_picture(found, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    drawn = (tmp_path / "map.svg").read_text()
    assert found.before.winner != found.after.winner
    assert "winner before: 2, 50.0 KB, 85.00 %" in drawn
    assert "winner now: 3, 20.0 KB, 70.00 %" in drawn
    assert "beyond the limits" in drawn  # candidate 1
    assert "C₀ now: 40.0 KB" in drawn
    assert "A₀ now" not in drawn
    with pytest.raises(BadInput, match="got .*map.gif; expected .svg or .png"):
        write_picture(found, tmp_path / "map.gif")
    assert not (tmp_path / "map.gif").exists()


def test_the_picture_of_what_stays_and_of_a_reward_without_thresholds(
    run: Run, tmp_path: Path
) -> None:
    write_picture(rerank(run, {}), tmp_path / "same.svg")
    drawn = (tmp_path / "same.svg").read_text()
    assert "winner stays: 2, 50.0 KB, 85.00 %" in drawn
    assert "winner before" not in drawn
    write_picture(rerank(run, {"reward": "paper"}), tmp_path / "paper.svg")
    assert "₀ now" not in (tmp_path / "paper.svg").read_text()


def test_whoever_is_above_the_line_would_win(run: Run) -> None:
    found = rerank(run, {"c0": 0.85}).after
    assert found.winner == 0  # 100 KB at 88 %: −.05 in the exponent
    # 50 KB at 87.33 % earn as much (see above), so the line passes there and not beside it
    axes = canvas()[1]
    axes.set(xscale="log", xlim=(10, 200), ylim=(0.6, 0.95))
    (line,) = equal_reward(axes, found)
    for kb, accuracy in ((50, 0.8733), (100, 0.88)):
        nearest = line[np.abs(line[:, 0] - kb).argmin()]
        assert nearest[1] == pytest.approx(accuracy, abs=2e-3)
    assert found.expected[1] < 0.8733
