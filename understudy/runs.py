"""A run in a folder: what it found, and what may be done with it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.bundle import MANIFEST
from edge.errors import BadInput
from search.job import lock
from search.job.claim import LOCK
from search.job.run_folder import RunFolder
from search.job.spec import ROUTING, JobSpec
from service.cli.environment import needs_search
from understudy.bundles import Bundle
from understudy.rerankings import Reranking
from understudy.results import Results


class Run(Results):
    """A run, finished or not.

    Args:
        path: its folder.
        number: of what ships: :meth:`route` puts another bundle beside the first.

    Raises:
        BadInput: there is no run.
    """

    def __init__(self, path: str | os.PathLike[str], number: int = 1) -> None:
        self._folder = RunFolder(Path(path), number)
        self._spec = RunFolder(Path(path)).stored_job()

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.root

    @property
    def name(self) -> str:
        """Its folder, as it was named."""
        return str(self.path)

    @property
    def spec(self) -> JobSpec:
        """The job that it was started with."""
        return self._spec

    @property
    def finished(self) -> bool:
        """Whether it has shipped a bundle."""
        return self._folder.result.is_file()

    @property
    def result(self) -> Mapping[str, Any]:
        """The figures, as in ``result.json``."""
        if not self.finished:
            raise self._unfinished()
        found: Mapping[str, Any] = json.loads(self._folder.result.read_text(encoding="utf-8"))
        return found

    @property
    def bundle(self) -> Bundle:
        """What ships."""
        if not self._folder.bundle.is_dir():
            raise self._unfinished()
        return Bundle(self._folder.bundle)

    @property
    def report(self) -> Path:
        """The page with the plots."""
        if not self._folder.report.is_file():
            raise self._unfinished()
        return self._folder.report

    @property
    def teacher(self) -> Path:
        """The teacher for the other side, as ONNX: it answers appeals."""
        if not self._folder.cloud_teacher.is_file():
            raise self._unfinished()
        return self._folder.cloud_teacher

    def rerank(self, **thresholds: Any) -> Reranking:
        """The candidates under other weights, thresholds and limits; nothing is trained."""
        needs_search("Re-ranking")
        from search.analysis.rerank import rerank
        from search.analysis.scored_trials import read_run
        from service.cli.options import REWARD_FIELDS

        check_fields(thresholds, REWARD_FIELDS, "re-ranking")
        found = rerank(read_run(self.name), thresholds)

        def ship(out: str | os.PathLike[str] | None = None, progress: bool = True) -> Run:
            return self._finalized(found, thresholds, out, progress)

        return Reranking(found.result(), ship)

    def route(self, *, replace: bool = False, progress: bool = True, **goal: Any) -> Run:
        """Choose router and threshold anew; nothing is searched.

        Args:
            replace: put the new bundle in the place of the old one, not beside it.
            progress: show it.
            goal: fields of the job, such as ``appeals``, ``accuracy``, ``risk`` or ``families``.

        Returns:
            the run with its new bundle.
        """
        needs_search("Routing")
        from understudy.searching import carry_out

        check_fields(goal, ("teacher", "data", *ROUTING), "routing")
        if not self.finished:
            raise self._unfinished()
        spec = self._changed(goal)
        result = carry_out(spec, resume=True, progress=progress, again=True, beside=not replace)
        number = re.search(r"-(\d+)$", Path(result["bundle"]).name)
        return Run(self.path, int(number[1]) if number and not replace else 1)

    def resume(self, *, progress: bool = True, **more: Any) -> Run:
        """Go on where the run stopped, or further under a larger ``budget``.

        Args:
            progress: show it.
            more: fields of the job that may change: see ``understudy search --resume``.
        """
        needs_search("A search")
        from understudy.searching import carry_out

        carry_out(self._changed(more), resume=True, progress=progress)
        return Run(self.path)

    def _changed(self, fields: Mapping[str, Any]) -> JobSpec:
        from search.job.spec import make_spec, overridden
        from service.cli.options import as_values

        return make_spec(overridden(self._spec.model_dump(), as_values(fields)))

    def _finalized(
        self,
        found: Any,
        thresholds: Mapping[str, Any],
        out: str | os.PathLike[str] | None,
        progress: bool,
    ) -> Run:
        from search.analysis.adopt_run import adopt, free_name
        from understudy.searching import carry_out

        target = os.fspath(out or free_name(self.path))
        words = ["understudy", "rerank", self.name]
        for name, value in thresholds.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        spec = adopt(found, target, shlex.join([*words, "--finalize", "--out", target]))
        carry_out(spec, resume=True, progress=progress)
        return Run(target)

    def _table(self) -> str:
        needs_search("Reading candidates")
        from search.analysis.csv_export import write_csv
        from search.analysis.scored_trials import read_run

        text = io.StringIO(newline="")
        write_csv(read_run(self.name), text)
        return text.getvalue()

    def _state(self) -> str:
        if self.finished:
            result = self.result
            return (
                f"{result['candidates']:,} candidates, student {result['student']['kb']:,.1f} KB, "
                f"pair {result['pair']['accuracy']:.2%} with {result['pair']['appeals']:.1%} "
                "appealed"
            )
        holder = lock.holder(self.path / LOCK)
        return "not finished, nobody works on it" if holder is None else f"goes on, {holder}"

    def _unfinished(self) -> BadInput:
        holder = lock.holder(self.path / LOCK)
        return BadInput(
            "the run is not finished",
            value=self.name if holder is None else f"{self.name}, {holder}",
            bound="a run that has shipped a bundle",
            remedy=f"Go on with it: understudy.open({self.name!r}).resume()."
            if holder is None
            else "Wait for that process.",
        )


def open(path: str | os.PathLike[str]) -> Run | Bundle:  # noqa: A001 (as in PIL.Image.open)
    """The run or the bundle in a folder.

    Raises:
        BadInput: neither, or a damaged bundle.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        return Bundle(folder)
    if (folder / "job.yaml").is_file():
        return Run(folder)
    raise BadInput(
        f"{folder} is neither a run nor a bundle",
        value=f"no job.yaml and no {MANIFEST} in it" if folder.is_dir() else "no such folder",
        bound="what a search left in its folder `out`, or the folder named bundle in it",
        remedy="Look for that folder.",
    )


def check_fields(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """BadInput where a field is none of those that may be given here."""
    for name in given:
        if name not in known:
            raise BadInput(
                f"{name!r} is no field of {what}",
                value=given[name],
                bound=", ".join(known),
                remedy="Leave it out: what is not given stays as the run had it.",
                field=name,
            )
