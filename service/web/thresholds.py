"""The page of thresholds: sliders over a run's candidates, ranked as they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from edge.errors import BadInput
from search.job.choices import CHOICES
from service.api.context import context
from service.jobs.model import Scope
from service.web.pages import view_of
from service.web.rendering import number, page, render

router = APIRouter(include_in_schema=False)
#: fields of the job that have a slider
FIELDS = ("max_kb", "c0", "a0", "alpha", "beta", "rho")
TARGETS = CHOICES["target"]


@dataclass(frozen=True)
class Slider:
    """One field of the reward with its range."""

    name: str
    label: str
    low: float
    high: float
    step: float
    value: float
    help: str
    #: whether it counts only once it was moved
    free: bool = False

    @property
    def shown(self) -> str:
        """The value as it stands."""
        return f"{self.value:g}"


def _sliders(setting: dict[str, Any], given: dict[str, Any], kb: float) -> list[Slider]:
    limit = setting.get("max_kb")

    def one(name: str, label: str, low: float, high: float, step: float, help_: str) -> Slider:
        own = setting.get(name)
        value = float(given.get(name, high if own is None else own))
        free = name not in given
        return Slider(name, label, low, high, step, min(max(value, low), high), help_, free)

    return [
        one(
            "max_kb",
            "Largest student, KB",
            0.1,
            round(limit * 2 if limit else kb, 1),
            0.1,
            "Limit.",
        ),
        one("c0", "C₀", 0, 1, 0.001, "Compression from which more counts little."),
        one("a0", "A₀", 0, 1, 0.001, "Accuracy from which more counts little."),
        one("alpha", "α", 0, 50, 0.5, "Weight of compression."),
        one("beta", "β", 0, 300, 1, "Weight of accuracy."),
        one("rho", "ρ", 0, 1, 0.01, "Share of the weight beyond a threshold."),
    ]


def fields_of(query: Any) -> dict[str, Any]:
    """Fields of the reward from a form's texts.

    Raises:
        BadInput: no number.
    """
    given: dict[str, Any] = {name: number(name, query[name]) for name in FIELDS if query.get(name)}
    if query.get("target") in TARGETS:
        given["target"] = query["target"]
    return given


@router.get("/jobs/{id}/thresholds")
@page(Scope.READ)
def thresholds(request: Request, id: str) -> Response:
    """Sliders, winner before and after, and the map over C0 and A0."""
    shared = context(request)
    found = shared.job(request.state.principal.tenant, id)
    run = shared.run_folder(found)
    given = fields_of(request.query_params)
    try:
        columns = shared.runs.candidates(run)
        result = shared.runs.rerank(run, given)
    except BadInput as error:
        if given:
            raise
        return render(
            request,
            "thresholds.html",
            job=view_of(found),
            ready=False,
            problem=None if not run.is_dir() else {"detail": str(error)},
        )
    setting = dict(result["after"]) if given else dict(columns["setting"])
    chosen = given.get("target") or columns["limits"]["target"]
    return render(
        request,
        "thresholds.html",
        job=view_of(found),
        ready=True,
        fields=_sliders(setting, given, columns["teacher"]["kb"]),
        targets=TARGETS,
        chosen=chosen,
        result=result,
        given=given,
    )
