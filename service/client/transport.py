"""Requests to a service: with the key, again where the link breaks, and done once however often."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge.errors import BadInput, MissingExtra
from service.client.login import Secret, Service, is_loopback
from service.client.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]
#: seconds that one answer may take beyond what was asked to wait for, and a connection
ANSWER, CONNECT = 60.0, 10.0
#: seconds for which a service that has answered before is asked again, as while it restarts
PATIENCE = 60.0
#: seconds for which one is that has not: perhaps there is none
FIRST_PATIENCE = 2.0
#: seconds between two tries: the first, and the longest
PAUSE, LONGEST_PAUSE = 0.25, 8.0
#: of a service, or of what stands before it, that may be well again in a moment
PASSING = (429, 502, 503, 504)


class Transport:
    """A connection to one service.

    Args:
        service: where, and with which key.
        patience: seconds for which it is asked again where the link breaks.

    Raises:
        MissingExtra: httpx is not installed.
    """

    def __init__(self, service: Service, patience: float = PATIENCE) -> None:
        httpx = load_httpx()
        self.url, self.patience = service.url, patience
        self._answered = False
        self._http = httpx.Client(
            base_url=f"{service.url}/api/v1",
            auth=None if service.key is None else _with_key(service.key),
            timeout=httpx.Timeout(ANSWER, connect=CONNECT),
            follow_redirects=False,  # a key is for this service alone
            trust_env=not is_loopback(service.url),  # no proxy leads to this machine
            headers={"user-agent": "understudy"},
        )

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __del__(self) -> None:
        if http := getattr(self, "_http", None):
            http.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at a path."""
        return self._json(self.request("GET", path, params=params))

    def post(self, path: str, body: Any = None, *, once: bool = True, **params: Any) -> Any:
        """Send JSON and get JSON back.

        Args:
            path: below ``/api/v1``.
            body: as JSON.
            once: whether it changes something, which then happens once, however often it is sent.
            params: of the query.
        """
        headers = {"idempotency-key": uuid.uuid4().hex} if once else {}
        how: Json = {"params": params, "headers": headers}
        return self._json(self.request("POST", path, json={} if body is None else body, **how))

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: Callable[[], Mapping[str, Any]] | None = None,
    ) -> httpx.Response:
        """The good answer to a request, which is sent again where that may help.

        Args:
            method: of HTTP; a POST carries an Idempotency-Key, so that it may be sent again too.
            path: below ``/api/v1``.
            params: of the query; those that are None are left out.
            headers: beside the usual ones.
            json: what is sent as JSON.
            body: makes other arguments of the request, such as files, anew for each try.

        Raises:
            Refusal: the service refuses it.
            BadInput: nobody answers, or something that is no service.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = self._timeout(given)

        def send() -> httpx.Response:
            how = {} if body is None else dict(body())
            how |= {"params": given, "headers": headers, "json": json, "timeout": timeout}
            response: httpx.Response = self._http.request(method, path, **how)
            return response

        return self.tried(send)

    def tried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """What ``send`` gives, tried again while the service does not answer well."""
        httpx = load_httpx()
        began, pause = time.monotonic(), PAUSE
        while True:
            problem: BadInput
            wait: float | None = None
            try:
                response = send()
                self._answered = True
                if response.status_code < 300:
                    return response
                problem = self._refusal(response)
                wait = _wait(response)
                if wait is None:
                    raise problem
            except httpx.TransportError as error:
                problem = unreachable(self.url, error)
            except httpx.InvalidURL:
                raise unreachable(self.url, ValueError("no such address")) from None
            left = began + self._patience() - time.monotonic()
            pause_now = max(wait or 0.0, pause * (0.5 + random.random() / 2))
            if pause_now > left:
                raise problem from None
            time.sleep(pause_now)
            pause = min(2 * pause, LONGEST_PAUSE)

    def once(self, method: str, path: str, **how: Any) -> httpx.Response:
        """The good answer to a request that is not sent again here.

        Raises:
            Refusal: the service refuses it.
            httpx.TransportError: the link breaks.
        """
        response: httpx.Response = self._http.request(method, path, **how)
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, silence: float = ANSWER
    ) -> Iterator[httpx.Response]:
        """A good answer that is read as it comes; it is not asked for again.

        Raises:
            Refusal: the service refuses it.
            httpx.TransportError: the link breaks, or nothing comes for ``silence`` seconds.
        """
        httpx = load_httpx()
        timeout = httpx.Timeout(silence, connect=CONNECT)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            self._answered = True
            if response.status_code >= 300:
                response.read()
                raise self._refusal(response)
            yield response

    def _patience(self) -> float:
        return self.patience if self._answered else min(self.patience, FIRST_PATIENCE)

    def _timeout(self, params: Mapping[str, Any]) -> httpx.Timeout:
        longer = float(params.get("wait") or 0)
        found: httpx.Timeout = load_httpx().Timeout(ANSWER + longer, connect=CONNECT)
        return found

    def _refusal(self, response: httpx.Response) -> BadInput:
        if response.status_code < 400:
            return BadInput(
                "the service is somewhere else",
                value=f"{response.status_code}, {response.headers.get('location', '')[:200]}",
                bound=f"a service at {self.url}",
                remedy="Give the URL that it leads to.",
                field="url",
            )
        return refusal_of(response)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise BadInput(
                "this is no service of understudy",
                value=f"{response.headers.get('content-type', 'nothing')[:80]} from {self.url}",
                bound="JSON",
                remedy="Mend the URL.",
                field="url",
            ) from None


def load_httpx() -> Any:
    """The module httpx.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import httpx
    except ImportError:
        raise MissingExtra("The client", "client") from None
    return httpx


def unreachable(url: str, error: Exception) -> BadInput:
    """What is said where nobody answers."""
    said = " ".join(str(error).split()) or type(error).__name__
    return BadInput(
        "the service does not answer",
        value=f"{url} ({said[:200]})",
        bound="a service that runs, such as `understudy serve`",
        remedy="Start it, or mend --url.",
        field="url",
    )


def is_passing(error: BadInput) -> bool:
    """Whether a refusal may be gone in a moment."""
    return isinstance(error, Refusal) and error.status in PASSING


def pauses() -> Iterable[float]:
    """Seconds between tries, ever longer, and never the same for all who wait."""
    pause = PAUSE
    while True:
        yield pause * (0.5 + random.random() / 2)
        pause = min(2 * pause, LONGEST_PAUSE)


def _with_key(key: Secret) -> Callable[[httpx.Request], httpx.Request]:
    def authorise(request: httpx.Request) -> httpx.Request:
        request.headers["authorization"] = f"Bearer {key.reveal()}"
        return request

    return authorise


def _wait(response: httpx.Response) -> float | None:
    """Seconds to wait before it is worth asking again; None where it is not."""
    told = response.headers.get("retry-after", "")
    seconds = float(told) if told.isdigit() else 0.0
    if response.status_code in PASSING:
        # a limit that is reached for long, such as of queued jobs, is for its user to know
        return seconds if seconds <= LONGEST_PAUSE else None
    if response.status_code == 409 and told:
        return seconds  # the first try is still being answered
    return None
