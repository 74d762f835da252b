"""The main job on real data, timed: teacher → student → router → bundle.

    python benchmarks/main_job.py mnist      # ResNet-18 on MNIST, 24 candidates, at most 2,200 KB

Reads data and teachers from $UNDERSTUDY_DATA (default ../shared). Prints the table of the job and,
as its last line, one JSON object, with the seconds per candidate and the peak of the memory that
all processes of the job hold together. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.search.processes import descendants

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared"))

JOBS: dict[str, list[str]] = {
    "mnist": ["--budget", "24", "--max-kb", "2200"],
    "cifar10": ["--budget", "24", "--max-kb", "2200"],
}
SECONDS_BETWEEN = 2.0


class Memory(threading.Thread):
    """Watches a process and all below it.

    Attributes:
        resident: peak of the sum of resident memory, MB: pages that processes share count for each.
        proportional: peak of the sum in which a shared page counts once (PSS), MB.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.resident = self.proportional = 0.0
        self._end = threading.Event()

    def run(self) -> None:
        """Look now and then until told to stop."""
        while not self._end.wait(SECONDS_BETWEEN):
            pids = [self.root, *(pid for pid, _ in descendants(self.root))]
            sizes = [_memory(pid) for pid in pids]
            self.resident = max(self.resident, sum(size[0] for size in sizes))
            self.proportional = max(self.proportional, sum(size[1] for size in sizes))

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self.join()


def _memory(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of one process, MB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0, 0.0
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return sizes.get("Rss", 0.0), sizes.get("Pss", 0.0)


def _candidates(out: Path) -> list[float]:
    """Seconds of training of every candidate in the ledger."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(out / "ledger.journal")))
    trials = optuna.load_study(study_name="understudy", storage=storage).trials
    return [float(trial.user_attrs["seconds"]) for trial in trials]


def main() -> None:
    """Run one job and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/JOB-SEED)")
    chosen, further = parser.parse_known_args()
    out = chosen.out or Path("runs") / f"{chosen.job}-{chosen.seed}"
    command = [
        *(sys.executable, "-c", "from service.cli.main import main; main()", "search"),
        *("--teacher", str(DATA / "teachers" / f"resnet18_{chosen.job}.safetensors")),
        *("--data", str(DATA / "data" / chosen.job)),
        *JOBS[chosen.job],
        *("--seed", str(chosen.seed), "--out", str(out), "--json"),
        *(["--resume"] if out.exists() else []),
        *further,
    ]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = Memory(process.pid)
    memory.start()
    output, _ = process.communicate()
    memory.stop()
    if process.returncode:
        sys.exit(process.returncode)
    result = json.loads(output.splitlines()[-1])
    seconds = _candidates(out)
    row: dict[str, Any] = {
        "job": chosen.job,
        "seed": chosen.seed,
        "resumed": "--resume" in command,
        "further_options": further,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "seconds_per_candidate": round(statistics.mean(seconds), 2),
        "seconds_per_candidate_median": round(statistics.median(seconds), 2),
        "peak_resident_mb": round(memory.resident),
        "peak_proportional_mb": round(memory.proportional),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{key: result[key] for key in ("teacher", "student", "router", "pair", "candidates")},
    }
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
