"""Which service is meant, and with which key: from the environment, or as ``login`` has kept it.

Keys lie in one file of the user's configuration folder that nobody else may read. A key is passed
on as a :class:`Secret`, which does not show itself in a traceback, a log or a notebook.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge.errors import BadInput
from edge.files import draft_of
from service.client.places import config_folder

URL, KEY = "UNDERSTUDY_URL", "UNDERSTUDY_KEY"
DEFAULT_URL = "http://127.0.0.1:8700"


class Secret:
    """A key that is only told to whoever asks for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def reveal(self) -> str:
        """The key itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")


@dataclass(frozen=True)
class Service:
    """A service and the key to it; ``key`` is None where it needs none."""

    url: str
    key: Secret | None


def config_file() -> Path:
    """The file that keeps services and keys."""
    return config_folder() / "services.json"


def find_service(url: str | None = None, key: str | Secret | None = None) -> Service:
    """The service that is meant, and its key.

    Args:
        url: of the service; else ``UNDERSTUDY_URL``, else the last one logged in to, else one on
            this machine.
        key: to it; else ``UNDERSTUDY_KEY`` for the service that the environment names or where it
            names none, else as ``login`` kept it.

    Raises:
        BadInput: no URL of a service.
    """
    kept = _kept()
    named = os.environ.get(URL)
    whole = base_url(url or named or kept.get("current") or DEFAULT_URL)
    given = key if isinstance(key, Secret) else Secret(key) if key else None
    if given is None and os.environ.get(KEY) and (not named or base_url(named) == whole):
        given = Secret(os.environ[KEY])
    if given is None:
        stored = kept.get("services", {}).get(whole, {}).get("key")
        given = Secret(stored) if isinstance(stored, str) and stored else None
    if given is not None and not (given.reveal().isascii() and given.reveal().isprintable()):
        raise BadInput(
            "the key cannot be used",
            value="letters that no key has",
            bound="what `understudy keys create` printed",
            remedy=f"Log in again, or set {KEY}.",
            field="key",
        )
    return Service(whole, given or None)


def base_url(url: str) -> str:
    """A service's URL in one spelling.

    Raises:
        BadInput: none.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise _bad_url("what no URL is") from None
    if parts.username or parts.password:
        raise _bad_url("a URL with a name or a password in it")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _bad_url(text[:200])
    host = parts.hostname.lower()
    host = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}"


def is_loopback(url: str) -> bool:
    """Whether nothing leaves this machine on the way to a service."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def keep(service: Service) -> Path:
    """Remember a service and its key, as the one that is meant from now on; the file.

    Raises:
        BadInput: the file cannot be written.
    """
    path = config_file()
    kept = _kept()
    services = dict(kept.get("services", {}))
    services[service.url] = {} if service.key is None else {"key": service.key.reveal()}
    text = json.dumps({"current": service.url, "services": services}, indent=1) + "\n"
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # nobody else may read it, not even between its making and a change of its mode
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(text)
        draft.replace(path)
    except OSError as error:
        raise BadInput(
            "the key cannot be kept",
            value=f"{path} ({error.strerror})",
            bound="a configuration folder that can be written",
            remedy=f"Set {URL} and {KEY} in the environment instead: both are read everywhere.",
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return path


def _kept() -> Mapping[str, Any]:
    """What the file says; nothing where there is none, or none that can be read."""
    path = config_file()
    with suppress(OSError, ValueError):
        text = path.read_text(encoding="utf-8")
        if os.name == "posix" and path.stat().st_mode & 0o077:
            with suppress(OSError):
                path.chmod(0o600)  # somebody's editor, or a restored backup
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("services", {}), dict):
            return found
    return {}


def _bad_url(value: str) -> BadInput:
    return BadInput(
        "this is no service's URL",
        value=value,
        bound=f"such as {DEFAULT_URL} or https://understudy.example.org",
        remedy=f"Mend --url or {URL}; keys belong into `understudy login` or {KEY}.",
        field="url",
    )
