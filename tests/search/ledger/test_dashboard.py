"""optuna-dashboard shows a ledger as it is, while a run goes on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from search.ledger.ledger import Ledger
from tests.search.runs import LAYERS, POOL, candidate, run_of

RECORDS = [candidate(1, 50, 0.8, reward=0.25), candidate(2, 30, 0.4, pruned=True, curve=(0.4,))]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def patient(ask: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("kind", ["journal", pytest.param("sqlite", marks=pytest.mark.long)])
def test_the_dashboard_shows_the_candidates(kind: str, tmp_path: Path) -> None:
    storage = None if kind == "journal" else f"sqlite:///{tmp_path}/x.db"
    run = run_of(tmp_path / "run", RECORDS[:1], storage=storage)
    port = free_port()
    code = "from optuna_dashboard._cli import main; main()"
    place = str(run.folder.ledger) if storage is None else storage
    with (
        Ledger(run.folder.ledger, LAYERS, POOL, storage) as ledger,
        (tmp_path / "log.txt").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", code, place, "--port", str(port), "--host", "127.0.0.1"],
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:

            def get(path: str) -> Any:
                with urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=20) as answer:
                    return json.load(answer)

            (study,) = patient(lambda: get("studies"))["study_summaries"]
            assert study["study_name"].startswith("understudy")
            ledger.add(RECORDS[1])
            shown = get(f"studies/{study['study_id']}")
        finally:
            server.kill()
    assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Pruned"]
    assert shown["trials"][0]["values"] == [0.25]
    params = {p["name"]: float(p["param_external_value"]) for p in shown["trials"][0]["params"]}
    assert params == {"000_conv1": 0.5, "001_conv2": 0.0, "002_fc": 1.0}
    names = {item["key"] for item in shown["trials"][0]["user_attrs"]}
    assert {"accuracy", "kb", "macs"} <= names
