"""The report's plots: a function each, from plain rows to an SVG string.

The same input gives the same bytes: no date, ids salted by the plot's name. Colours are CSS
variables with the light theme's value as the fallback, so that a page can turn them dark and a
plot saved alone still has them. The hues are Okabe and Ito's, told apart by colour-blind readers;
marker shapes and line styles repeat what colour says.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from search.pareto import pareto_front
from search.record import CandidateRow, CurvePoints, LayerRow

# name → the colour of the light theme, which is what matplotlib draws with. All differ, because
# each is found again in the SVG by its value.
COLOURS = {
    "ink": "#22262b",
    "faint": "#8b929a",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#009e73",
    "purple": "#a8518a",
    "sky": "#3f9bd1",
    "wash": "#e4e8ec",
}
INK, FAINT, BLUE, ORANGE, GREEN, PURPLE, SKY, WASH = COLOURS.values()

_WIDTH = 5.8  # inches; a phone shows this at nine tenths of its text size
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": WASH,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def reward_plot(candidates: Sequence[CandidateRow], winner: int) -> str:
    """Reward of every candidate in order of evaluation, and the best so far."""
    with _style("reward"):
        figure, axes = _axes()
        done = [row for row in candidates if row.whole]
        failed = [row.number for row in candidates if row.accuracy is None]
        stopped = [row for row in candidates if row.status == "stopped"]
        rewards = [row.reward for row in done]
        _dots(axes, [(row.number, row.reward) for row in stopped],
              facecolors="none", edgecolors=FAINT, label="stopped early")  # fmt: skip
        axes.scatter(
            [row.number for row in done], rewards, s=20, color=SKY, label="candidate", zorder=3
        )
        if done:
            best = np.maximum.accumulate(rewards)
            axes.step([row.number for row in done], best, where="post", color=BLUE, lw=1.6,
                      label="best so far", zorder=2)  # fmt: skip
            _mark_winner(axes, [(r.number, r.reward) for r in done if r.number == winner])
            if min(rewards) > 0 and max(rewards) > 50 * min(rewards):
                axes.set_yscale("log")
        _mark_failed(axes, failed)
        axes.set_xlabel("candidate, in order of evaluation")
        axes.set_ylabel("reward (no unit)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len({row.number for row in candidates}) == 1:
            axes.set_xlim(candidates[0].number - 1, candidates[0].number + 1)
        _legend(figure)
        said = f"Reward of {len(candidates)} candidates; the winner is number {winner}."
        return _svg(figure, "reward", said)


def front_plot(
    candidates: Sequence[CandidateRow],
    winner: int,
    *,
    max_kb: float | None,
    least_accuracy: float | None,
    teacher_accuracy: float | None,
) -> str:
    """Validation accuracy against KB, with the Pareto front, the limits and the winner."""
    with _style("front"):
        figure, axes = _axes()
        # what was stopped early has no accuracy that compares with the others'
        done = [row for row in candidates if row.whole]
        points = [(row.kb, row.accuracy or 0.0) for row in done]
        kept = [p for p, row in zip(points, done, strict=True) if row.within_limits]
        broken = [p for p, row in zip(points, done, strict=True) if not row.within_limits]
        _dots(axes, kept, color=SKY, label="within the limits")
        _dots(axes, broken, facecolors="none", edgecolors=FAINT, label="outside the limits")
        front = [points[i] for i in pareto_front(points)]
        if front:
            axes.step(*_columns(front), where="post", color=GREEN, lw=1.6, label="Pareto front")
            axes.set_xscale("log")
        _mark_winner(axes, [p for p, row in zip(points, done, strict=True) if row.number == winner])
        if max_kb is not None:
            axes.axvline(max_kb, color=ORANGE, lw=1.2, ls="--", label="most KB allowed")
        if least_accuracy is not None:
            axes.axhline(least_accuracy, color=ORANGE, lw=1.2, ls=":", label="least accuracy")
        if teacher_accuracy is not None:
            axes.axhline(teacher_accuracy, color=PURPLE, lw=1.2, ls="-.", label="teacher")
        axes.set_xlabel("size of the student (KB, log scale)")
        axes.set_ylabel("accuracy on validation")
        _plain_log(axes)
        _percent(axes)
        _legend(figure)
        said = (
            f"Accuracy against KB of {len(done)} candidates, with the Pareto front of {len(front)}."
        )
        return _svg(figure, "front", said)


def layers_plot(layers: Sequence[LayerRow]) -> str:
    """KB of every layer in the teacher and in the student, top to bottom in execution order."""
    with _style("layers"):
        size = 9 if len(layers) <= 40 else 7
        figure, axes = _axes(width=9.5, height=1.3 + len(layers) * (0.24 if size == 9 else 0.16))
        place = np.arange(len(layers))
        # A log axis has no zero: removed layers end at the left edge, with a mark of their own.
        sizes = [kb for row in layers for kb in (row.kb_before, row.kb_after) if kb > 0]
        edge = min(sizes, default=1.0) / 2
        before = [max(row.kb_before, edge) for row in layers]
        after = [max(row.kb_after, edge) for row in layers]
        axes.hlines(place, after, before, color=FAINT, lw=1.6, zorder=1)
        axes.scatter(before, place, s=52, marker="o", facecolors="none", edgecolors=INK,
                     label="teacher", zorder=2)  # fmt: skip
        stay = [i for i, row in enumerate(layers) if not row.removed]
        gone = [i for i, row in enumerate(layers) if row.removed]
        axes.scatter([after[i] for i in stay], stay, s=26, color=BLUE, label="student", zorder=3)
        if gone:
            axes.scatter([edge] * len(gone), gone, s=34, marker="x", color=ORANGE, lw=1.6,
                         label="removed", zorder=3, clip_on=False)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(edge, max(sizes, default=1.0) * 1.6)
        axes.set_yticks(place, [_short(row.name) for row in layers], fontsize=size)
        axes.set_ylim(len(layers) - 0.4, -0.6)
        axes.set_xlabel("size of the layer (KB, log scale)")
        axes.grid(visible=True, axis="y", lw=0.5)
        _plain_log(axes)
        _legend(figure)
        said = f"KB of {len(layers)} layers in teacher and student; {len(gone)} were removed."
        return _svg(figure, "layers", said)


def deferral_plot(
    curves: Mapping[str, CurvePoints], router: str, point: tuple[float, float], part: str
) -> str:
    """The pair's accuracy against the appealing rate, and the point the threshold gives."""
    with _style("deferral"):
        figure, axes = _axes()
        fixed: dict[str, dict[str, Any]] = {
            "oracle": {"color": GREEN, "ls": "--", "lw": 1.4},
            "random": {"color": FAINT, "ls": ":", "lw": 1.6},
            router: {"color": BLUE, "ls": "-", "lw": 2.2},
        }
        others = iter([(PURPLE, "-."), (SKY, (0, (5, 1))), (ORANGE, (0, (3, 1, 1, 1)))] * 9)
        # The router is drawn last, on top, and named first.
        names = [name for name in curves if name != router]
        for name in [*names, *([router] if router in curves else [])]:
            if name in fixed:
                style = fixed[name]
            else:
                colour, dashes = next(others)
                style = {"color": colour, "ls": dashes, "lw": 1.3}
            axes.plot(*_thinned(curves[name]), label=name, **style)
        axes.plot(*point, marker="D", ms=8, color=ORANGE, ls="none", mec="none", zorder=5,
                  label="operating point")  # fmt: skip
        axes.set_xlim(-0.01, 1.01)
        axes.set_xlabel(f"appealing rate on {part} (share of inputs sent to the teacher)")
        axes.set_ylabel(f"accuracy of the pair on {part}")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        _percent(axes)
        _legend(figure)
        said = (
            f"Accuracy of the pair against appealing rate for {len(curves)} curves; "
            f"{router} works at {point[0] * 100:.1f} % appeals and {point[1] * 100:.2f} % accuracy."
        )
        return _svg(figure, "deferral", said)


