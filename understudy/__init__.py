"""The front door: from a teacher to a bundle, and everything that comes of it, in one import.

``understudy.search(teacher, data, max_kb=22)`` gives a :class:`Run`; ``understudy.open(path)``
opens a run or a bundle, ``understudy.Client(url)`` a service. Each name is loaded when it is first
used: importing the package costs next to nothing, and a device that runs bundles needs no torch.

The packages beside this one have plain names (:data:`understudy.own.PACKAGES`), as projects have
too. Whoever imports this first gets understudy's, whatever lies beside their script.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from understudy.own import first

if TYPE_CHECKING:
    from edge.errors import BadInput, MissingExtra, Unfinished
    from understudy.bundles import Bundle, Prediction
    from understudy.remote import Client, RemoteRun
    from understudy.rerankings import Reranking
    from understudy.runs import Run, open  # noqa: A004 (as in PIL.Image.open)
    from understudy.searching import search

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "Bundle",
    "Client",
    "MissingExtra",
    "Prediction",
    "RemoteRun",
    "Reranking",
    "Run",
    "Unfinished",
    "open",
    "search",
]

#: name → module that holds it
_PLACES = {
    "BadInput": "edge.errors",
    "Bundle": "understudy.bundles",
    "Client": "understudy.remote",
    "MissingExtra": "edge.errors",
    "Prediction": "understudy.bundles",
    "RemoteRun": "understudy.remote",
    "Reranking": "understudy.rerankings",
    "Run": "understudy.runs",
    "Unfinished": "edge.errors",
    "open": "understudy.runs",
    "search": "understudy.searching",
}

first()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
