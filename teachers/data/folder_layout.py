"""Where the class folders of every split lie in a folder of images, as it was unzipped.

Splits stand above the classes (``Train/cat``), below them (``cat/train``), in a folder of their own
once more (``seg_train/seg_train/cat``), or below a single folder that the archive made. A folder is
taken for a split by its name *and* by what it holds, because a railway data set has a class
"train".
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import BadInput
from teachers.data.listing import LOOSE, LeftOut, holds_pictures, own_pictures, subfolders
from teachers.data.split_names import SPLITS, TRAIN, is_bare, split_of

#: split → its classes, (name, folder) each, sorted by name
Layout = dict[str, list[tuple[str, Path]]]

NO_SPLIT = "folders that are no split"
NO_LABELS = "splits without class folders, so without labels"


def layout_of(root: Path, left: LeftOut) -> Layout:
    """The class folders of every split there is; "train" is always there.

    Raises:
        BadInput: two folders are the same split, or splits hold pictures that no class folder
            labels.
    """
    top = _entered(root, left)
    splits = _splits(top, left)
    if splits is None:
        return _below_classes(top, left)
    found: Layout = {}
    for split, folder in splits.items():
        inner = _entered(folder, left)
        classes = subfolders(inner, left)
        loose = own_pictures(inner, left)
        if any(map(holds_pictures, classes)):
            found[split] = [(path.name, path) for path in classes]
            for path in loose:
                left.add(LOOSE, path)
        elif loose:
            left.add(NO_LABELS, folder)
    if TRAIN not in found:
        raise _no_classes(list(splits.values()))
    return found


def _entered(folder: Path, left: LeftOut) -> Path:
    """``folder``, or the only folder in it that holds pictures, as deep as there is but one.

    One class is no data set, so a single folder is never a class.
    """
    while True:
        if own_pictures(folder, LeftOut(folder)):
            return folder
        holding = [path for path in subfolders(folder, LeftOut(folder)) if holds_pictures(path)]
        if len(holding) != 1 or not _holding(holding[0]):
            return folder
        for other in subfolders(folder, left):
            if other != holding[0]:
                left.add(NO_SPLIT, other)
        folder = holding[0]


def _splits(top: Path, left: LeftOut) -> dict[str, Path] | None:
    """The folder of every split, or None where the folders of ``top`` are classes."""
    holding = [path for path in subfolders(top, left) if holds_pictures(path)]
    named = [path for path in holding if split_of(path.name)]
    splits = {split_of(path.name) for path in named}
    if TRAIN not in splits or not _are_splits(named, holding):
        return None
    chosen: dict[str, Path] = {}
    for split in SPLITS:
        candidates = [path for path in named if split_of(path.name) == split]
        bare = [path for path in candidates if is_bare(path.name)]
        candidates = bare or candidates
        if len(candidates) > 1:
            raise BadInput(
                f"two folders are the {split} split",
                value=", ".join(path.name for path in candidates),
                bound="one folder for every split",
                remedy="Move one of them elsewhere, or put the pictures of both into one.",
            )
        if candidates:
            chosen[split] = candidates[0]
    for path in subfolders(top, left):
        if path not in chosen.values():
            left.add(NO_SPLIT, path)
    for path in own_pictures(top, left):
        left.add(LOOSE, path)
    return chosen


def _are_splits(named: list[Path], holding: list[Path]) -> bool:
    """Whether folders that are named like splits are splits, not classes.

    Raises:
        BadInput: they are splits without class folders.
    """
    train = [path for path in named if split_of(path.name) == TRAIN]
    others = len(holding) - len(named)
    several = len({split_of(path.name) for path in named}) > 1
    if any(_of_classes(path) for path in train):
        # a class "train" of a railway has pictures, or stands among many others
        return several or others < 2
    if several and not others:
        raise _no_classes(named)
    return False


def _no_classes(splits: list[Path]) -> BadInput:
    return BadInput(
        "the splits have no class folders",
        value=", ".join(path.name for path in splits) + " with pictures in them",
        bound="a folder for every class in every split",
        remedy="Sort the pictures of every split into folders named by their classes.",
    )


def _of_classes(folder: Path) -> bool:
    """Whether the pictures of ``folder`` lie in folders of its own, not in itself."""
    inner = _entered(folder, LeftOut(folder))
    return not own_pictures(inner, LeftOut(inner)) and bool(_holding(inner))


def _holding(folder: Path) -> list[Path]:
    return [path for path in subfolders(folder, LeftOut(folder)) if holds_pictures(path)]


def _below_classes(top: Path, left: LeftOut) -> Layout:
    """Classes that are divided into splits themselves, or whole classes as the training split."""
    classes = subfolders(top, left)
    for path in own_pictures(top, left):
        left.add(LOOSE, path)
    holding = [path for path in classes if holds_pictures(path)]
    inner = {path: _holding(path) for path in holding}
    if not holding or not all(
        inner[path]
        and all(split_of(part.name) and is_bare(part.name) for part in inner[path])
        and not own_pictures(path, LeftOut(path))
        for path in holding
    ):
        return {TRAIN: [(path.name, path) for path in classes]}
    found: Layout = {split: [] for split in SPLITS}
    for path in holding:
        for part in inner[path]:
            found[str(split_of(part.name))].append((path.name, part))
    if not found[TRAIN]:
        return {TRAIN: [(path.name, path) for path in classes]}
    return {split: parts for split, parts in found.items() if parts}
