"""A student of the digits learns how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import fx, nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from envs.compression.surgery import load
from envs.fx_import.trace import trace
from teachers.data.datasets import Dataset
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.distill import distil
from teachers.distillation.recipe import Recipe
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.networks.small_cnn import SmallCNN
from teachers.two_head.head_fitting import Study, fit_head, study
from teachers.two_head.joint_training import JointTraining
from teachers.two_head.two_head import TwoHead, answer
from teachers.two_head.two_head_recipe import WAYS, TwoHeadRecipe, Way
from teachers.two_head.two_head_training import BetaTrial, Judge, TwoHeadOutcome, fit_two_head

LEARNT = np.arange(700)
WITHHELD = np.arange(700, 1200)
EXAM = np.arange(1200, 1450)
UNSEEN = np.arange(1450, 1797)
SHORT = Recipe(epochs=1, batch_size=64, learning_rate=1e-3, precision="fp32")

Made = tuple[fx.GraphModule, DistillationSet, DistillationSet, ValidationSet]


def auroc(score: NDArray[Any], right: NDArray[Any]) -> float:
    """How often a row that is right outscores one that is wrong; ties count one half."""
    pairs = score[right][:, None] - score[~right][None, :]
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)


@pytest.fixture(scope="module")
def made(digits_teacher: nn.Module, digits: Dataset, grey8: Preprocess) -> Made:
    """A student after a short distillation, what it learnt from, withheld rows, and the exam."""

    def distillation_set(rows: NDArray[np.int64]) -> DistillationSet:
        said = predict(digits_teacher, digits.images, grey8, rows=rows)
        return DistillationSet(
            digits.images, rows, digits.labels[rows], said.logits[None], None, grey8
        )

    torch.manual_seed(0)
    module = SmallCNN(channels=1, classes=10, widths=(6, 8, 8, 12))
    student = load(trace(module, (1, 8, 8)), module.state_dict())
    learnt = distillation_set(LEARNT)
    distil(student, None, learnt, Recipe(epochs=3, batch_size=64, precision="fp32"), seed=0)
    return (
        student,
        learnt,
        distillation_set(WITHHELD),
        ValidationSet(digits.images, EXAM, digits.labels[EXAM]),
    )


@pytest.fixture(scope="module")
def judge(digits: Dataset) -> Judge:
    """How well scores rank the student's errors on the exam's rows."""
    return lambda score, logits: auroc(score, logits.argmax(1) == digits.labels[EXAM])


def _fit(made: Made, judge: Judge, recipe: TwoHeadRecipe, **options: Any) -> TwoHeadOutcome:
    student, learnt, _, validation_set = made
    return fit_two_head(student, "fc", learnt, validation_set, judge, recipe, seed=3, **options)


@pytest.mark.parametrize("way", WAYS)
def test_the_head_ranks_errors_on_rows_that_nobody_has_seen(
    way: Way, made: Made, judge: Judge, digits: Dataset, grey8: Preprocess
) -> None:
    recipe = TwoHeadRecipe(ways=(way,), betas=(0.1, 1.0), joint=SHORT, most_drop=0.05)
    outcome = _fit(made, judge, recipe)
    assert [(trial.way, trial.beta) for trial in outcome.trials] == [(way, 0.1), (way, 1.0)]
    assert outcome.chosen.merit == max(trial.merit for trial in outcome.trials)
    assert not outcome.fell_back
    assert not outcome.network.training
    said = answer(outcome.network, digits.images, grey8, rows=UNSEEN)
    right = said.logits.argmax(1) == digits.labels[UNSEEN]
    assert 20 < np.sum(~right) < 150
    assert auroc(said.score, right) > 0.6
    # the network is the one whose figures are told
    again = answer(outcome.network, digits.images, grey8, rows=EXAM)
    assert np.mean(again.logits.argmax(1) == digits.labels[EXAM]) == outcome.chosen.accuracy
    assert judge(again.score, again.logits) == pytest.approx(outcome.chosen.merit, abs=1e-3)


def test_a_frozen_trunk_leaves_every_logit_to_the_bit(
    made: Made, judge: Judge, digits: Dataset, grey8: Preprocess
) -> None:
    outcome = _fit(made, judge, TwoHeadRecipe(ways=("frozen",), betas=(0.3,)))
    assert outcome.chosen.accuracy == outcome.accuracy_before
    said = answer(outcome.network, digits.images, grey8, rows=UNSEEN)
    plain = predict(made[0], digits.images, grey8, rows=UNSEEN).logits
    np.testing.assert_array_equal(said.logits, plain)


def test_joint_training_moves_both_and_leaves_the_student_alone(
    made: Made, judge: Judge, digits: Dataset, grey8: Preprocess
) -> None:
    before = {name: value.clone() for name, value in made[0].state_dict().items()}
    outcome = _fit(made, judge, TwoHeadRecipe(betas=(1.0,), joint=SHORT, most_drop=1.0))
    assert outcome.chosen.way == "joint"
    assert "trained along" in outcome.note
    moved = outcome.network.student_weights()
    assert not torch.equal(moved["conv1.weight"], before["conv1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in made[0].state_dict().items())


def test_a_student_that_loses_too_much_is_left_frozen(made: Made, judge: Judge) -> None:
    # β = 1e6: the features are bent until every row is trusted, whatever becomes of the classes
    brisk = replace(SHORT, learning_rate=0.02)
    assert not _fit(made, judge, TwoHeadRecipe(betas=(1.0,), joint=brisk)).fell_back
    outcome = _fit(made, judge, TwoHeadRecipe(betas=(1e6,), joint=brisk))
    spoilt, kept = outcome.trials
    assert (spoilt.way, kept.way) == ("joint", "frozen")
    assert spoilt.accuracy < outcome.accuracy_before - 0.003
    assert outcome.fell_back
    assert outcome.chosen is kept
    assert "frozen" in outcome.note
    assert "lost more" in outcome.note
    for name, value in outcome.network.student_weights().items():
        assert torch.equal(value, made[0].state_dict()[name])


def test_a_training_that_diverges_does_not_count(made: Made, judge: Judge) -> None:
    hopeless = replace(SHORT, learning_rate=1e30)
    outcome = _fit(made, judge, TwoHeadRecipe(betas=(0.3,), joint=hopeless))
    assert "not finite" in outcome.trials[0].reason
    assert math.isnan(outcome.trials[0].accuracy)
    assert outcome.fell_back
    again = BetaTrial.restore(Checkpoint.from_bytes(outcome.trials[0].save().to_bytes()))
    assert again.reason == outcome.trials[0].reason


def test_of_equal_drops_the_judge_decides(made: Made) -> None:
    merits = iter([0.2, 0.7, math.nan, 0.7])
    outcome = _fit(
        made,
        lambda score, logits: next(merits),
        TwoHeadRecipe(ways=("frozen",), betas=(0.01, 0.1, 1.0, 3.0)),
    )
    # the first of equals; what has no merit is never chosen
    assert outcome.chosen.beta == 0.1


def test_a_search_that_was_interrupted_ends_the_same(made: Made, judge: Judge) -> None:
    recipe = TwoHeadRecipe(betas=(0.1, 1.0), ways=("frozen", "joint"), joint=SHORT)
    told: list[bytes] = []

    def stop_after(count: int) -> Callable[[BetaTrial], None]:
        def keep(trial: BetaTrial) -> None:
            told.append(trial.save().to_bytes())
            if len(told) == count:
                raise KeyboardInterrupt

        return keep

    with pytest.raises(KeyboardInterrupt):
        _fit(made, judge, recipe, on_trial=stop_after(3))
    earlier = [BetaTrial.restore(Checkpoint.from_bytes(content)) for content in told]
    made_later: list[BetaTrial] = []
    resumed = _fit(made, judge, recipe, earlier=earlier, on_trial=made_later.append)
    assert [(trial.way, trial.beta) for trial in made_later] == [("joint", 1.0)]
    whole = _fit(made, judge, recipe)
    assert [t.merit for t in resumed.trials] == [t.merit for t in whole.trials]
    state = whole.network.state_dict()
    assert all(torch.equal(v, state[name]) for name, v in resumed.network.state_dict().items())


def test_a_joint_training_can_be_gone_on_with_after_any_epoch(made: Made) -> None:
    student, learnt, _, _ = made
    recipe = replace(SHORT, epochs=2)

    def training() -> JointTraining:
        return JointTraining(TwoHead(student, "fc"), learnt, recipe, beta=0.3, seed=1)

    with training() as whole:
        whole.run_epoch()
        content = whole.save().to_bytes()
        whole.run_epoch()
        whole.finish()
    with training() as second:
        second.restore(Checkpoint.from_bytes(content))
        second.run_epoch()
        second.finish()
    state = whole.student.state_dict()
    assert all(torch.equal(v, state[name]) for name, v in second.student.state_dict().items())


class TestRowsOfTheHead:
    def test_a_frozen_head_learns_from_other_rows(self, made: Made, judge: Judge) -> None:
        recipe = TwoHeadRecipe(ways=("frozen",), betas=(0.3,))
        here = _fit(made, judge, recipe).network
        there = _fit(made, judge, recipe, head_lesson=made[2]).network
        assert not torch.equal(here.head.weight, there.head.weight)
        assert torch.equal(here.state_dict()["fc.weight"], there.state_dict()["fc.weight"])

    def test_after_a_joint_training_the_head_is_fitted_anew(self, made: Made, judge: Judge) -> None:
        recipe = TwoHeadRecipe(betas=(0.3,), joint=SHORT, most_drop=1.0)
        network = _fit(made, judge, recipe, head_lesson=made[2]).network
        fresh = nn.Linear(12, 1)
        fit_head(fresh, study(network, made[2], "none", False), 0.3)
        torch.testing.assert_close(network.head.weight, fresh.weight)
        # and of the student nothing has seen them: fewer such rows, the same student to the bit
        other = _fit(made, judge, recipe, head_lesson=made[2].part(np.arange(100))).network
        assert not torch.equal(other.head.weight, network.head.weight)
        for name, value in other.student_weights().items():
            assert torch.equal(value, network.state_dict()[name])


def _groups(rows: int, excess: tuple[float, float]) -> Study:
    """Two kinds of row, told apart by one feature of two; a third of them of the first kind."""
    second = np.arange(rows) % 3 > 0
    features = np.stack([np.where(second, 5.0, 3.0), np.full(rows, 7.0)], 1).astype(np.float32)
    loss = np.where(second, excess[1], excess[0]) + 0.25
    teacher = torch.full((rows,), 0.25)
    return Study(features, torch.from_numpy(loss.astype(np.float32)), teacher)


class TestHead:
    def test_finds_the_best_q_of_each_kind_of_row(self) -> None:
        # β / g is .4 / 2 = .2 for the first kind, .4 / .5 = .8 for the second
        on = _groups(300, (2.0, 0.5))
        assert on.excess == pytest.approx(1.0)  # (2 + 2 · .5) / 3
        head = nn.Linear(2, 1)
        fit_head(head, on, beta=0.4)
        q = torch.sigmoid(head(torch.tensor([[3.0, 7.0], [5.0, 7.0]]))[:, 0])
        assert q.tolist() == pytest.approx([0.2, 0.8], abs=0.02)

    def test_with_nothing_to_see_it_says_one_q_for_all(self) -> None:
        # β over the mean excess loss, .4 / 1
        on = _groups(300, (2.0, 0.5))
        blind = replace(on, features=np.ones_like(on.features))
        head = nn.Linear(2, 1)
        fit_head(head, blind, beta=0.4)
        q = torch.sigmoid(head(torch.ones(1, 2)))
        assert q.item() == pytest.approx(0.4, abs=1e-3)

    def test_more_beta_is_more_trust_and_the_same_order(self) -> None:
        on = _groups(300, (2.0, 0.5))
        trusts = []
        for beta in (0.0, 1e-3, 0.1, 0.4, 3.0, 1e6):
            head = nn.Linear(2, 1)
            fit_head(head, on, beta)
            first, second = head(torch.tensor([[3.0, 7.0], [5.0, 7.0]]))[:, 0].tolist()
            assert first < second
            trusts.append(first)
        assert trusts == sorted(trusts)
        assert np.isfinite(trusts).all()

    def test_a_teacher_that_is_no_better_is_asked_nothing(self) -> None:
        head = nn.Linear(2, 1)
        fit_head(head, _groups(300, (-0.2, -0.1)), beta=0.1)
        q = torch.sigmoid(head(torch.tensor([[3.0, 7.0], [5.0, 7.0]]))[:, 0])
        assert q.min().item() > 0.95


def test_a_study_takes_each_view_with_what_was_said_of_it(made: Made) -> None:
    student, learnt, _, _ = made
    some = learnt.part(np.arange(40))
    draws = np.stack([np.zeros((40, 2)), np.ones((40, 2))]).astype(np.int16)
    logits = np.concatenate([some.logits, 2 * some.logits])
    on = study(TwoHead(student, "fc"), replace(some, logits=logits, draws=draws), "shift", False)
    assert on.features.shape == (80, 12)
    assert on.teacher_loss is not None
    for view in (0, 1):
        images = AUGMENTS["shift"].apply(some.images[some.rows], draws[view])
        part = slice(40 * view, 40 * view + 40)
        seen = predict(student, images, some.preprocess, tap="fc")
        np.testing.assert_array_equal(on.features[part], seen.features)
        expected = nn.functional.cross_entropy(
            torch.from_numpy(logits[view]), torch.from_numpy(some.labels), reduction="none"
        )
        torch.testing.assert_close(on.teacher_loss[part], expected)
    assert study(TwoHead(student, "fc"), some, "none", True).teacher_loss is None


def test_betas_come_in_units_of_the_excess_loss(made: Made, judge: Judge) -> None:
    excess = study(TwoHead(made[0], "fc"), made[1], "none", False).excess
    trials = _fit(made, judge, TwoHeadRecipe(ways=("frozen",))).trials
    expected = [share * excess for share in (0.1, 0.3, 1.0, 3.0)]
    assert [trial.beta for trial in trials] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"betas": ()}, "betas"),
        ({"betas": (0.1, -1.0)}, "betas"),
        ({"betas": (math.nan,)}, "betas"),
        ({"ways": ()}, "ways"),
        ({"ways": ("both",)}, "frozen, joint"),
        ({"most_drop": -0.1}, "most_drop"),
    ],
)
def test_a_recipe_refuses_what_cannot_work(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        TwoHeadRecipe(**change)
