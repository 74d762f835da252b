"""What every run has to show, whether it lies in a folder or on a service."""

from __future__ import annotations

import csv
import importlib.util
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import BadInput, MissingExtra
from understudy.bundles import Bundle
from understudy.cards import card, rows_of_figures
from understudy.rerankings import Reranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame  # type: ignore[import-untyped]
    from torch import nn

#: columns of the table of candidates that are texts, and whole numbers; the others are floats
_TEXTS = ("key", "status", "reason")
_WHOLE = ("number", "parameters", "macs", "epochs")


class Results(ABC):
    """Candidates, result and bundle of a run."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the run is called."""

    @property
    @abstractmethod
    def result(self) -> Mapping[str, Any]:
        """The figures of the finished run, as in ``result.json``.

        Raises:
            BadInput: it is not finished.
        """

    @property
    @abstractmethod
    def bundle(self) -> Bundle:
        """What ships.

        Raises:
            BadInput: the run is not finished.
        """

    @property
    @abstractmethod
    def report(self) -> Path:
        """The page with the plots.

        Raises:
            BadInput: the run is not finished, or has none.
        """

    @abstractmethod
    def _table(self) -> str:
        """The candidates as CSV, as ``understudy export`` gives them."""

    @abstractmethod
    def _state(self) -> str:
        """In a few words: how far the run is."""

    @abstractmethod
    def rerank(self, **thresholds: Any) -> Reranking:
        """The candidates under other weights, thresholds and limits; nothing is trained.

        Args:
            thresholds: fields of the job, such as ``max_kb``, ``c0`` or ``alpha``; what is not
                given stays as the run had it.

        Raises:
            BadInput: no such field, a value that cannot be used, or a limit that nobody keeps.
        """

    @property
    def verdict(self) -> str:
        """What came of it, in one sentence."""
        return str(self.result.get("verdict", ""))

    @property
    def warnings(self) -> list[Mapping[str, str]]:
        """What makes no sense, each with its ``name`` and its ``text``."""
        return list(self.result.get("warnings", []))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every candidate as a plain dictionary: no pandas is needed for these."""
        return [_typed(row) for row in csv.DictReader(io.StringIO(self._table()))]

    @property
    def candidates(self) -> DataFrame:
        """Every candidate as a pandas table, in the order in which they finished.

        Always a DataFrame, so that code which works on one machine works on the next; without
        pandas :attr:`rows` has the same.

        Raises:
            MissingExtra: pandas is not installed.
        """
        if importlib.util.find_spec("pandas") is None:
            raise MissingExtra(
                "A table of candidates (Run.rows has them as dictionaries)", "client"
            )
        import pandas as pd

        return pd.DataFrame(self.rows)

    def student(self) -> nn.Module:
        """The student as a torch module; see :meth:`understudy.Bundle.student`."""
        return self.bundle.student()

    def plot(self, kind: str = "front") -> Figure:
        """A picture of the run.

        Args:
            kind: ``front``: expected accuracy over KB with the Pareto front; ``reward``: of every
                candidate in turn; ``appeals``: the pair's accuracy over the share of appeals.

        Raises:
            BadInput: there is nothing to draw yet, or no such kind.
            MissingExtra: Matplotlib is not installed.
        """
        from understudy.pictures import draw

        return draw(self, kind)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self._state()})"

    def _repr_html_(self) -> str:
        try:
            result = self.result
        except BadInput:
            return card(f"Run {self.name}", "", [("state", self._state())])
        teacher, student = result["teacher"], result["student"]
        pair, router = result["pair"], result["router"]
        figures = {
            "teacher_accuracy": teacher["accuracy"],
            "student_accuracy": student["accuracy"],
            "pair_accuracy": pair["accuracy"],
            "appeals": pair["appeals"],
        }
        lines = [
            ("state", self._state()),
            ("student", f"{student['kb']:,.1f} KB of {teacher['kb']:,.1f} KB"),
            ("router", f"{router['name']}, threshold {pair['threshold']:.6g}"),
            *rows_of_figures(figures),
        ]
        return card(
            f"Run {self.name}", self.verdict, lines, [warning["text"] for warning in self.warnings]
        )


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table with numbers in place of their spellings; None where there is none."""
    return {
        name: text
        if name in _TEXTS
        else None
        if text == ""
        else int(text)
        if name in _WHOLE
        else float(text)
        for name, text in row.items()
    }
