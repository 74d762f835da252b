"""Guard in front of the application: hosts and origins that may talk to it, and safe headers."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Problem, response

#: what the plotting library writes into the page by itself: an empty style element, one that sizes
#: its pictures, and the attribute of a heat map's image; nothing else of that kind is let through
_ELEMENTS = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
)
_ATTRIBUTES = "'unsafe-hashes' 'sha256-AR/cKIZjWPcPmBUPDA6oti9XBiTbJvz0Cro2J1VzzS8='"
#: nothing from elsewhere, no script or style in the page itself, no frame around it
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src-elem 'self' {_ELEMENTS}; "
    f"style-src-attr {_ATTRIBUTES}; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware: refuses other hosts' names and other sites' pages, on every method.

    A page elsewhere can make a browser send requests to a service on its user's machine, by its
    address or by a name that it lets point there (DNS rebinding); both are told apart by Host and
    Origin.

    Args:
        app: behind it.
        hosts: names without port by which the service is reached; "*" for any.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a good request on, with safe headers on its answer; refuse others."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self._problem(Headers(scope=scope))
        if problem is not None:
            await response(problem)(scope, receive, send_safely)
            return
        await self.app(scope, receive, send_safely)

    def _problem(self, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self._known(host):
            return Problem(
                421,
                f"This service is not reached as {host!r}. Whoever runs it adds the name with "
                "--allowed-hosts.",
            )
        origin = headers.get("origin")
        if origin is not None:
            # the same host and port, whatever the scheme: TLS may end at a proxy
            if origin == "null" or urlsplit(origin).netloc.lower() != host.lower():
                return Problem(403, f"A page of {origin} may not talk to this service.")
        elif headers.get("sec-fetch-site") == "cross-site" and headers.get(
            "sec-fetch-mode"
        ) not in (None, "navigate"):
            return Problem(403, "A page of another site may not talk to this service.")
        return None

    def _known(self, host: str) -> bool:
        if "*" in self.hosts:
            return bool(host)
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and name.lower() in self.hosts
