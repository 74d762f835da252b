"""Who asks, and what they may do: keys, sessions of the page, and the rule of every route."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from edge.errors import BadInput
from edge.files import write_bytes
from service.api.problems import Problem
from service.api.settings import Settings
from service.jobs.model import Key, Limits, Scope
from service.jobs.store import Store

COOKIE = "understudy_session"
CSRF_HEADER = "x-csrf-token"
#: seconds that a session of the page lasts
SESSION = 12 * 3600
#: of a service that only its own machine reaches, and that has no keys
LOCAL_TENANT = "local"
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes:
        tenant: whose jobs, teachers and data these are.
        who: id of the key, or "local".
        scope: what they may do.
        limits: of their uploads and jobs.
        csrf: token that a change by way of a browser has to bring; None for whoever has a key.
    """

    tenant: str
    who: str
    scope: Scope
    limits: Limits
    csrf: str | None = None


class Sessions:
    """Signed cookies of the page: the id of a key, or of nobody on a service without keys.

    Args:
        folder: of the service, which keeps the secret that signs them.
        secure: cookies over HTTPS alone.
    """

    def __init__(self, folder: Path, secure: bool) -> None:
        path = folder / "session.secret"
        if not path.exists():
            write_bytes(path, secrets.token_bytes(32))
            path.chmod(0o600)
        self._secret = path.read_bytes()
        self._signer = URLSafeTimedSerializer(self._secret, salt="session")
        self.secure = secure

    def begin(self, response: Response, key: Key | None) -> str:
        """Give the browser a session of a key, or of nobody where none is needed; its token."""
        id_ = secrets.token_hex(16)
        named = None if key is None else [key.tenant, key.id]
        token = self._signer.dumps({"key": named, "id": id_})
        response.set_cookie(
            COOKIE,
            token,
            max_age=SESSION,
            httponly=True,
            samesite="strict",
            secure=self.secure,
            path="/",
        )
        return self.csrf(id_)

    def read(self, request: Request) -> tuple[list[str] | None, str] | None:
        """[tenant, key id] and CSRF token of a request's session; None where it has no good one."""
        token = request.cookies.get(COOKIE)
        if token is None:
            return None
        try:
            session = self._signer.loads(token, max_age=SESSION)
        except BadSignature:
            return None
        return session["key"], self.csrf(str(session["id"]))

    def csrf(self, session_id: str) -> str:
        """The token that belongs to a session and to no other."""
        return hmac.new(self._secret, f"csrf {session_id}".encode(), "sha256").hexdigest()


class Authenticator:
    """Finds out who asks.

    Args:
        store: knows the keys.
        settings: whether other machines can reach the service, and the usual limits.
        sessions: of the page.
    """

    def __init__(self, store: Store, settings: Settings, sessions: Sessions) -> None:
        self.store, self.settings, self.sessions = store, settings, sessions

    def principal(self, request: Request) -> Principal | None:
        """Who asks, by key, by session, or as the only user of an own machine; else None."""
        header = request.headers.get("authorization", "")
        if header:
            kind, _, secret = header.partition(" ")
            key = self.store.find_key(secret.strip()) if kind.lower() == "bearer" else None
            return None if key is None else self._of_key(key)
        session = self.sessions.read(request)
        if session is not None and session[0] is not None:
            key = self.store.get_key(*session[0])
            good = key is not None and key.revoked_at is None
            return replace(self._of_key(key), csrf=session[1]) if good and key else None
        if not self.open_to_all:
            return None
        csrf = None if session is None else session[1]
        return Principal(LOCAL_TENANT, "local", Scope.ADMIN, self.settings.limits, csrf)

    @property
    def open_to_all(self) -> bool:
        """Whether no key is needed: nobody else reaches the service, and nobody has made one."""
        return self.settings.loopback and not self.store.has_keys()

    def _of_key(self, key: Key) -> Principal:
        usual, own = self.settings.limits, key.limits
        limits = Limits(
            usual.bytes if own.bytes is None else own.bytes,
            usual.queued if own.queued is None else own.queued,
            own.running,
        )
        return Principal(key.tenant, key.id, key.scope, limits)


class Needs:
    """The rule of a route: the scope that it takes."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, request: Request) -> Principal:
        """Who asks, if they may.

        Raises:
            Problem: 401 without a good key, 403 where it may not, or where a change by way of a
                browser lacks its token.
        """
        authenticator: Authenticator = request.app.state.authenticator
        principal = authenticator.principal(request)
        if principal is None:
            raise Problem(
                401,
                "This service needs a key: send it as 'Authorization: Bearer KEY'. Whoever runs "
                "the service makes one with `understudy keys create`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not principal.scope.includes(self.scope):
            raise Problem(403, f"The key has the scope {principal.scope}; this needs {self.scope}.")
        if request.method not in SAFE and principal.csrf is not None:
            given = request.headers.get(CSRF_HEADER) or request.query_params.get("csrf")
            check_token(given, principal.csrf)
        request.state.principal = principal
        return principal


def check_token(given: str | None, csrf: str | None) -> None:
    """Refuse a change by way of a browser that does not come from a page of its session.

    Raises:
        Problem: 403.
    """
    if csrf is None or not hmac.compare_digest((given or "").encode(), csrf.encode()):
        raise Problem(
            403,
            "A change from the page has to bring the page's token; reload the page and try again.",
            kind="csrf-token-missing",
        )


Reader = Annotated[Principal, Depends(Needs(Scope.READ))]
Submitter = Annotated[Principal, Depends(Needs(Scope.SUBMIT))]
Admin = Annotated[Principal, Depends(Needs(Scope.ADMIN))]


def check_exposure(store: Store, settings: Settings) -> None:
    """Refuse to be reached by other machines while anybody may do anything.

    Raises:
        BadInput: no key has been made.
    """
    if settings.loopback or store.has_keys():
        return
    raise BadInput(
        "a service that other machines can reach needs a key",
        value=f"--host {settings.host}, and no key",
        bound="a key, or --host 127.0.0.1",
        remedy="Make one first: understudy keys create --scope admin --name me "
        f"--folder {settings.folder}.",
        field="host",
    )
