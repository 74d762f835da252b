"""What all plots share: colours, axes, legend, and the SVG that a page can take in.

The same input gives the same bytes: no date, ids salted by the plot's name. Colours are CSS
variables with the light theme's value as the fallback, so that a page can turn them dark and a
plot saved alone still has them. The hues are Okabe and Ito's, told apart by colour-blind readers;
marker shapes and line styles repeat what colour says.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from edge.errors import BadInput
from edge.files import write_asked

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
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """The look of every plot; ``name`` salts the ids of the SVG."""
    with mpl.rc_context():
        settings: Any = {**_STYLE, "svg.hashsalt": name}
        mpl.rcParams.update(settings)
        yield


def canvas(width: float = _WIDTH, height: float = 3.7) -> tuple[Figure, Axes]:
    """An empty plot, inches wide and high."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Pairs as two lists."""
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def dots(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Small dots, if there are any points."""
    if points:
        axes.scatter(*columns(points), s=20, zorder=3, **style)


def percent(axes: Axes) -> None:
    """Accuracies in per cent, without room for more than 100, and never a flat axis."""
    low, high = axes.get_ylim()
    if high - low < 0.004:
        low, high = (low + high) / 2 - 0.002, (low + high) / 2 + 0.002
    high = min(high, 1.0 + (high - low) / 50)
    axes.set_ylim(low, high)
    decimals = 0 if high - low > 0.08 else 1 if high - low > 0.008 else 2
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=decimals, symbol=" %"))


def plain_log(axes: Axes) -> None:
    """1, 10, 100 in place of 10⁰, 10¹, 10²; below two decades also 2 and 5 and their like."""
    low, high = axes.get_xlim()
    few = axes.get_xscale() == "log" and high / low < 100
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.10g}")


def legend(figure: Figure) -> None:
    """Below the plot, where nothing is hidden."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def to_svg(figure: Figure, name: str, said: str) -> str:
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


def write_plot(path: Path, name: str, said: str, draw: Callable[[], Figure]) -> None:
    """A plot as a file of its own, at once or not at all.

    Raises:
        BadInput: neither .svg nor .png, or the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise BadInput(
            "the picture has no form that is known",
            value=str(path),
            bound=".svg or .png",
            remedy="Give the file one of these endings.",
        )
    with style(name):
        content = to_svg(draw(), name, said).encode() if kind == ".svg" else _png(draw())
    write_asked(path, content, "the picture", "place")


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
