"""A service's scheduler as a process of its own, to be killed: ``URL FOLDER JOBS``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from service.jobs.local import LocalRunner
from service.jobs.scheduler import Scheduler
from service.jobs.store import Store

if __name__ == "__main__":
    url, folder, jobs = sys.argv[1:]
    scheduler = Scheduler(Store.open(url), Path(folder), LocalRunner(), jobs=int(jobs))
    scheduler.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)
