"""What a folder or a file is called that holds a split: train, validation or test."""

from __future__ import annotations

import re
import unicodedata

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

_STEMS = {
    TRAIN: ("train", "training", "trn", "trainval", "trainvalid"),
    VALIDATION: ("validation", "validate", "valid", "val", "development", "devel", "dev"),
    TEST: ("test", "testing", "tst", "evaluation", "eval", "holdout", "heldout"),
}
# As in "TrainingSet", "test_images" and "val2017".
_KINDS = "sets?|data|datasets?|images?|imgs?|pictures?|pics?|photos?|samples?|split|folder|dir"
_WORD = {
    stem: split for split, stems in _STEMS.items() for stem in sorted(stems, key=len, reverse=True)
}
_PATTERN = re.compile(rf"({'|'.join(_WORD)})(?:{_KINDS})?\d*")
_FILLER = re.compile(rf"(?:{_KINDS}|the|of|for|\d+)\d*")


def split_of(name: str) -> str | None:
    """The split that ``name`` says, in any case and spelling, or None: "Training_Set" → "train".

    Other words may stand beside it, as in "cifar10_test". A name that says two splits says none,
    but what is trained and validated on, "train_val", has been trained on.
    """
    said = {_split(word) for word in _words(name)} - {None}
    if said == {TRAIN, VALIDATION}:
        return TRAIN
    return said.pop() if len(said) == 1 else None


def is_bare(name: str) -> bool:
    """Whether ``name`` says a split and nothing else: "train" does, "train_extra" does not."""
    words = _words(name)
    return split_of(name) is not None and all(_split(w) or _FILLER.fullmatch(w) for w in words)


def _split(word: str) -> str | None:
    found = _PATTERN.fullmatch(word)
    return _WORD[found[1]] if found else None


def _words(name: str) -> list[str]:
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)  # TrainSet
    return re.findall(r"[^\W_]+", text.casefold())
