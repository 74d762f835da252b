"""The pictures: how searches rise, what they are worth, and what samplers say of themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.play import BUDGET, MARKS, Search
from benchmarks.quality.score import Scores, intervals
from benchmarks.quality.table import Table
from benchmarks.quality.task import Task

mpl.use("Agg")
from matplotlib import pyplot as plt

#: a picture's width and height, inches, per panel
PANEL = (5.2, 4.0)


def curves(searches: Sequence[Search], scored: Scores, file: Path, title: str) -> None:
    """Left, the incumbent's log-reward as searches saw it; right, what it is worth."""
    figure, (left, right) = _panels(2)
    styles = _styles(scored.of)
    for name, style in styles.items():
        rise = np.array([_filled(search.logs) for search in searches if search.sampler == name])
        rise = (rise - scored.floor) / ((scored.optimum - scored.floor) or 1.0)
        _band(left, np.arange(1, BUDGET + 1), rise, name, style)
        middle, low, high = _drawn(scored.of[name])
        ends = np.array([middle - low, high - middle])
        shift = 1 + 0.012 * (list(styles).index(name) - len(styles) / 2)
        right.errorbar([m * shift for m in MARKS], middle, ends, label=name, capsize=2, **style)
    left.set(
        xlabel="candidates distilled", ylabel="incumbent, as the search saw it", ylim=(-1, 1.2)
    )
    right.set(xlabel="candidates distilled", ylabel="incumbent, judged again", xscale="log")
    right.set_xticks(MARKS, [str(mark) for mark in MARKS])
    right.minorticks_off()
    left.axhline(1, color="grey", linewidth=0.5)
    right.axhline(1, color="grey", linewidth=0.5)
    right.legend(fontsize="x-small")
    _save(figure, file, title)


def diagnosis(searches: Sequence[Search], file: Path, title: str) -> None:
    """What samplers say of themselves, and how often they repeat themselves."""
    values: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for search in searches:
        for what, said in search.told.items():
            for count, value in said:
                values[what][search.sampler][count].append(value)
    names = sorted({search.sampler for search in searches})
    figure, panels = _panels(1 + len(values))
    shares = [
        [s.duplicates / max(1, s.proposals) for s in searches if s.sampler == name]
        for name in names
    ]
    panels[0].barh(names, [float(np.mean(share)) for share in shares])
    panels[0].set(xlabel="share of proposals that are duplicates")
    styles = _styles(names)
    for panel, (what, of) in zip(panels[1:], sorted(values.items()), strict=True):
        for name, by_count in of.items():
            counts = sorted(by_count)
            means = [float(np.nanmean(by_count[count])) for count in counts]
            panel.plot(counts, means, label=name, **styles[name])
        panel.set(xlabel="candidates distilled", ylabel=what.replace("_", " "))
        panel.legend(fontsize="x-small")
    _save(figure, file, title)


def noise(table: Table, task: Task, reward: str, file: Path) -> dict[str, float]:
    """Two trainings of one candidate, and what a search sees against what it is judged by.

    Gives the standard deviation of one training's log-reward and Spearman's ρ between two, of all
    candidates that were judged and of the best tenth of them.
    """
    from scipy import stats

    ratio = 1 - table.bytes / table.bytes[-1]
    one, two = (task.judged.log(reward, again, ratio) for again in table.again)
    seen = task.searched.log(reward, table.accuracy, ratio)
    first, second = np.isnan(table.again)
    known = ~first & ~second
    one, two, seen = one[known], two[known], seen[known]
    top = (one + two) >= np.quantile(one + two, 0.9)
    figure, panels = _panels(2)
    pairs = (one, two, "judged, seed 1", "judged, seed 2"), (seen, (one + two) / 2, "seen", "worth")
    for panel, (x, y, across, up) in zip(panels, pairs, strict=True):
        panel.plot(x[~top], y[~top], ".", markersize=2, label="judged again")
        panel.plot(x[top], y[top], ".", markersize=3, label="their best tenth")
        panel.set(xlabel=f"log-reward, {across}", ylabel=f"log-reward, {up}")
        panel.legend(fontsize="x-small")
    _save(figure, file, "Noise of a candidate's log-reward")
    found = {}
    for name, part in (("judged", known[known]), ("best_tenth", top)):
        found[f"{name}_sd"] = float(np.std(one[part] - two[part]) / np.sqrt(2))
        found[f"{name}_rank_correlation"] = float(stats.spearmanr(one[part], two[part]).statistic)
        found[f"{name}_seen_rank_correlation"] = float(
            stats.spearmanr(seen[part], (one + two)[part]).statistic
        )
    return {name: round(value, 4) for name, value in found.items()}


def _styles(names: Any) -> dict[str, dict[str, Any]]:
    colours = [plt.get_cmap("tab10")(place) for place in range(10)]
    marks = ("-", "--", ":")
    return {
        name: {"color": colours[place % 10], "linestyle": marks[place // 10]}
        for place, name in enumerate(sorted(names))
    }


def _filled(logs: Sequence[float]) -> list[float]:
    """A search that ended early keeps its incumbent."""
    return [*logs, *[logs[-1]] * (BUDGET - len(logs))]


def _band(panel: Any, x: NDArray[Any], rise: NDArray[Any], name: str, style: Any) -> None:
    middle, low, high = _drawn(rise)
    panel.plot(x, middle, label=name, **style)
    panel.fill_between(x, low, high, color=style["color"], alpha=0.15)


def _drawn(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Mean and interval of values of shape (seeds, x), of no width where it is endless."""
    middle, low, high = intervals([values.T])
    endless = np.isinf(low)
    return middle, np.where(endless, middle, low), np.where(endless, middle, high)


def _panels(count: int) -> tuple[Any, Any]:
    columns = min(count, 3)
    rows = -(-count // columns)
    size = PANEL[0] * columns, PANEL[1] * rows
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for panel in panels.flat[count:]:
        panel.remove()
    return figure, panels.flat[:count]


def _save(figure: Any, file: Path, title: str) -> None:
    figure.suptitle(title)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
