"""How long students train, and on how much: steps, whatever the rows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.job.spec import JobSpec, make_spec
from search.preparation.prepared import recipe_of
from search.space.training_plan import FULL_STEPS, PROXY_STEPS, TrainingPlan, training_plan


def job(**numbers: Any) -> JobSpec:
    values = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x", "augment": "shift"}
    return make_spec(values | {"views": 0, "mix": "none"} | numbers)


def plan(rows: int, classes: int = 10, **numbers: Any) -> TrainingPlan:
    return training_plan(job(**numbers), rows, classes)


# rows → batch of a full training, its epochs, steps and patience; epochs and steps of a proxy
WORKED = {
    # ⌈300 / 32⌉ = 10 steps an epoch: 2,500 · 32 / 300 = 266.7 epochs; 300 · 32 / 300 = 32
    300: (32, 267, 2670, 89, 32, 320),
    # 32 steps an epoch: 2,500 · 32 / 1,000 = 80 epochs; 300 · 32 / 1,000 = 9.6
    1_000: (32, 80, 2560, 27, 10, 320),
    # from 2,500 rows on batches of 64: 2,500 · 64 / 5,000 = 32 epochs of 79 steps; the proxy has
    # 3,000 rows, 94 steps an epoch: 3.2 epochs
    5_000: (64, 32, 2528, 11, 4, 376),
    # from 15,000 on 128: 6.4 epochs would do, but every row is seen 12 times
    50_000: (128, 12, 4692, 8, 4, 376),
}


@pytest.mark.parametrize("rows", WORKED)
def test_worked_by_hand(rows: int) -> None:
    found = plan(rows)
    assert WORKED[rows] == (
        found.batch_size,
        found.final_epochs,
        found.full_steps,
        found.patience,
        found.proxy_epochs,
        found.proxy_steps,
    )
    assert found.proxy_rows == min(rows, 3_000)
    assert found.proxy_batch_size == 32
    assert found.learning_rate == 0.005


def test_more_classes_take_more_steps_and_more_rows() -> None:
    # √(1,000 / 10) = 10 times the steps, and 100 rows of each class up to 20,000 of them
    many = plan(50_000, classes=1_000)
    assert (many.proxy_rows, many.proxy_epochs) == (20_000, 5)  # ⌈300 · 10 · 32 / 20,000⌉
    assert many.final_epochs == 64  # 2,500 · 10 · 128 / 50,000
    assert plan(50_000, classes=100).proxy_rows == 10_000
    # two classes are no easier than ten
    assert plan(50_000, classes=2) == plan(50_000, classes=10)


def test_numbers_that_the_job_names_stand() -> None:
    named = plan(
        5_000,
        proxy_rows=100,
        proxy_epochs=1,
        final_epochs=2,
        batch_size=50,
        learning_rate=0.1,
        patience=0,
    )
    assert named == TrainingPlan(5_000, 100, 1, 50, 2, 50, 0.1, 0, "shift", 0)
    # one alone leaves the others to what follows from it: ⌈300 · 50 / 3,000⌉
    assert plan(5_000, batch_size=50).proxy_epochs == 5
    assert plan(5_000, final_epochs=90).patience == 30
    # more rows than there are cannot be had
    assert plan(5_000, proxy_rows=9_000).proxy_rows == 5_000


@given(st.integers(2, 200_000), st.integers(2, 1_000))
def test_whatever_the_rows_there_are_steps_enough_to_learn(rows: int, classes: int) -> None:
    found = plan(rows, classes)
    assert found.proxy_steps >= PROXY_STEPS
    assert found.full_steps >= FULL_STEPS
    assert found.proxy_rows <= rows
    # a batch has never more rows than a proxy where there are any to fill it
    assert found.proxy_batch_size <= found.batch_size
    # a proxy is not longer than what it stands for
    assert found.proxy_epochs * found.proxy_rows <= found.final_epochs * found.rows
    assert found.patience <= max(8, found.final_epochs)


@given(st.integers(2, 199_999), st.integers(2, 1_000))
def test_a_row_more_never_shortens_a_training_by_more_than_an_epoch(
    rows: int, classes: int
) -> None:
    one, more = plan(rows, classes), plan(rows + 1, classes)
    if one.batch_size == more.batch_size:
        assert 0 <= one.final_epochs - more.final_epochs <= 1 + one.final_epochs // rows


def test_longer_proxies_end_where_the_full_training_does() -> None:
    short = plan(300)
    assert short.lengthened(3).proxy_epochs == 96
    assert short.lengthened(3).lengthened(3).proxy_epochs == 267  # not 288
    assert short.lengthened(3).final_epochs == short.final_epochs
    # 12 epochs of 50,000 rows are 200 of 3,000
    assert plan(50_000).lengthened(99).proxy_epochs == 200
    # a job whose own numbers say otherwise keeps its proxies
    odd = plan(300, proxy_epochs=9, final_epochs=2)
    assert odd.lengthened(3) == odd


def test_it_says_what_it_chose() -> None:
    assert str(plan(1_000)) == (
        "proxies: 320 steps (10 epochs of 1,000 rows, batch 32); full trainings: up to 2,560 steps "
        "(80 epochs of 1,000 rows, batch 32); rate 0.005, augmentation shift"
    )
    assert str(plan(1_000, views=7)).endswith("augmentation shift in 7 views")


def test_images_are_mirrored_where_the_teacher_is_as_right_about_them() -> None:
    auto = job(augment="auto")
    assert training_plan(auto, 1_000, 10, mirrored=True).augment == "flip_shift"
    assert training_plan(auto, 1_000, 10, mirrored=False).augment == "shift"
    # what the job names stands, whatever the teacher says
    assert training_plan(job(augment="none"), 1_000, 10, mirrored=True).augment == "none"


def test_recipes_follow_the_plan() -> None:
    spec = job(augment="flip_shift", ema=0.9)
    found = training_plan(spec, 50_000, 10)
    proxy, full = (recipe_of(spec, found, proxy=proxy) for proxy in (True, False))
    assert (proxy.epochs, proxy.batch_size, proxy.learning_rate) == (4, 32, 0.005)
    assert (full.epochs, full.batch_size, full.learning_rate) == (12, 128, 0.005)
    # a proxy is as it ends: neither its best epoch nor an average, and all of its epochs
    assert (proxy.keep_best, proxy.ema, proxy.patience, proxy.augment) == (False, 0.0, 0, "none")
    assert (full.keep_best, full.ema, full.patience, full.augment) == (True, 0.9, 8, "flip_shift")


def test_few_rows_are_patched_in_as_many_views_as_the_teacher_is_asked_about() -> None:
    few = plan(1_000, mix="auto")
    assert (few.cutmix, few.views) == (True, 16)  # 16,000 questions
    assert plan(233, mix="auto").views == 64  # and no more
    assert plan(1_000, mix="auto", views=5).views == 5
    assert str(few).endswith("augmentation shift with cutmix in 16 views")


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [(2_500, {}), (1_000, {"loss": "similarity"}), (1_000, {"augment": "none"})],
)
def test_others_are_patched_only_where_the_job_says_so(rows: int, numbers: dict[str, Any]) -> None:
    left = plan(rows, mix="auto", **numbers)
    assert (left.cutmix, left.views) == (False, 0)
    assert plan(rows, mix="cutmix", **numbers).cutmix
    assert not plan(300, mix="none").cutmix
