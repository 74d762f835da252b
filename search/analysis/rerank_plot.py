"""The picture of a re-ranking: the candidates, and what the winner's reward asks of all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from envs.reward import ThresholdReward
from search.analysis.rerank import Reranking
from search.analysis.scored_trials import Standings
from search.report.plot_style import (
    FAINT,
    INK,
    ORANGE,
    SKY,
    canvas,
    dots,
    percent,
    plain_log,
    write_plot,
)

Values = NDArray[np.float64]

#: points per side of the plane on which equal rewards are looked for
FINE = 300
#: accuracy and size beyond the outermost candidates, as shares of what they span
MARGIN = 0.08


def write_picture(found: Reranking, path: Path) -> None:
    """Expected accuracy over KB, with the winners before and after, as .svg or .png.

    Through each winner goes the line of all students that would earn as much as it does: whoever is
    above it, or to its left, would win. It bends where a threshold stops to bind.

    Raises:
        BadInput: neither .svg nor .png, or the file cannot be written.
    """
    write_plot(path, "rerank", _said(found), lambda: _draw(found))


def _said(found: Reranking) -> str:
    before, after = found.before.row(found.before.winner), found.after.row(found.after.winner)
    one, other = (
        f"candidate {row['number']} with {row['kb']:,.1f} KB and {row['expected']:.2%} expected"
        for row in (before, after)
    )
    if not found.changed:
        return f"{len(found.after.run.columns)} candidates; the winner stays {other}."
    return f"{len(found.after.run.columns)} candidates; the winner was {one} and is {other}."


def _draw(found: Reranking) -> Figure:
    figure, axes = canvas(width=7.0, height=4.4)
    before, after = found.before, found.after
    kb, expected = after.run.columns.kb, after.expected
    whole = after.run.columns.whole
    may, beyond = after.eligible, whole & ~after.eligible
    dots(axes, list(zip(kb[beyond], expected[beyond], strict=True)),
         facecolors="none", edgecolors=FAINT, label="beyond the limits")  # fmt: skip
    dots(axes, list(zip(kb[may], expected[may], strict=True)), color=SKY, label="candidate")
    # where more or less is expected now, the old winner stands where it stood
    _frame(axes, kb[whole], np.append(expected[whole], before.expected[before.winner]))
    handles = axes.get_legend_handles_labels()[0]
    if found.changed:
        handles += [_winner(axes, before, "before", INK, "o", "--")]
    handles += [_winner(axes, after, "now" if found.changed else "stays", ORANGE, "*", "-")]
    handles += _thresholds(axes, after)
    axes.set_xlabel("size of the student (KB, log scale)")
    axes.set_ylabel("expected accuracy on validation")
    plain_log(axes)
    percent(axes)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _frame(axes: Axes, kb: Values, expected: Values) -> None:
    """Room for all candidates that were trained to the end."""
    axes.set_xscale("log")
    sizes = np.log(kb)
    room = MARGIN * max(float(np.ptp(sizes)), 0.5)
    axes.set_xlim(np.exp(sizes.min() - room), np.exp(sizes.max() + room))
    room = MARGIN * max(float(np.ptp(expected)), 0.01)
    axes.set_ylim(expected.min() - room, expected.max() + room)


def _winner(axes: Axes, found: Standings, when: str, colour: str, marker: str, line: str) -> Line2D:
    """The winner, and the students that earn as much as it does under this reward."""
    row = found.row(found.winner)
    equal_reward(axes, found, colors=colour, linestyles=line, linewidths=1.4)
    mark = Line2D([row["kb"]], [row["expected"]], marker=marker, ms=15 if marker == "*" else 10,
                  mfc=colour if marker == "*" else "none", mec=colour, mew=1.5, color=colour,
                  ls=line, lw=1.4, zorder=5,
                  label=f"winner {when}: {row['number']}, {row['kb']:,.1f} KB, "
                        f"{row['expected'] * 100:.2f} %")  # fmt: skip
    axes.add_line(mark)
    return mark


def equal_reward(axes: Axes, found: Standings, **style: Any) -> list[Values]:
    """Draw where students earn as much as the winner, within the axes' limits.

    Returns:
        Its pieces, each (points, 2): KB and expected accuracy.
    """
    winner, log = found.winner, found.reward.log
    sizes = np.geomspace(*axes.get_xlim(), FINE)
    x, y = np.meshgrid(sizes, np.linspace(*axes.get_ylim(), FINE))
    least = log(float(found.expected[winner]), float(found.compression[winner]))
    earned = log(y, 1 - x / found.run.facts.kb) - least
    pieces: list[Values] = axes.contour(x, y, earned, levels=[0.0], **style).allsegs[0]
    return pieces


def _thresholds(axes: Axes, found: Standings) -> list[Line2D]:
    """C0, as the size that just meets it, and A0, where the reward has some that bind and they are
    in sight."""
    reward = found.reward
    if not isinstance(reward, ThresholdReward):
        return []
    most, least = (1 - reward.c0) * found.run.facts.kb, reward.a0
    lines = []
    low, high = axes.get_xlim()
    if low < most < high:
        label = f"C₀ now: {most:,.1f} KB"
        lines.append(axes.axvline(most, color=FAINT, lw=1.2, ls=":", label=label))
    low, high = axes.get_ylim()
    if low < least < high:
        label = f"A₀ now: {least * 100:.2f} %"
        lines.append(axes.axhline(least, color=FAINT, lw=1.2, ls="-.", label=label))
    return lines
