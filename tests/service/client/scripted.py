"""A real HTTP server that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API = "/api/v1"


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """One answer; ``cut``: the link breaks after so many bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """JSON."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    kind = "application/json" if status < 400 else "application/problem+json"
    return Answer(status, json.dumps(value).encode(), {"content-type": kind} | given)


def problem(status: int, detail: str, **headers: str) -> Answer:
    """A problem without fields."""
    body = {"type": "urn:x", "title": "x", "status": status, "detail": detail, "errors": []}
    return answer(body, status, **headers)


class Scripted:
    """The server: ``rule`` gives the answer to each request; None breaks the link without one."""

    def __init__(self, rule: Callable[[Asked], Answer | None]) -> None:
        self.rule = rule
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                self.close_connection = True
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size) if size else self._chunks()
                headers = {name.lower(): text for name, text in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                server.asked.append(asked)
                told = server.rule(asked)
                if told is None:
                    return
                self.send_response(told.status)
                for name, text in told.headers.items():
                    self.send_header(name, text)
                if "content-length" not in told.headers:
                    self.send_header("content-length", str(len(told.body)))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(told.body if told.cut is None else told.body[: told.cut])

            def _chunks(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return b""
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815 (the library's names)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [f"{asked.method} {asked.path.removeprefix(API)}" for asked in self.asked]


@contextmanager
def serving(rule: Callable[[Asked], Answer | None]) -> Iterator[Scripted]:
    """A scripted server that is up."""
    scripted = Scripted(rule)
    server = scripted._server
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_turn(*answers: Answer | None) -> Callable[[Asked], Answer | None]:
    """These answers one after the other, the last again and again."""
    left = list(answers)

    def rule(_: Asked) -> Answer | None:
        return left.pop(0) if len(left) > 1 else left[0]

    return rule
