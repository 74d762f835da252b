"""The run as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from edge.files import write_bytes
from routers.calibration.calibrate import APPEAL_ALWAYS, APPEAL_NEVER
from search.report import plots
from search.report.page import STYLE, TEMPLATE
from search.report.record import PARTS, CandidateRow, Figure, RunRecord

# More rows than anyone reads would only make the page slow on a phone.
MOST_CANDIDATES = 200
NONE = "–"

_THRESHOLDS = {
    "c0": ("C₀", "the reward's threshold of compression"),
    "a0": ("A₀", "the reward's threshold of accuracy, on the validation part"),
    "alpha": ("α", "weight of compression"),
    "beta": ("β", "weight of accuracy"),
    "max_kb": ("max KB", "largest student allowed"),
    "max_macs": ("max MACs", "most multiply-accumulates allowed for one input"),
    "max_ms": ("max ms", "most milliseconds allowed for one input"),
    "max_drop": ("max drop", "largest loss of accuracy allowed against the teacher"),
}


def write_report(path: Path, record: RunRecord) -> None:
    """Write ``record`` as a page to ``path``, at once or not at all."""
    write_bytes(path, render(record).encode())


def render(record: RunRecord) -> str:
    """The page of ``record``: the same record gives the same text."""
    # Names of classes, paths and reasons are the user's text: all of it is escaped.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(_FILTERS)
    return environment.from_string(TEMPLATE).render(
        run=record,
        style=Markup(STYLE),
        plots={name: Markup(svg) for name, svg in _plots(record).items()},
        best=_best(record.candidates, record.winner),
        counts=_counts(record.candidates),
        sizes=_sizes(record),
        thresholds=_thresholds(record),
        meanings=PARTS,
        figures=_by_part([*record.figures, *record.teacher.figures]),
        rule=_rule(record.threshold),
        title=_title(record),
        origins=ORIGINS,
    )


#: where a finalist comes from, in words
ORIGINS = {
    "search": "the search",
    "uniform": "plain: every layer as wide as the others, at the limit",
    "largest": "plain: the largest that the limits allow",
    "pilot": "plain: a pilot of the search",
}


def _title(record: RunRecord) -> str:
    """What the browser's tab says: of which teacher, on which data."""
    on = f" on {record.data}" if record.data else ""
    return f"{record.teacher.name}{on}: a student of {_kb(record.student.kb)} KB"


def _by_part(figures: Sequence[Figure]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Parts that anything was measured on, and a row per figure with a cell for each of them."""
    parts = [part for part in reversed(PARTS) if any(one.part == part for one in figures)]
    rows = []
    for name in dict.fromkeys(one.name for one in figures):
        found = {one.part: one for one in reversed(figures) if one.name == name}
        rows.append((name, [_cell(found.get(part)) for part in parts]))
    return parts, rows


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else _figure(figure)


def _plots(record: RunRecord) -> dict[str, str]:
    return {
        "reward": plots.reward_plot(record.candidates, record.winner),
        "front": plots.front_plot(
            record.candidates,
            record.winner,
            max_kb=record.thresholds.get("max_kb"),
            least_accuracy=record.thresholds.get("a0"),
            teacher_accuracy=_teacher_accuracy(record),
            earlier=record.earlier,
        ),
        "volume": plots.volume_plot(record.candidates, record.teacher.kb, record.chance),
        "layers": plots.layers_plot(record.layers),
        "deferral": plots.deferral_plot(
            record.curves, record.router_name, record.operating_point, record.pair_part
        ),
        "confusion": plots.confusion_plot(record.confusion, record.pair_part),
    }


def _teacher_accuracy(record: RunRecord) -> float | None:
    """The teacher's share of right rows on the validation part, where it is among its figures."""
    for figure in record.teacher.figures:
        if figure.part == "validation" and figure.unit == "share":
            return figure.value
    return None


def _best(candidates: Sequence[CandidateRow], winner: int) -> list[CandidateRow]:
    """At most :data:`MOST_CANDIDATES`, by reward, those that were stopped or failed after all
    others; the winner is always among them."""
    ordered = sorted(candidates, key=lambda row: (not row.whole, -row.reward, row.number))
    chosen = sorted(ordered, key=lambda row: row.number != winner)[:MOST_CANDIDATES]
    numbers = {row.number for row in chosen}
    return [row for row in ordered if row.number in numbers]


def _counts(candidates: Sequence[CandidateRow]) -> str:
    """What became of the candidates, where not all were trained to the end."""
    stopped = sum(row.status == "stopped" for row in candidates)
    failed = sum(row.status == "failed" for row in candidates)
    if not stopped + failed:
        return ""
    parts = [f"{len(candidates) - stopped - failed} trained to the end"]
    parts += [f"{stopped} stopped early"] if stopped else []
    parts += [f"{failed} failed"] if failed else []
    return ": " + ", ".join(parts)


def _sizes(record: RunRecord) -> list[tuple[str, float, float, str]]:
    teacher, student = record.teacher, record.student
    return [
        ("KB", teacher.kb, student.kb, "kb"),
        ("parameters", teacher.parameters, student.parameters, "count"),
        ("MACs", teacher.macs, student.macs, "count"),
        *([] if record.milliseconds is None else [("ms", *record.milliseconds, "ms")]),
    ]


def _thresholds(record: RunRecord) -> list[tuple[str, str, str]]:
    rows = []
    for key, value in record.thresholds.items():
        name, meaning = _THRESHOLDS.get(key, (key, ""))
        text = "not set" if value is None else _number(value)
        if value is not None and key in ("c0", "a0"):
            text = _share(value)
        elif value is not None and key == "max_drop":
            text = f"{value * 100:.3g} points"
        elif value is not None and key == "max_kb":
            text = f"{_kb(value)} KB"
        rows.append((name, meaning, text))
    return rows


def _rule(threshold: float) -> str:
    if threshold >= APPEAL_ALWAYS:
        return "and its threshold lets every input appeal"
    if threshold <= APPEAL_NEVER:
        return "and every answer is trusted"
    return f"and an input appeals where its score is below {threshold:.6g}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _share(value: float | None) -> str:
    """.9934 → 99.34 %."""
    return NONE if value is None or _missing(value) else f"{value * 100:.2f} %"


def _kb(value: float | None) -> str:
    if value is None or _missing(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _number(value: float | None) -> str:
    """Four significant digits: 0.6125, 31.4, 1,202."""
    if value is None or _missing(value):
        return NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _figure(figure: Figure) -> str:
    if figure.unit == "share":
        return _share(figure.value)
    text = _kb(figure.value) if figure.unit == "KB" else _number(figure.value)
    return text if text == NONE or not figure.unit else f"{text} {figure.unit}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def _share_of(before: float, after: float) -> str:
    return NONE if before == 0 else f"{after / before * 100:.3g} %"


def _format_as(value: float, text: str) -> str:
    if text == "ms":
        return f"{value:.3g}"
    return _kb(value) if text == "kb" else _count(value)


def _coefficients(actions: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in actions)


_FILTERS: dict[str, Callable[..., Any]] = {
    "share": _share,
    "kb": _kb,
    "number": _number,
    "count": _count,
    "figure": _figure,
    "times": _times,
    "share_of": _share_of,
    "format_as": _format_as,
    "coefficients": _coefficients,
    "ceil": math.ceil,
}
