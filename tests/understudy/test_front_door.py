"""One import: what it costs, what it offers, and what works without the extras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import understudy
from tests.service.client.services import finished_run

ROOT = Path(__file__).resolve().parents[2]
#: what the base install lacks
EXTRAS = ("torch", "ray", "sklearn", "xgboost", "optuna", "gymnasium", "onnx", "pyarrow", "pandas",
          "matplotlib", "safetensors", "httpx", "jinja2", "sqlalchemy", "fastapi")  # fmt: skip
BLOCKED = f"""
import importlib.abc, sys
sys.path.insert(0, {str(ROOT)!r})
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name in {EXTRAS!r} else found(name, package))
"""


def python(code: str, folder: Path, *options: str) -> str:
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=folder, capture_output=True,
                          text=True, timeout=100)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_takes_next_to_no_time_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); start = time.process_time()\n"
        "import understudy; print(time.process_time() - start)\n"
        f"print(*[name for name in {(*EXTRAS, 'numpy', 'pydantic')!r} if name in sys.modules])"
    )
    seconds, loaded = python(code, tmp_path).splitlines()
    assert float(seconds) < 0.2
    assert loaded == ""


def test_every_name_is_there_once_it_is_asked_for() -> None:
    for name in understudy.__all__:
        assert getattr(understudy, name).__name__ == name
        assert name in dir(understudy)
    assert set(understudy._PLACES) == set(understudy.__all__)
    assert issubclass(understudy.BadInput, ValueError)
    with pytest.raises(AttributeError, match="module 'understudy' has no attribute 'find'"):
        understudy.find  # noqa: B018


def test_a_submodule_does_not_take_the_place_of_a_function() -> None:
    import understudy.remote
    import understudy.searching

    assert callable(understudy.open)
    assert callable(understudy.search)


def test_the_base_install_opens_runs_and_bundles(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    code = BLOCKED + (
        "import numpy as np, json, understudy\n"
        "run = understudy.open('run'); bundle = understudy.open('run/bundle')\n"
        "answer, = bundle.predict(np.array([[[255], [0]]], np.uint8))\n"
        "said = [repr(run), run.verdict, answer.class_name, answer.appeal, run._repr_html_()]\n"
        "for use in (lambda: run.rows, lambda: run.candidates, lambda: run.student(),\n"
        "            lambda: run.rerank(max_kb=1), lambda: run.resume(), lambda: run.route(),\n"
        "            lambda: understudy.search('t', 'd'), lambda: understudy.Client('http://x')):\n"
        "    try:\n        use()\n"
        "    except understudy.MissingExtra as error:\n        said.append(error.extra)\n"
        "print(json.dumps(said))\n"
    )
    said = json.loads(python(code, tmp_path))
    assert said[0].startswith("Run('run': 4 candidates")
    assert said[2:4] == ["left", False]
    assert said[5:] == ["search", "client", "search", "search", "search", "search", "search",
                        "client"]  # fmt: skip


@pytest.mark.parametrize("there", ["", "folder", "notes.txt"])
def test_what_is_neither_a_run_nor_a_bundle_is_refused(there: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(understudy.BadInput, match="neither a run nor a bundle"):
        understudy.open(tmp_path / (there or "missing"))


@pytest.mark.long  # minutes by itself; .ci/run asks for it by name
@pytest.mark.timeout(900)
def test_the_way_in_from_python_in_the_readme(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# from Python\n.*?)```", readme, re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 6
    script = tmp_path / "job.py"  # as it stands there: without `if __name__ == "__main__"`
    script.write_text(code, encoding="utf-8")
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    run = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path('job.py')"
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True,
                          timeout=800)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Prediction(label=" in done.stdout
    assert (tmp_path / "runs" / "digits-1" / "bundle" / "manifest.json").is_file()
