"""Kills with real processes: the table stays the same, and nothing is left behind.

A few kills of each kind; `benchmarks/faults.py` does them by the dozen.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search import faults, jobs
from tests.search.faults import Evidence, Table
from tests.search.nodes import HOST, OPEN, Cluster, cluster_here
from tests.search.processes import shared_memory, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

Kill = Callable[[Path, Table, int, random.Random], Evidence]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return faults.undisturbed(tmp_path_factory.mktemp("calm") / "search")


@pytest.mark.parametrize(
    ("kill", "times"),
    [(faults.kill_workers, 3), (faults.kill_drivers, 2), (faults.kill_nodes, 2)],
    ids=["worker", "driver", "second node"],
)
def test_the_table_is_the_same_whoever_is_killed(
    tmp_path: Path, expected: Table, kill: Kill, times: int
) -> None:
    evidence = kill(tmp_path, expected, times, random.Random(0))
    assert evidence.kills == times
    assert (evidence.lost, evidence.twice, evidence.differing) == (0, 0, 0)
    assert evidence.left == []


def test_both_nodes_work_through_a_ray_client(tmp_path: Path, expected: Table) -> None:
    with cluster_here() as nodes:
        nodes.add_second()
        address = f"ray://{HOST}:{nodes.client}"
        with faults.searching(tmp_path / "search", OPEN, ray=address) as search:
            search.start()
            search.end_well()
            assert faults.table_of(search.records()) == expected
            assert "2 at a time" in search.log.read_text()


STRANGE = """
import json, sys, time
from edge.errors import BadInput
from search.execution.cluster import check_nodes, cluster

start = time.monotonic()
try:
    with cluster(sys.argv[1], 0):
        nodes = check_nodes()
except BadInput as error:
    print(json.dumps([str(error), time.monotonic() - start]))
else:
    print(json.dumps([nodes, time.monotonic() - start]))
"""


def ask(nodes: Cluster) -> tuple[object, float]:
    """What a process that joins the cluster says of its nodes, and after how many seconds."""
    answer = subprocess.run(
        [sys.executable, "-c", STRANGE, nodes.address],
        cwd=jobs.ROOT,
        env=os.environ | OPEN,
        capture_output=True,
        text=True,
        check=True,
    )
    said, seconds = json.loads(answer.stdout.splitlines()[-1])
    return said, seconds


def test_a_node_with_other_versions_is_refused_in_seconds_and_named(tmp_path: Path) -> None:
    other = tmp_path / "numpy-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    before = shared_memory()
    with cluster_here() as nodes:
        second = nodes.add_second()
        assert ask(nodes)[0] == 2
        second.kill()
        nodes.add_second({"PYTHONPATH": str(tmp_path)})
        said, seconds = ask(nodes)
        assert isinstance(said, str)
        assert "has another version of numpy" in said
        assert "numpy 1.0" in said
        assert seconds < 30
    assert wait_until(lambda: not shared_memory() - before, 10)
