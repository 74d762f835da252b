"""Runs ONNX files in OpenVINO on the processor: ``python in_openvino.py FOLDER``.

In an environment of its own, with numpy and OpenVINO alone; reads and writes what in_wasm.mjs does.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    import openvino

    core, found = openvino.Core(), dict[str, Any]()
    for case in json.loads((folder / "cases.json").read_text()):
        images = np.fromfile(folder / case["input"], np.float32).reshape(case["shape"])
        try:
            # some processors would calculate in bfloat16: scores are then right to two digits
            exact = {"INFERENCE_PRECISION_HINT": "f32"} if case["exact"] else {}
            run = core.compile_model(str(folder / case["model"]), "CPU", exact)
            said = run({"image": images})
        except Exception as error:  # whatever it cannot do is one line of what came out
            found[case["name"]] = {"error": str(error)}
            continue
        found[case["name"]] = {
            "logits": _plain(said["logits"]),
            "score": _plain(said["score"]),
            "trusted": [int(value) for value in said["trusted"].ravel()],
        }
    (folder / "openvino.json").write_text(json.dumps(found))


def _plain(values: Any) -> list[float | str]:
    """JSON knows neither NaN nor infinity."""
    numbers = np.asarray(values, np.float64).ravel().tolist()
    return [value if math.isfinite(value) else repr(value) for value in numbers]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