def confusion_plot(confusion: Sequence[Sequence[int]], part: str) -> str:
    """How many rows the router trusts and appeals, by whether the student was right."""
    with _style("confusion"):
        figure, axes = _axes(height=3.0)
        total = max(1, sum(map(sum, confusion)))
        words = (("kept, rightly", "appealed in vain"), ("missed", "caught"))
        for row, column in np.ndindex(2, 2):
            count = confusion[row][column]
            colour = BLUE if row == column else ORANGE
            # From a tint for no rows to a third of the full colour, under ink that stays legible.
            axes.add_patch(Rectangle((column, row), 0.97, 0.96, color=colour, lw=0,
                                     alpha=0.08 + 0.3 * count / total))  # fmt: skip
            middle = (column + 0.485, row + 0.42)
            axes.annotate(f"{count:,}", middle, ha="center", va="center", fontsize=17)
            axes.annotate(f"{words[row][column]} · {count / total * 100:.1f} %",
                          (middle[0], row + 0.72), ha="center", va="center",
                          fontsize=9)  # fmt: skip
        axes.set(xlim=(0, 1.97), ylim=(1.96, 0))
        axes.set_xticks([0.485, 1.485], ["trusted", "appealed"])
        axes.set_yticks([0.48, 1.48], ["student\nright", "student\nwrong"])
        axes.set_xlabel(f"what the router decides (rows of {part})")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        (kept, vain), (missed, caught) = confusion
        said = (
            f"Student right: {kept} trusted, {vain} appealed. "
            f"Student wrong: {missed} trusted, {caught} appealed."
        )
        return _svg(figure, "confusion", said)


