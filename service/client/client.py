"""One service, as methods: what its API offers, with plain JSON values in and out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from service.client import downloads, uploads
from service.client.login import Secret, find_service
from service.client.parcels import data_parcel, teacher_parcel
from service.client.transport import PATIENCE, Json, Transport
from service.client.uploads import Tell, silent

#: data that install with the product, on the service's side too
EMBEDDED = ("digits", "sklearn.digits")
#: fields of a job's file that a service fills in itself
OWN = ("teacher", "data", "out")


class Client:
    """A service that is asked over HTTP.

    Args:
        url: of the service; else the one of the environment, or that was logged in to.
        key: to it, likewise.
        patience: seconds for which it is asked again where the link breaks.

    Raises:
        MissingExtra: httpx is not installed.
        BadInput: no URL of a service.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | Secret | None = None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        key = Secret(key) if isinstance(key, str) else key  # no traceback shows it
        service = find_service(url, key)
        self.service = service
        self.transport = Transport(service, patience)

    @property
    def url(self) -> str:
        """Of the service."""
        return self.service.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self.transport.close()

    def check(self) -> None:
        """See that the service answers and takes the key.

        Raises:
            BadInput: it does not.
        """
        listing = self.transport.get("/jobs", limit=1)
        if not isinstance(listing, dict) or "items" not in listing:
            raise BadInput(
                "this is no service of understudy",
                value=self.url,
                bound="a list of jobs at /api/v1/jobs",
                remedy="Mend the URL.",
                field="url",
            )

    # --- teachers and data

    def teacher(self, teacher: str, tell: Tell = silent) -> str:
        """The id of a teacher, which is uploaded unless it is there."""
        if teacher.startswith("teacher_") and not Path(teacher).exists():
            return teacher
        with teacher_parcel(teacher) as parcel:
            return str(uploads.send(self.transport, parcel, tell)["id"])

    def data(self, data: str, tell: Tell = silent) -> str:
        """The id of data, which are uploaded unless they are there; embedded ones by their name."""
        if data in EMBEDDED or (data.startswith("dataset_") and not Path(data).exists()):
            return data
        with data_parcel(data) as parcel:
            return str(uploads.send(self.transport, parcel, tell)["id"])

    def inspection(self, id_: str) -> Json:
        """A teacher's layers, what each costs, and what may be removed."""
        found: Json = self.transport.get(f"/teachers/{id_}/inspection", wait=60)
        return found

    # --- jobs

    def submit(
        self,
        job: Mapping[str, Any],
        *,
        name: str = "",
        priority: int = 0,
        tell: Tell = silent,
    ) -> Json:
        """Upload what a job names, and queue it.

        Args:
            job: fields of the job, as in its YAML file; ``teacher`` and ``data`` are paths here, or
                ids there.
            name: for people.
            priority: higher ones come first.
            tell: is told of the uploads.
        """
        fields = {key: value for key, value in job.items() if key not in OWN and value is not None}
        request = fields | {
            "teacher": self.teacher(os.fspath(job["teacher"]), tell),
            "data": self.data(os.fspath(job["data"]), tell),
            "name": name,
            "priority": priority,
        }
        found: Json = self.transport.post("/jobs", request)
        return found

    def job(self, id_: str) -> Json:
        """One job with its history."""
        found: Json = self.transport.get(f"/jobs/{_name(id_)}")
        return found

    def jobs(self, limit: int = 50, **filters: Any) -> Iterator[Json]:
        """Jobs, the newest first; ``filters`` are those of the API, such as ``state``."""
        cursor, left = None, limit
        while left > 0:
            page = self.transport.get("/jobs", cursor=cursor, limit=min(left, 200), **filters)
            yield from page["items"][:left]
            left -= len(page["items"])
            cursor = page["cursor"]
            if cursor is None:
                return

    def cancel(self, id_: str) -> Json:
        """Stop a job; what is finished is kept."""
        return self._asked(id_, "cancel")

    def resume(self, id_: str, **changes: Any) -> Json:
        """Go on with a job that has ended; ``changes``: a larger ``budget``, or ``minutes``."""
        given = {key: value for key, value in changes.items() if value is not None}
        return self._asked(id_, "resume", given)

    def route(self, id_: str, goal: Mapping[str, Any]) -> Json:
        """Choose router and threshold anew, in a job of its own."""
        return self._asked(id_, "route", goal)

    def finalize(self, id_: str, thresholds: Mapping[str, Any]) -> Json:
        """Train and ship the winner of a re-ranking, in a job of its own."""
        return self._asked(id_, "finalize", thresholds)

    def rerank(self, id_: str, thresholds: Mapping[str, Any], top: int = 10) -> Json:
        """The candidates under other thresholds; nothing is trained or kept."""
        path = f"/jobs/{_name(id_)}/rerank"
        found: Json = self.transport.post(path, dict(thresholds), once=False, top=top)
        return found

    def delete(self, id_: str) -> None:
        """Remove a job with all its files."""
        self.transport.request("DELETE", f"/jobs/{_name(id_)}")

    # --- what came of it

    def result(self, id_: str) -> Json:
        """The figures of a finished job, whose bundle and report are the service's to hand out."""
        found: Json = self.transport.get(f"/jobs/{_name(id_)}/result")
        there = f"{self.url}/api/v1/jobs/{id_}"
        return found | {"out": there, "bundle": f"{there}/bundle.zip", "report": f"{there}/report"}

    def candidates(self, id_: str) -> str:
        """Every candidate as CSV, as ``understudy export`` gives them."""
        path, params = f"/jobs/{_name(id_)}/candidates", {"format": "csv"}
        return str(self.transport.request("GET", path, params=params).text)

    def threshold(self, id_: str) -> float:
        """At which a finished job's bundle appeals now: it may be set anew on the service."""
        told = self.transport.get(f"/jobs/{_name(id_)}/routers")
        return float(told["deferral"].get("threshold", told["pair"]["threshold"]))

    def bundle(self, id_: str, folder: Path) -> None:
        """Fetch a job's bundle into a new folder, verified."""
        downloads.bundle(self.transport, _name(id_), folder)

    def download(self, id_: str, folder: Path) -> list[str]:
        """Fetch all that a finished job shipped into a new folder; its files."""
        return downloads.everything(self.transport, _name(id_), folder)

    def report(self, id_: str, path: Path) -> None:
        """Fetch a job's report."""
        downloads.fetch(self.transport, f"/jobs/{_name(id_)}/report", path)

    def _asked(self, id_: str, what: str, body: Mapping[str, Any] | None = None) -> Json:
        found: Json = self.transport.post(f"/jobs/{_name(id_)}/{what}", dict(body or {}))
        return found


def _name(id_: str) -> str:
    """An id as a part of a path.

    Raises:
        BadInput: it is none.
    """
    if not id_.isascii() or not id_.replace("_", "").isalnum():
        raise BadInput(
            "this is no id of a job",
            value=id_[:100],
            bound="such as job_01K2…",
            remedy="`understudy jobs` lists them.",
            field="job",
        )
    return id_
