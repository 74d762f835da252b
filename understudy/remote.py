"""Jobs of a service, with the same methods as a run in a folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from search.job.spec import ROUTING, make_spec
from service.cli.options import REWARD_FIELDS, as_values
from service.client import client as http
from service.client.login import Secret
from service.client.places import cache_folder
from service.client.transport import PATIENCE, Json
from service.client.watching import ENDED, told
from understudy.bundles import Bundle
from understudy.rerankings import Reranking
from understudy.results import Results
from understudy.runs import check_fields
from understudy.searching import Inputs, followed

#: seconds between two looks at a job that is waited for
LOOK = 1.0


class Client:
    """A service: its jobs are submitted here and run there.

    Args:
        url: of the service; else ``UNDERSTUDY_URL``, or the one that ``understudy login`` kept.
        key: to it; else ``UNDERSTUDY_KEY``, or the one that was kept.
        patience: seconds for which it is asked again where the link breaks.

    Raises:
        MissingExtra: httpx is not installed.
        BadInput: no URL of a service.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, patience: float = PATIENCE
    ) -> None:
        secret = Secret(key) if key else None
        key = None  # no traceback shows it
        self._http = http.Client(url, secret, patience=patience)

    @property
    def url(self) -> str:
        """Of the service."""
        return self._http.url

    def submit(
        self,
        teacher: Any,
        data: Any,
        max_kb: float | None = None,
        *,
        name: str = "",
        priority: int = 0,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **fields: Any,
    ) -> RemoteRun:
        """Submit a search; teacher and data are uploaded unless the service has them.

        Args:
            teacher: a file or a module, as in :func:`understudy.search`, or the id of a teacher on
                the service.
            data: likewise: a path, ``"digits"``, arrays in memory, or an id.
            max_kb: largest student, KB of fp32 weights.
            name: what the job is called.
            priority: jobs with a higher one come first.
            class_names, mean, std: as in :func:`understudy.search`.
            fields: any other field of the job.

        Raises:
            BadInput: what cannot be used, in the same words as for a run here.
        """
        given = Inputs.of(teacher, data, class_names, mean, std)
        values = {key: value for key, value in as_values(fields).items() if value is not None}
        if max_kb is not None:
            values["max_kb"] = max_kb
        make_spec({"teacher": "teacher.onnx", "data": "data", "out": "run"} | values)
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            teacher_path, data_path = given.write(Path(folder), arrays=True)
            places = {"teacher": teacher_path, "data": data_path}
            title = name or (given.name if not isinstance(teacher, str) else "")
            job = self._http.submit(values | places, name=title, priority=priority)
        return RemoteRun(self, job)

    def job(self, id: str) -> RemoteRun:
        """The job of an id."""
        return RemoteRun(self, self._http.job(id))

    def jobs(self, limit: int = 50, **filters: Any) -> list[RemoteRun]:
        """Jobs, the newest first; ``filters``: ``state``, ``kind``, ``name`` and others."""
        return [RemoteRun(self, job) for job in self._http.jobs(limit, **filters)]

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


