"""The report's plots: a function each, from plain rows to an SVG string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from search.report.plot_style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    canvas,
    columns,
    dots,
    legend,
    percent,
    plain_log,
    style,
    to_svg,
)
from search.report.record import CandidateRow, CurvePoints, LayerRow
from search.space.pareto import hypervolume, pareto_front


def reward_plot(candidates: Sequence[CandidateRow], winner: int) -> str:
    """Reward of every candidate in order of evaluation, and the best so far."""
    with style("reward"):
        figure, axes = canvas()
        done = [row for row in candidates if row.whole]
        failed = [row.number for row in candidates if row.accuracy is None]
        stopped = [row for row in candidates if row.status == "stopped"]
        rewards = [row.reward for row in done]
        dots(axes, [(row.number, row.reward) for row in stopped],
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
        legend(figure)
        said = f"Reward of {len(candidates)} candidates; the winner is number {winner}."
        return to_svg(figure, "reward", said)


def front_plot(
    candidates: Sequence[CandidateRow],
    winner: int,
    *,
    max_kb: float | None,
    least_accuracy: float | None,
    teacher_accuracy: float | None,
    earlier: Sequence[tuple[float, float]] = (),
) -> str:
    """Validation accuracy against KB, with the Pareto front, the limits and the winner.

    It is the accuracy that is expected after the full training, where that is known. ``earlier``:
    KB and accuracy of what the search began with.
    """
    with style("front"):
        figure, axes = canvas()
        # what was stopped early has no accuracy that compares with the others'
        done = [row for row in candidates if row.whole]
        points = [(row.kb, row.shown or 0.0) for row in done]
        kept = [p for p, row in zip(points, done, strict=True) if row.within_limits]
        broken = [p for p, row in zip(points, done, strict=True) if not row.within_limits]
        dots(axes, earlier, marker="x", color=FAINT, lw=1, label="earlier runs")
        dots(axes, kept, color=SKY, label="within the limits")
        dots(axes, broken, facecolors="none", edgecolors=FAINT, label="outside the limits")
        front = [points[i] for i in pareto_front(points)]
        if front:
            axes.step(*columns(front), where="post", color=GREEN, lw=1.6, label="Pareto front")
            axes.scatter(*columns(front), s=52, facecolors="none", edgecolors=GREEN, lw=1.4,
                         zorder=4)  # fmt: skip
            axes.set_xscale("log")
        _mark_winner(axes, [p for p, row in zip(points, done, strict=True) if row.number == winner])
        if max_kb is not None:
            axes.axvline(max_kb, color=ORANGE, lw=1.2, ls="--", label="most KB allowed")
        if least_accuracy is not None:
            axes.axhline(least_accuracy, color=ORANGE, lw=1.2, ls=":", label="least accuracy")
        if teacher_accuracy is not None:
            axes.axhline(teacher_accuracy, color=PURPLE, lw=1.2, ls="-.", label="teacher")
        axes.set_xlabel("size of the student (KB, log scale)")
        expected = any(row.expected is not None for row in done)
        axes.set_ylabel(f"{'expected ' if expected else ''}accuracy on validation")
        plain_log(axes)
        percent(axes)
        legend(figure)
        said = (
            f"Accuracy against KB of {len(done)} candidates, with the Pareto front of {len(front)}."
        )
        return to_svg(figure, "front", said)


def volume_plot(candidates: Sequence[CandidateRow], teacher_kb: float, chance: float) -> str:
    """The share of the plane of size and expected accuracy that the candidates so far cover."""
    with style("volume"):
        figure, axes = canvas()
        done = [row for row in candidates if row.whole]
        covered = hypervolume(
            [row.kb for row in done], [row.shown or 0.0 for row in done], teacher_kb, chance
        )
        if done:
            axes.step([row.number for row in done], covered, where="post", color=GREEN, lw=1.6,
                      label="covered so far")  # fmt: skip
        axes.set_xlabel("candidate, in order of evaluation")
        axes.set_ylabel("hypervolume (share of the plane)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len({row.number for row in candidates}) == 1:
            axes.set_xlim(candidates[0].number - 1, candidates[0].number + 1)
        legend(figure)
        last = f"{covered[-1]:.3f}" if done else "nothing"
        return to_svg(figure, "volume", f"Hypervolume of {len(done)} candidates: {last}.")


def layers_plot(layers: Sequence[LayerRow]) -> str:
    """KB of every layer in the teacher and in the student, top to bottom in execution order."""
    with style("layers"):
        size = 9 if len(layers) <= 40 else 7
        figure, axes = canvas(width=9.5, height=1.3 + len(layers) * (0.24 if size == 9 else 0.16))
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
        plain_log(axes)
        legend(figure)
        said = f"KB of {len(layers)} layers in teacher and student; {len(gone)} were removed."
        return to_svg(figure, "layers", said)


def deferral_plot(
    curves: Mapping[str, CurvePoints], router: str, point: tuple[float, float], part: str
) -> str:
    """The pair's accuracy against the appealing rate, and the point the threshold gives."""
    with style("deferral"):
        figure, axes = canvas()
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
                line = fixed[name]
            else:
                colour, dashes = next(others)
                line = {"color": colour, "ls": dashes, "lw": 1.3}
            axes.plot(*_thinned(curves[name]), label=name, **line)
        axes.plot(*point, marker="D", ms=8, color=ORANGE, ls="none", mec="none", zorder=5,
                  label="operating point")  # fmt: skip
        axes.set_xlim(-0.01, 1.01)
        axes.set_xlabel(f"appealing rate on {part} (share of inputs sent to the teacher)")
        axes.set_ylabel(f"accuracy of the pair on {part}")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        percent(axes)
        legend(figure)
        said = (
            f"Accuracy of the pair against appealing rate for {len(curves)} curves; "
            f"{router} works at {point[0] * 100:.1f} % appeals and {point[1] * 100:.2f} % accuracy."
        )
        return to_svg(figure, "deferral", said)


def confusion_plot(confusion: Sequence[Sequence[int]], part: str) -> str:
    """How many rows the router trusts and appeals, by whether the student was right."""
    with style("confusion"):
        figure, axes = canvas(height=3.0)
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
        return to_svg(figure, "confusion", said)


def _mark_winner(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    if points:
        axes.scatter(*columns(points), s=130, marker="*", color=ORANGE, label="winner", zorder=5)


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


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
