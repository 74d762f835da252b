"""The main job on real data, timed: teacher → student → router → bundle.

    python benchmarks/main_job.py mnist      # ResNet-18 on MNIST, 24 candidates, at most 2,200 KB

Reads data and teachers from $UNDERSTUDY_DATA (default ../shared). Prints the table of the job and,
as its last line, one JSON object. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))

JOBS: dict[str, list[str]] = {
    "mnist": ["--budget", "24", "--max-kb", "2200"],
    "cifar10": ["--budget", "24", "--max-kb", "2200"],
}


def main() -> None:
    """Run one job and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/JOB-SEED)")
    chosen = parser.parse_args()
    out = chosen.out or Path("runs") / f"{chosen.job}-{chosen.seed}"
    command = [
        *(sys.executable, "-c", "from service.cli import main; main()", "search"),
        *("--teacher", str(DATA / "teachers" / f"resnet18_{chosen.job}.safetensors")),
        *("--data", str(DATA / "data" / chosen.job)),
        *JOBS[chosen.job],
        *("--seed", str(chosen.seed), "--out", str(out), "--json"),
        *(["--resume"] if out.exists() else []),
    ]
    start = time.monotonic()
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(finished.stdout.splitlines()[-1])
    row = {
        "job": chosen.job,
        "seed": chosen.seed,
        "resumed": "--resume" in command,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{key: result[key] for key in ("teacher", "student", "router", "pair", "candidates")},
    }
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
