"""Pictures of a run, as Matplotlib figures that a notebook shows by itself."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import BadInput, MissingExtra, check_member

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from understudy.results import Results


def draw(run: Results, kind: str) -> Figure:
    """A picture of a run; see :meth:`understudy.Run.plot`."""
    check_member("picture", kind, KINDS)
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("A plot", "search")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from search.report.plot_style import legend, style

    class Picture(Figure):
        """A figure that shows itself in a notebook, whether or not pyplot is loaded."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=100)
            return content.getvalue()

    with style(kind):
        figure = Picture(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(visible=True, lw=0.6)
        axes.set_axisbelow(True)
        KINDS[kind](run, axes)
        legend(figure)
    return figure


def _front(run: Results, axes: Axes) -> None:
    from search.report.plot_style import GREEN, ORANGE, SKY, columns, dots, percent, plain_log
    from search.space.pareto import pareto_front

    done = _done(run)
    points = [(row["kb"], row["expected"]) for row in done]
    dots(axes, points, color=SKY, label="candidate")
    front = [points[place] for place in pareto_front(points)]
    axes.step(*columns(front), where="post", color=GREEN, lw=1.6, label="Pareto front")
    key = _shipped(run)
    winner = [point for point, row in zip(points, done, strict=True) if row["key"] == key]
    axes.scatter(*columns(winner), marker="*", s=160, color=ORANGE, zorder=5,
                 label="ships" if winner else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("size of the student (KB, log scale)")
    axes.set_ylabel("expected accuracy on validation")
    plain_log(axes)
    percent(axes)


def _reward(run: Results, axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    from search.report.plot_style import BLUE, SKY, dots

    done = _done(run)
    numbers, rewards = [row["number"] for row in done], [row["reward"] for row in done]
    dots(axes, list(zip(numbers, rewards, strict=True)), color=SKY, label="candidate")
    axes.step(numbers, np.maximum.accumulate(rewards), where="post", color=BLUE, lw=1.6,
              label="best so far")  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("candidate, in order of evaluation")
    axes.set_ylabel("reward (no unit)")


def _appeals(run: Results, axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    from search.report.plot_style import BLUE, FAINT, ORANGE, PURPLE, percent

    manifest = run.bundle.manifest
    kept = manifest.calibration
    if not kept.score:
        raise _nothing("no calibration rows in the bundle")
    score = np.array(kept.score)
    student, teacher = np.array(kept.student_right, float), np.array(kept.teacher_right, float)
    share = np.linspace(0, 1, len(score) + 1)

    def curve(order: Any) -> Any:
        gain = (teacher - student)[order]
        return (student.sum() + np.concatenate([[0.0], np.cumsum(gain)])) / len(score)

    oracle = curve(np.argsort(student - teacher, kind="stable"))
    axes.plot(share, oracle, color=PURPLE, ls="-.", lw=1.2, label="oracle")
    routed = curve(np.argsort(score, kind="stable"))
    axes.plot(share, routed, color=BLUE, lw=1.8, label=manifest.router.name)
    ends = [student.mean(), teacher.mean()]
    axes.plot([0, 1], ends, color=FAINT, ls=":", lw=1.2, label="appeals by chance")
    now = float((score < manifest.threshold).mean())
    axes.scatter([now], [routed[round(now * len(score))]], marker="*", s=160, color=ORANGE,
                 zorder=5, label="threshold now")  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("share of inputs that are appealed")
    axes.set_ylabel("accuracy of the pair, calibration rows")
    percent(axes)


KINDS: dict[str, Callable[[Any, Any], None]] = {
    "front": _front,
    "reward": _reward,
    "appeals": _appeals,
}


def _done(run: Results) -> list[dict[str, Any]]:
    found = [row for row in run.rows if row["status"] == "done"]
    if not found:
        raise _nothing("no candidate that was trained to the end")
    return found


def _shipped(run: Results) -> str | None:
    """The key of the candidate that ships; None while nothing does."""
    try:
        finalists = run.result["finalists"]
    except BadInput:
        return None
    return str(finalists[0]["key"]) if finalists else None


def _nothing(value: str) -> BadInput:
    return BadInput(
        "there is nothing to draw",
        value=value,
        bound="at least one",
        remedy="Wait for it, or go on with the run.",
    )