class RemoteRun(Results):
    """A job of a service, as :meth:`Client.submit` and :meth:`Client.job` give it.

    Its state is as of the last look: :meth:`refresh` looks again, as :meth:`wait` does to its end.
    """

    def __init__(self, client: Client, job: Json) -> None:
        self._client, self._http, self._job = client, client._http, job
        self._bundle: Bundle | None = None

    @property
    def id(self) -> str:
        """Of the job."""
        return str(self._job["id"])

    @property
    def name(self) -> str:
        """Of the job, and where it is."""
        return f"{self.id} at {self._client.url}"

    @property
    def job(self) -> Mapping[str, Any]:
        """All that the service said of it when it was last looked at."""
        return self._job

    @property
    def state(self) -> str:
        """Queued, checking, searching, training, routing, packaging, done, failed or cancelled."""
        return str(self._job["state"])

    @property
    def finished(self) -> bool:
        """Whether it has shipped a bundle, when it was last looked at."""
        return self.state == "done"

    def refresh(self) -> RemoteRun:
        """Look again."""
        self._job = self._http.job(self.id)
        return self

    def wait(self, timeout: float | None = None) -> RemoteRun:
        """Wait for its end, without a word.

        Args:
            timeout: seconds at most.

        Raises:
            TimeoutError: it goes on after that.
            BadInput: it was cancelled, or failed at something that its user can mend.
            Unfinished: it failed otherwise.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.refresh().state not in ENDED:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.id} goes on after {timeout:g} seconds: {self.state}")
            time.sleep(LOOK)
        for _ in told(self._http, self.id):
            pass
        return self

    def watch(self) -> RemoteRun:
        """Show how it goes, to its end, as a search that runs here; Ctrl-C ends the watching alone.

        Raises:
            BadInput, Unfinished: as :meth:`wait`.
        """
        try:
            followed(told(self._http, self.id), progress=True)
        except KeyboardInterrupt as stop:
            stop.add_note(f"The job goes on: Client({self._client.url!r}).job({self.id!r})")
            raise
        return self.refresh()

    def cancel(self) -> RemoteRun:
        """Stop it within seconds; every finished candidate is kept, and it can be resumed."""
        self._job = self._http.cancel(self.id)
        return self

    def resume(self, *, progress: bool = False, **more: Any) -> RemoteRun:
        """Go on where it stopped, or further under a larger ``budget``.

        Args:
            progress: watch it to its end.
            more: ``budget`` or ``minutes``.
        """
        check_fields(more, ("budget", "minutes"), "resuming a job of a service")
        self._bundle = None
        self._job = self._http.resume(self.id, **more)
        return self.watch() if progress else self

    def delete(self) -> None:
        """Stop it, and remove it with all its files, for good."""
        self._http.delete(self.id)

    @property
    def result(self) -> Mapping[str, Any]:
        """The figures, as in ``result.json``."""
        return self._http.result(self.id)

    @property
    def bundle(self) -> Bundle:
        """What ships, fetched once into the cache of this machine's user, and again where its
        threshold was set anew on the service since this object was made."""
        if self._bundle is None:
            threshold = repr(self._http.threshold(self.id)).encode()
            folder = self._cache / f"bundle-{sha256(threshold).hexdigest()[:12]}"
            if not folder.is_dir():
                self._http.bundle(self.id, folder)
            self._bundle = Bundle(folder)
        return self._bundle

    @property
    def report(self) -> Path:
        """The page with the plots, fetched likewise."""
        path = self._cache / "report.html"
        if not path.is_file():
            self._http.report(self.id, path)
        return path

    def download(self, out: str | os.PathLike[str]) -> Path:
        """Fetch all that was shipped into a new folder: bundle, report, figures, candidates."""
        self._http.download(self.id, Path(out))
        return Path(out)

    def rerank(self, **thresholds: Any) -> Reranking:
        """The candidates under other weights, thresholds and limits; nothing is trained."""
        check_fields(thresholds, REWARD_FIELDS, "re-ranking")
        found = self._http.rerank(self.id, thresholds)

        def ship(progress: bool = True) -> RemoteRun:
            run = RemoteRun(self._client, self._http.finalize(self.id, thresholds))
            return run.watch() if progress else run

        return Reranking(found, ship)

    def route(self, *, progress: bool = True, **goal: Any) -> RemoteRun:
        """Choose router and threshold anew, in a job of its own; nothing is searched.

        Args:
            progress: watch it to its end.
            goal: fields of the job, such as ``appeals``, ``accuracy``, ``risk`` or ``families``.
        """
        check_fields(goal, ROUTING, "routing")
        run = RemoteRun(self._client, self._http.route(self.id, as_values(goal)))
        return run.watch() if progress else run

    @property
    def _cache(self) -> Path:
        """A folder for what is fetched of this job as it stands; a new attempt gets a new one."""
        if not self.finished:
            self.refresh()
        stamp = f"{self._client.url} {self._job['attempt']} {self._job['finished_at']}"
        name = f"{self.id}-{sha256(stamp.encode()).hexdigest()[:12]}"
        folder = cache_folder() / "jobs" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a home that cannot be written: for as long as this process lives
            return _own_folder() / name
        return folder if os.access(folder, os.W_OK) else _own_folder() / name

    def _table(self) -> str:
        return self._http.candidates(self.id)

    def _state(self) -> str:
        summary = self._job.get("summary") or {}
        parts = [self.state]
        if summary.get("candidates") is not None:
            parts.append(f"{summary['candidates']} of {summary.get('budget') or '?'} candidates")
        if summary.get("student_kb") is not None:
            parts.append(f"student {summary['student_kb']:,.1f} KB")
        return ", ".join(parts)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _own_folder() -> Path:
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory(prefix="understudy-"))
    return Path(_folders[0].name)
