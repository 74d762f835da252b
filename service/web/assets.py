"""Static files: our style and scripts, and the plotting library out of its package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from service.api.problems import Problem
from service.web.rendering import HERE

router = APIRouter(include_in_schema=False)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: addresses carry a digest or a version, so what they name never changes
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


@cache
def _plotly() -> Path:
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


@router.get("/static/{name}")
def static(name: str, request: Request) -> Response:
    """A static file."""
    path = _plotly() if name == "plotly.min.js" else HERE / "static" / name
    if "/" in name or path.suffix not in TYPES or not path.is_file():
        raise Problem(404, f"There is no file {name!r}.")
    headers = FOREVER if request.url.query else {"cache-control": "no-cache"}
    return FileResponse(path, media_type=TYPES[path.suffix], headers=headers)
