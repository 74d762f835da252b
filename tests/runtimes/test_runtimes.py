"""Pairs decide alike in other runtimes: OpenVINO, and ONNX Runtime's WebAssembly build in Node.

``make test-runtimes`` installs both in a folder of their own and runs this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.export.tidy import operators_of
from routers.onnx import export
from routers.onnx.pair import with_threshold
from tests.runtimes.pairs import (
    Cell,
    every_cell,
    images,
    pair_of,
    pairwise,
    parts_say,
    poisoned,
    threshold_of,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
#: where `make test-runtimes` puts them
RUNTIMES = Path(os.environ.get("UNDERSTUDY_RUNTIMES", HERE.parents[1] / ".runtimes"))
#: domains that a runtime lacks: there a manifest that names one says that the pair cannot run
LACKS = {"openvino": {"ai.onnx.ml"}, "wasm": set[str]()}
CELLS = pairwise(every_cell())
SOUND, BAD = 200, 1_000
#: as far as runtimes round apart
NEAR = 1e-4

Said = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every pair of the cover as a file, with images that are sound, and 1,000 that are not."""
    made = tmp_path_factory.mktemp("runtimes")
    sound, bad = images(SOUND, seed=11), poisoned(BAD, seed=12)
    sound.tofile(made / "sound.bin")
    bad.tofile(made / "bad.bin")
    cases = []
    for cell in CELLS:
        pair = pair_of(cell)
        (made / f"{cell}.sound.onnx").write_bytes(pair)
        # a threshold below every score: what is trusted then is all that can be
        lowest = with_threshold(pair, float(np.finfo(np.float32).min))
        (made / f"{cell}.bad.onnx").write_bytes(lowest)
        for kind, exact, rows in (("sound", True, sound), ("bad", True, bad), ("bad", False, bad)):
            cases.append(
                {
                    "name": f"{cell}.{kind}" + ("" if exact else ".as it likes"),
                    "model": f"{cell}.{kind}.onnx",
                    "input": f"{kind}.bin",
                    "shape": list(rows.shape),
                    "exact": exact,
                }
            )
    (made / "cases.json").write_text(json.dumps(cases))
    return made


@pytest.fixture(scope="module", params=sorted(LACKS))
def said(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Said]:
    """What a runtime says of all of them."""
    runtime: str = request.param
    done = subprocess.run(
        _command(runtime, folder), capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return runtime, json.loads((folder / f"{runtime}.json").read_text())


def _command(runtime: str, folder: Path) -> list[str]:
    if runtime == "openvino":
        python = RUNTIMES / "openvino" / "bin" / "python"
        if not python.exists():
            pytest.skip(f"no OpenVINO in {RUNTIMES}: make test-runtimes installs it")
        return [str(python), str(HERE / "in_openvino.py"), str(folder)]
    node, modules = shutil.which("node"), RUNTIMES / "web"
    if node is None or not (modules / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip(f"no Node, or no onnxruntime-web in {RUNTIMES}: make test-runtimes installs it")
    return [node, str(HERE / "in_wasm.mjs"), str(folder), str(modules)]


def _runs(cell: Cell, runtime: str) -> bool:
    return not LACKS[runtime] & set(operators_of(pair_of(cell)))


def test_decisions_are_those_of_onnx_runtime(said: tuple[str, Said]) -> None:
    runtime, found = said
    rows, differing = images(SOUND, seed=11), dict[str, list[int]]()
    for cell in CELLS:
        answer = found[f"{cell}.sound"]
        if not _runs(cell, runtime):
            assert "error" in answer, f"{cell} runs, though {runtime} is said to lack its domain"
            continue
        assert "error" not in answer, f"{cell}: {answer.get('error')}"
        (trusted,) = export._session(pair_of(cell)).run(["trusted"], {"image": rows})
        logits, score = parts_say(cell, rows)
        apart = np.abs(np.array(answer["logits"]).reshape(logits.shape) - logits).max(axis=1)
        # a step of quantisation that falls the other way, as one value in thousands may
        stepped = apart > NEAR
        assert stepped.mean() <= (0 if cell.precision == "fp32" else 0.02), str(cell)
        far = np.abs(score.astype(np.float64) - threshold_of(cell)) > NEAR
        other = np.flatnonzero((np.array(answer["trusted"], bool) != trusted) & far & ~stepped)
        if len(other):
            differing[str(cell)] = other.tolist()
    assert not differing


def test_no_image_with_nan_or_infinity_is_trusted(said: tuple[str, Said]) -> None:
    runtime, found = said
    trusting = {
        f"{cell}{how}": int(np.sum(found[f"{cell}.bad{how}"]["trusted"]))
        for cell in CELLS
        for how in ("", ".as it likes")
        if _runs(cell, runtime)
    }
    assert len(trusting) > 40
    assert not {name: count for name, count in trusting.items() if count}


def test_what_is_portable_runs_everywhere(said: tuple[str, Said]) -> None:
    runtime, _ = said
    for cell in CELLS:
        if cell.portable or not cell.features:
            assert _runs(cell, runtime)
