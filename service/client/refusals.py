"""A service's refusal as the error that the command line would give: the same sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge.errors import BadInput

if TYPE_CHECKING:
    import httpx


class Refusal(BadInput):
    """What a service answered in place of what was asked.

    Args:
        sentence: in the service's own words.
        status: of HTTP.
        parts: problem, value, bound, remedy and field, as far as the service tells them apart.
    """

    def __init__(self, sentence: str, status: int, parts: Mapping[str, Any] | None = None) -> None:
        told = dict(parts or {})
        super().__init__(
            str(told.get("problem") or sentence),
            value=told.get("value"),
            bound=str(told.get("bound") or ""),
            remedy=str(told.get("remedy") or ""),
            field=told.get("field"),
        )
        self.args = (sentence,)  # what is shown
        self.status, self.parts = status, told

    def __reduce__(self) -> tuple[object, ...]:
        return Refusal, (self.args[0], self.status, self.parts)


def refusal_of(response: httpx.Response) -> Refusal:
    """The refusal in a response of 400 and above; what is no problem of RFC 9457, such as a proxy's
    page, is told by its status."""
    try:
        body = response.json()
    except ValueError:
        body = None
    status = response.status_code
    if not isinstance(body, dict) or not isinstance(body.get("detail"), str):
        return Refusal(f"The service answered {status} {response.reason_phrase}.", status)
    sentence = body["detail"]
    errors = body.get("errors") or [{}]
    first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {}
    pointer = str(first.get("pointer") or "").strip("/")
    parts = {name: first.get(name) for name in ("value", "bound", "remedy")}
    parts |= {"field": pointer or None, "problem": sentence.partition(": got ")[0]}
    return Refusal(sentence, status, parts)


def refusal_of_content(problem: Mapping[str, Any], status: int = 422) -> Refusal:
    """The refusal of an upload, or of a job, by the problem that stands in its row."""
    sentence = problem.get("message") or problem.get("detail") or problem.get("problem")
    return Refusal(str(sentence or "The service refused it."), status, problem)
