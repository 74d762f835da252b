"""The pictures of a tuning: who wins over (C0, A0), along α : β, and where the candidates lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from search.analysis.tune import Tuning
from search.report.plot_style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    WASH,
    canvas,
    columns,
    legend,
    percent,
    plain_log,
    style,
    to_svg,
    write_plot,
)
from search.space.pareto import pareto_front

#: of regions that are not the target's, the largest first; what is left is grey
_HUES = (SKY, GREEN, PURPLE, BLUE)


def pictures(tuning: Tuning) -> dict[str, str]:
    """All of them by name, as SVG for a page."""
    return {name: _svg(tuning, name) for name in _PLOTS}


def _svg(tuning: Tuning, name: str) -> str:
    draw, said = _PLOTS[name]
    with style(name):
        return to_svg(draw(tuning), name, said(tuning))


def write_picture(tuning: Tuning, path: Path) -> None:
    """The map over (C0, A0) as a file of its own.

    Raises:
        BadInput: neither .svg nor .png, or the file cannot be written.
    """
    write_plot(path, "plane", _plane_said(tuning), lambda: _plane(tuning))


def _colours(tuning: Tuning) -> dict[int, str]:
    """Candidate → colour: the target's is orange, the largest regions have hues of their own."""
    others = [index for index in tuning.plane.chosen if index != tuning.best]
    found = dict.fromkeys(others, WASH) | dict(zip(others, _HUES, strict=False))
    return found | {tuning.best: ORANGE}


def _label(tuning: Tuning, index: int) -> str:
    candidates = tuning.standings.run.columns
    accuracy = tuning.standings.expected[index]
    return f"{index + 1}: {candidates.kb[index]:,.1f} KB, {accuracy * 100:.2f} %"


def _plane(tuning: Tuning) -> Figure:
    figure, axes = canvas(width=7.0, height=4.6)
    plane, kb = tuning.plane, tuning.standings.run.facts.kb
    sizes = np.maximum((1 - plane.c0) * kb, 1e-9)
    colours = _colours(tuning)
    x, y = _edges(np.log(sizes)), _edges(plane.a0)
    for index in plane.chosen:
        target = index == tuning.best
        cells = list(_boxes(plane.winners == index, np.exp(x), y))
        hue = colours[index]
        axes.add_collection(
            PolyCollection(cells, facecolors=hue, lw=0, alpha=0.9 if target else 0.55)
        )
    named = [index for index in plane.chosen if colours[index] != WASH]
    named.sort(key=lambda index: (index != tuning.best, plane.chosen.index(index)))
    handles = [
        Patch(color=colours[i], label=("target " if i == tuning.best else "") + _label(tuning, i))
        for i in named
    ]
    if len(named) < len(plane.chosen):
        handles.append(Patch(color=WASH, label=f"{len(plane.chosen) - len(named)} others"))
    setting = tuning.setting or tuning.nearest
    assert setting is not None
    words = "this selects the target" if tuning.setting else "nearest setting"
    (mark,) = axes.plot((1 - setting["c0"]) * kb, setting["a0"], marker="D", ms=8, color=INK,
                        mec=WASH, ls="none", label=words)  # fmt: skip
    axes.set_xscale("log")
    axes.set(xlim=(np.exp(x[0]), np.exp(x[-1])), ylim=(y[0], y[-1]))
    axes.set_xlabel("C₀, as the size of a student that just meets it (KB, log scale)")
    axes.set_ylabel("A₀")
    axes.grid(visible=False)
    plain_log(axes)
    percent(axes)
    figure.legend(handles=[*handles, mark], loc="outside lower center", ncols=2)
    return figure


