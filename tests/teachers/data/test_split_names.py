from __future__ import annotations

import pytest

from teachers.data.split_names import is_bare, split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Train TRAINING training_set TrainSet train2017 train-images seg_train"),
        ("train", "trainval train_val traindata ｔｒａｉｎ 01_train"),
        ("validation", "val Val VALID validation Validation_Set valset val2017 dev imagesVal"),
        ("test", "test Test TESTING testset test_images eval Evaluation seg-test cifar10_test"),
    ],
)
def test_any_case_and_spelling(split: str, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    "name", ["trains", "valley", "testament", "contest", "invalid", "device", "cat", "extra", ""]
)
def test_words_that_only_begin_like_a_split(name: str) -> None:
    assert split_of(name) is None


def test_two_splits_in_one_name_are_none() -> None:
    assert split_of("train_test") is None
    assert split_of("test-val") is None


def test_a_bare_name_says_nothing_else() -> None:
    assert [is_bare(name) for name in ("train", "Training Set", "val2017", "test_images")] == [
        True
    ] * 4
    assert [is_bare(name) for name in ("train_extra", "cifar10_test", "cat")] == [False] * 3
