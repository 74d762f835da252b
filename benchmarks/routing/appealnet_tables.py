"""AppealNet's Tables I and II on our pairs, and what its heads do for a pair, in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.routing.appealnet import (
    BLACK_JOINT,
    BLACK_MARGIN,
    CONTENDERS,
    JOINT,
    MARGIN,
    Contender,
)
from benchmarks.routing.contenders import Line
from benchmarks.routing.verdict import interval, mean
from routers.evaluation.intervals import SHARES
from routers.evaluation.metrics import Prices


def areas(lines: Sequence[Line]) -> Iterator[str]:
    """Area x 100 of every arm, and its lead over the margin with as many epochs."""
    yield (
        f"{'pair':<14}{'decides':<26} student   AUROC    area  less margin [95 %]          "
        "acc@5  acc@10  acc@20"
    )
    for pair in _pairs(lines):
        for contender in CONTENDERS:
            mine = _of(lines, pair, contender)
            if not mine:
                continue
            low, high = (100 * end for end in interval([line["difference"] for line in mine]))
            lead = 100 * float(np.mean([line["difference"][0] for line in mine]))
            told = f"{lead:+.3f} [{low:+.3f}, {high:+.3f}]" if contender != MARGIN else ""
            rates = "".join(
                f"{100 * mean(mine, f'accuracy_at_{rate}'):8.2f}" for rate in (5, 10, 20)
            )
            yield (
                f"{pair:<14}{contender.name:<26}{100 * mean(mine, 'student'):8.2f}"
                f"{mean(mine, 'auroc'):8.3f}{100 * mean(mine, 'area'):8.3f}  {told:<26}{rates}"
            )


def costs(lines: Sequence[Line]) -> Iterator[str]:
    """Table I: million MACs an input (Eq. 15), margin / AppealNet, and what the latter saves."""
    yield (
        f"{'pair':<14} accuracy: teacher/plain/AppealNet   MACs: teacher/student"
        + "".join(f"{f'at {share} % AccI':>28}" for share in SHARES)
    )
    for pair in _pairs(lines):
        plain, head = _of(lines, pair, MARGIN), _of(lines, pair, JOINT)
        if not (plain and head):
            continue
        edge, cloud = (macs / 1e6 for macs in plain[0]["macs"])
        prices = Prices(edge, cloud)
        cells = []
        for share in SHARES:
            rates = [_rate(of, share) for of in (plain, head)]
            cells.append(_pair_of([prices.edge + rate * prices.cloud for rate in rates], "9.1f"))
        accuracies = [mean(plain, "teacher"), mean(plain, "student"), mean(head, "student")]
        told = "/".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        yield (
            f"{pair:<14} {told:>35} {f'{cloud:.1f}/{edge:.2f}':>23}"
            + "".join(f"{cell:>28}" for cell in cells)
        )


def black_box(lines: Sequence[Line]) -> Iterator[str]:
    """Table II: appealing rates in %, margin / AppealNet, with a teacher that is always right."""
    yield (
        f"{'pair':<14} accuracy: plain/AppealNet"
        + "".join(f"{f'AR at {share} % AccI':>28}" for share in SHARES)
    )
    for pair in _pairs(lines):
        plain, head = _of(lines, pair, BLACK_MARGIN), _of(lines, pair, BLACK_JOINT)
        if not (plain and head):
            continue
        cells = [
            _pair_of([100 * _rate(of, share) for of in (plain, head)], "6.2f") for share in SHARES
        ]
        told = "/".join(f"{100 * mean(of, 'student'):.2f}" for of in (plain, head))
        yield f"{pair:<14} {told:>25}" + "".join(f"{cell:>28}" for cell in cells)


def _pair_of(values: Sequence[float], form: str) -> str:
    """Both, and by how much the second is the smaller; a dash where an accuracy is not reached."""
    margin, head = values
    if np.isnan(head) or np.isnan(margin):
        return " / ".join("-" if np.isnan(value) else f"{value:{form}}".strip() for value in values)
    return (
        f"{margin:{form}}/{head:{form}}".replace(" ", "") + f" ({100 * (1 - head / margin):+.1f} %)"
    )


def _rate(lines: Sequence[Line], share: int) -> float:
    """Mean appealing rate over the draws; nan where one of them never gets there."""
    rates = [line[f"appeals_for_acc_i_{share}"] for line in lines]
    return float("nan") if None in rates else float(np.mean(rates))


def _pairs(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line["pair"] for line in lines if line["kind"] == "two-head"))


def _of(lines: Sequence[Line], pair: str, contender: Contender) -> list[Line]:
    wanted = (pair, contender.kind, contender.name)
    return [line for line in lines if (line["pair"], line["kind"], line["router"]) == wanted]