def _edges(middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders of cells around ascending middles."""
    inner = (middles[1:] + middles[:-1]) / 2
    first, last = 2 * middles[0] - inner[0], 2 * middles[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])


def _boxes(
    mask: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> Iterator[list[tuple[float, float]]]:
    """Rectangles that cover a region: the same run of cells in successive rows is one of them."""
    open_runs: dict[tuple[int, int], int] = {}  # columns → the row that it began in
    for row in range(len(mask) + 1):
        cells = mask[row].astype(int) if row < len(mask) else np.zeros(mask.shape[1], int)
        steps = np.flatnonzero(np.diff(np.concatenate([[0], cells, [0]])))
        runs = {(int(start), int(stop)) for start, stop in steps.reshape(-1, 2)}
        for start, stop in [run for run in open_runs if run not in runs]:
            low, high = y[open_runs.pop((start, stop))], y[row]
            yield [(x[start], low), (x[stop], low), (x[stop], high), (x[start], high)]
        for run in runs:
            open_runs.setdefault(run, row)


def _line(tuning: Tuning) -> Figure:
    figure, axes = canvas()
    kb = tuning.standings.run.columns.kb
    axes.step(tuning.ratios, kb[tuning.line], where="mid", color=BLUE, lw=1.8, label="winner")
    _shade(axes, tuning)
    axes.axhline(kb[tuning.best], color=ORANGE, lw=1.2, ls="--", label="target's KB")
    setting = tuning.setting or tuning.nearest
    assert setting is not None
    ratio = setting["alpha"] / max(setting["beta"], 1e-9)
    if tuning.ratios[0] <= ratio <= tuning.ratios[-1]:
        axes.axvline(ratio, color=INK, lw=1.2, ls=":", label="setting")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:,.10g}")
    axes.yaxis.set_minor_formatter(lambda value, position: "")
    axes.set_xlabel("α : β (log scale), at the C₀ and A₀ of the setting")
    axes.set_ylabel("size of the winner (KB, log scale)")
    plain_log(axes)
    legend(figure)
    return figure


def _shade(axes: Axes, tuning: Tuning) -> None:
    """Where along α : β the target wins."""
    edges = np.exp(_edges(np.log(tuning.ratios)))
    steps = np.diff(np.concatenate([[0], (tuning.line == tuning.best).astype(int), [0]]))
    for number, (start, stop) in enumerate(np.flatnonzero(steps).reshape(-1, 2)):
        label = "target wins" if number == 0 else None
        axes.axvspan(edges[start], edges[stop], color=ORANGE, alpha=0.25, lw=0, label=label)


def _cloud(tuning: Tuning) -> Figure:
    figure, axes = canvas()
    run, expected = tuning.standings.run, tuning.standings.expected
    rows = np.flatnonzero(run.columns.whole)
    points = list(zip(run.columns.kb[rows], expected[rows], strict=True))
    axes.scatter(*columns(points), s=18, facecolors="none", edgecolors=FAINT, label="candidate")
    axes.step(*columns([points[i] for i in pareto_front(points)]), where="post", color=GREEN,
              lw=1.4, label="Pareto front")  # fmt: skip
    chosen = tuning.plane.chosen
    axes.scatter(run.columns.kb[chosen], expected[chosen], s=26, color=BLUE,
                 label="wins somewhere on the map", zorder=3)  # fmt: skip
    axes.scatter(run.columns.kb[tuning.best], expected[tuning.best], s=130,
                 marker="*", color=ORANGE, label="target", zorder=5)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("size of the student (KB, log scale)")
    axes.set_ylabel("expected accuracy on validation")
    plain_log(axes)
    percent(axes)
    legend(figure)
    return figure


def _plane_said(tuning: Tuning) -> str:
    share = tuning.plane.share(tuning.best)
    return f"Who wins over C0 and A0; the target has {share:.0%} of the map."


def _line_said(tuning: Tuning) -> str:
    return f"Size of the winner over {len(tuning.ratios)} ratios of alpha to beta."


def _cloud_said(tuning: Tuning) -> str:
    return f"{int(tuning.standings.run.columns.whole.sum())} candidates; the target is marked."


#: name → how it is drawn, and what it says to those who do not see it
_PLOTS = {
    "plane": (_plane, _plane_said),
    "line": (_line, _line_said),
    "cloud": (_cloud, _cloud_said),
}
