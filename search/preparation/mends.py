"""Why a teacher may be wrong about data that it knows: the usual causes, each tried.

A class order, a mean and std or a channel order that is not the one the teacher was trained with
costs it most of its accuracy, and nothing in a file can tell. So the teacher is asked once more
about a sample of rows under each of them, and what mends it is named with the JSON to write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from edge.preprocess import Preprocess
from teachers.data.source import Images

Rows = NDArray[np.int64]
#: pixels N×H×W×C and how they are prepared → logits N×K
Ask = Callable[[Images, Preprocess], NDArray[np.float32]]

#: a mend lifts the accuracy by at least this much, and beyond what chance does
LEAST_GAIN, LEAST_ODDS = 0.1, 1e-3
#: beyond so many classes an assignment takes gigabytes
MOST_CLASSES = 2000
#: rows that each way of preparing images is tried on, as time permits, and the seconds for all
MOST_ROWS, LEAST_ROWS, SECONDS = 256, 48, 10.0
#: outputs whose new names are written out in a message
SHOWN = 20

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: what networks are trained with, as mean and std of pixels from 0 to 1; several for grey images
KNOWN: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "pixels from 0 to 1": ((0.0,), (1.0,)),
    "ImageNet's mean and std": IMAGENET,
    "pixels from -1 to 1": ((0.5,), (0.5,)),
    "pixels from 0 to 255": ((0.0,), (1 / 255,)),
    "ImageNet's mean, pixels from 0 to 255": (IMAGENET[0], (1 / 255,)),
    "MNIST's mean and std": ((0.1307,), (0.3081,)),
    "CIFAR-10's mean and std": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}

OWN = "the data's own mean and std"


@dataclass(frozen=True)
class Mend:
    """What makes a teacher right.

    Attributes:
        cause: "class order", "mean and std" or "channel order".
        words: what it is, to follow "with".
        remedy: what to do, in sentences.
        before: its accuracy on the rows that were tried.
        accuracy: with the mend.
        rows: their number.
        json: keys of the teacher's JSON that mend it.
    """

    cause: str
    words: str
    remedy: str
    before: float
    accuracy: float
    rows: int
    json: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> str:
        """The finding in one sentence, and the remedy."""
        return (
            f"With {self.words} it is right on {self.accuracy:.1%} of {self.rows:,} rows instead "
            f"of {self.before:.1%}. {self.remedy}"
        )


def class_order(
    logits: NDArray[np.floating[Any]], labels: Rows, names: tuple[str, ...], *, named: bool
) -> Mend | None:
    """The order of classes in which the teacher's outputs stand, where it is not the labels'.

    Found by the assignment of outputs to labels that agrees most; believed where an assignment
    found on one half of the rows holds on the other.

    Args:
        logits: N×K.
        labels: N.
        names: of the labels' classes.
        named: whether the data have names, so that those in the JSON are mapped to them.
    """
    told, classes = logits.argmax(1), logits.shape[1]
    if classes > MOST_CLASSES:
        return None
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    right = told == labels
    mended = np.zeros(len(labels), bool)
    for part in (half, ~half):
        order = _assigned(told[part], labels[part], classes)
        mended[~part] = order[told[~part]] == labels[~part]
    if not _better(right, mended):
        return None
    order = _assigned(told, labels, classes)
    written = [names[label] for label in order]
    moved = np.flatnonzero(order != np.arange(classes))
    if written == sorted(names):
        words = "its outputs in the alphabetical order of the classes' names"
    elif written == list(reversed(names)):
        words = "its outputs in the reverse order of the classes"
    else:
        pairs = [f"output {i} as {names[order[i]]!r}" for i in moved[:4]]
        words = ", ".join(pairs) + (" and so on" if len(moved) > 4 else "")
    listed = written if classes <= SHOWN else [*written[:SHOWN], "…"]
    spelled = '"class_names": [' + ", ".join(f'"{name}"' for name in listed) + "]"
    remedy = (
        f"Write {spelled} in the teacher's JSON."
        if named
        else "Renumber the labels, or the teacher's outputs: output by output its classes are "
        f"the labels {[int(label) for label in order[:SHOWN]]}{'…' if classes > SHOWN else ''}."
    )
    return Mend(
        "class order",
        words,
        remedy,
        float(right.mean()),
        float((order[told] == labels).mean()),
        len(labels),
        {"class_names": written} if named else {},
    )


def _assigned(told: Rows, labels: Rows, classes: int) -> Rows:
    """Output → label, one to one, that agrees with most rows; in doubt an output stays."""
    agreed = np.zeros((classes, classes))
    np.add.at(agreed, (told, labels), 2.0)
    agreed[np.diag_indices(classes)] += 1
    found: Rows = linear_sum_assignment(-agreed)[1].astype(np.int64)
    return found


def preparation(
    ask: Ask, images: Images, labels: Rows, preprocess: Preprocess, order: str = "RGB"
) -> Mend | None:
    """The mean and std, or the order of colours, that the teacher was trained with.

    Args:
        ask: the teacher; is called a dozen times, within about :data:`SECONDS`.
        images: some rows' pixels, uint8 N×H×W×C, in random order.
        labels: N.
        preprocess: what the teacher's JSON says.
        order: of the colours, as its JSON says.
    """
    start = time.monotonic()
    few = min(len(labels), LEAST_ROWS)
    right = _right(ask, images[:few], labels[:few], preprocess)
    spent = time.monotonic() - start
    ways = list(_ways(images, preprocess, order))
    rows = min(len(labels), MOST_ROWS, max(few, int(few * SECONDS / (spent + 1e-6) / len(ways))))
    images, labels = images[:rows], labels[:rows]
    if rows > few:
        rest = _right(ask, images[few:], labels[few:], preprocess)
        right = np.concatenate([right, rest])
    found = [
        (way, float(mended.mean()))
        for way in ways
        if _better(right, mended := _right(ask, way.turned(images), labels, way.preprocess))
    ]
    if not found:
        return None
    way, accuracy = max(found, key=lambda pair: pair[1] - pair[0].doubt)
    keys = ", ".join(f'"{key}": {_spelled(value)}' for key, value in way.json.items())
    return Mend(
        way.cause,
        way.words,
        f"Write {keys} in the teacher's JSON." if keys else way.remedy,
        float(right.mean()),
        accuracy,
        rows,
        way.json,
    )


@dataclass(frozen=True)
class _Way:
    """One way to prepare images."""

    cause: str
    words: str
    preprocess: Preprocess
    json: Mapping[str, Any]
    swapped: bool = False
    inverted: bool = False
    remedy: str = ""
    #: accuracy by which it has to be ahead of likelier ways
    doubt: float = 0.0

    def turned(self, images: Images) -> Images:
        """Pixels with the colours the other way round, or dark and bright."""
        images = images[..., ::-1] if self.swapped else images
        return 255 - images if self.inverted else images


def _ways(images: Images, preprocess: Preprocess, order: str) -> Iterator[_Way]:
    channels = preprocess.channels
    other = "RGB" if order == "BGR" else "BGR"
    coloured = channels == 3 and bool((images[..., 0] != images[..., 2]).any())
    if coloured:
        # mean and std in a JSON stand in the order of the network's channels, and so stay
        words = f"the channels as {other}"
        yield _Way("channel order", words, preprocess, {"channel_order": other}, swapped=True)
    known = {words: _widened(*pair, channels) for words, pair in KNOWN.items()}
    pixels = images.reshape(-1, channels) / 255
    own = [tuple(float(v) for v in f(0)) for f in (pixels.mean, pixels.std)]
    known[OWN] = own[0], tuple(max(v, 1e-3) for v in own[1])
    for swapped in (False, True) if coloured else (False,):
        for words, (mean, std) in known.items():
            if (mean, std) == (preprocess.mean, preprocess.std):
                continue
            if not swapped:
                changed = replace(preprocess, mean=mean, std=std)
                doubt = 0.01 if words == OWN else 0.0
                yield _Way("mean and std", words, changed, _json(mean, std, order), doubt=doubt)
                continue
            flipped = replace(preprocess, mean=mean[::-1], std=std[::-1])
            told, keys = f"{words} and the channels as {other}", _json(mean, std, other)
            keys = {"channel_order": other} | keys
            yield _Way("channel order", told, flipped, keys, swapped=True, doubt=0.02)
    yield _Way(
        "mean and std",
        "dark and bright exchanged (255 - pixel)",
        preprocess,
        {},
        inverted=True,
        remedy="Invert the images, or train the teacher on images as these are.",
    )


def _json(mean: tuple[float, ...], std: tuple[float, ...], order: str) -> dict[str, Any]:
    """Keys of a JSON, where numbers stand in the order of the network's channels."""
    step = -1 if order == "BGR" else 1
    return {"mean": [*map(_short, mean[::step])], "std": [*map(_short, std[::step])]}


def _widened(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The same for so many channels: repeated for more, averaged for fewer."""

    def fit(values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) == channels:
            return values
        return (float(np.mean(values)),) * channels

    return fit(mean), fit(std)


def _right(ask: Ask, images: Images, labels: Rows, preprocess: Preprocess) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = ask(np.ascontiguousarray(images), preprocess).argmax(1) == labels
    return found


def _better(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether it gains enough on the same rows, and more than a coin would (sign test)."""
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if won <= lost or (won - lost) < LEAST_GAIN * len(before):
        return False
    odds: float = binomtest(won, won + lost, 0.5, alternative="greater").pvalue
    return odds < LEAST_ODDS


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _spelled(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
