"""What a notebook shows of a run or a bundle: a short table, all of its text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

#: warnings that are shown; the report has all
MOST_WARNINGS = 5
_CELL = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0"
_FIGURES = {
    "teacher_accuracy": "teacher, on the test part",
    "student_accuracy": "student, on the test part",
    "pair_accuracy": "pair, on the test part",
    "appeals": "appealed",
}


def card(
    title: str, verdict: str, lines: Iterable[tuple[str, str]], warnings: Sequence[str] = ()
) -> str:
    """A small table with a title, a sentence, lines and warnings."""
    rows = [
        f'<tr><th scope="row" style="{_CELL}">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(text)}</td></tr>'
        for name, text in lines
    ]
    shown = [f"<li>{escape(text)}</li>" for text in warnings[:MOST_WARNINGS]]
    if len(warnings) > MOST_WARNINGS:
        shown.append(f"<li>and {len(warnings) - MOST_WARNINGS} more</li>")
    parts = [f"<strong>{escape(title)}</strong>"]
    if verdict:
        parts.append(f'<p style="max-width:46em">{escape(verdict)}</p>')
    parts.append(f"<table>{''.join(rows)}</table>")
    if shown:
        parts.append(f'Warnings:<ul style="max-width:46em">{"".join(shown)}</ul>')
    return f"<div>{''.join(parts)}</div>"


def rows_of_figures(figures: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """The figures that matter most, as lines of a card."""
    return [
        (words, f"{value:.2%}")
        for name, words in _FIGURES.items()
        if (value := figures.get(name)) is not None
    ]