@contextmanager
def _style(name: str) -> Iterator[None]:
    with mpl.rc_context():
        settings: Any = {**_STYLE, "svg.hashsalt": name}
        mpl.rcParams.update(settings)
        yield


def _axes(width: float = _WIDTH, height: float = 3.7) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def _dots(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    if points:
        axes.scatter(*_columns(points), s=20, zorder=3, **style)


def _mark_winner(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    if points:
        axes.scatter(*_columns(points), s=130, marker="*", color=ORANGE, label="winner", zorder=5)


def _mark_failed(axes: Axes, numbers: Sequence[int]) -> None:
    """Failed candidates have no place on the axis of rewards: they stand at its foot."""
    if numbers:
        axes.scatter(numbers, [0.02] * len(numbers), s=26, marker="x", color=FAINT, lw=1.2,
                     transform=axes.get_xaxis_transform(), label="failed",
                     clip_on=False)  # fmt: skip


def _thinned(curve: CurvePoints, most: int = 400) -> tuple[list[float], list[float]]:
    rate, accuracy = np.asarray(curve[0]), np.asarray(curve[1])
    keep = np.unique(np.linspace(0, len(rate) - 1, min(most, len(rate))).round().astype(int))
    return rate[keep].tolist(), accuracy[keep].tolist()


def _percent(axes: Axes) -> None:
    """Accuracies in per cent, without room for more than 100, and never a flat axis."""
    low, high = axes.get_ylim()
    if high - low < 0.004:
        low, high = (low + high) / 2 - 0.002, (low + high) / 2 + 0.002
    high = min(high, 1.0 + (high - low) / 50)
    axes.set_ylim(low, high)
    decimals = 0 if high - low > 0.08 else 1 if high - low > 0.008 else 2
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=decimals, symbol=" %"))


def _plain_log(axes: Axes) -> None:
    """1, 10, 100 in place of 10⁰, 10¹, 10²; below two decades also 2 and 5 and their like."""
    low, high = axes.get_xlim()
    few = axes.get_xscale() == "log" and high / low < 100
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.10g}")


def _legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _svg(figure: Figure, name: str, said: str) -> str:
    """The drawing as one inline element: named, themed, without ids that could clash."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    used = set(re.findall(r"(?:url\(|href=\")#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    label = escape(said, quote=True)
    opening = f'<svg class="plot" data-plot="{name}" role="img" aria-label="{label}"'
    return text.replace("<svg", opening, 1).rstrip()
