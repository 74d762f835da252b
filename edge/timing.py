"""How long ONNX graphs take for one input, on a machine that may have other things to do.

Graphs are timed in turns, round after round, and the least time of each counts: whatever else runs
makes a graph slower and never faster. With one thread the clock is that of the thread's own time
on the processor (where the system has a good one), so that what it waits for others does not count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import BadInput
from edge.kit import Kit, read_graph
from edge.session import FloatArray, Session

#: seconds that a graph runs for in a round, and the fewest and most runs in it
VISIT = 0.004
FEWEST, MOST = 4, 64
#: bytes of weights that stay loaded; graphs beyond them are loaded anew in every round
HELD = 256_000_000


@dataclass(frozen=True)
class Timed:
    """A graph to be timed.

    Attributes:
        load: reads and opens it.
        shape: of its one input without the batch axis.
        held: bytes that it takes while it is open.
    """

    load: Callable[[], Session]
    shape: tuple[int, ...]
    held: int


def timed_kit(folder: Path, kit: Kit, threads: int) -> list[Timed]:
    """The graphs of a kit, whose files are checked when they are loaded."""

    def loader(place: int) -> Callable[[], Session]:
        graph = kit.graphs[place]
        return lambda: Session(read_graph(folder, graph), graph.file, threads=threads)

    return [Timed(loader(place), graph.shape, graph.held) for place, graph in enumerate(kit.graphs)]


def least_ms(
    graphs: Sequence[Timed], rounds: int, threads: int = 1
) -> Iterator[tuple[int, list[float]]]:
    """Time graphs, round after round.

    Args:
        graphs: to be timed.
        rounds: how often each has its turn.
        threads: that the sessions were opened with.

    Yields:
        rounds done, and the least milliseconds of every graph so far.

    Raises:
        BadInput: a graph that does not load or run.
    """
    rng = np.random.default_rng(0)
    clock = clock_of(threads)
    kept: dict[int, Session] = {}
    room = HELD
    least = [float("inf")] * len(graphs)
    for done in range(1, rounds + 1):
        for place in map(int, rng.permutation(len(graphs))):
            graph = graphs[place]
            session = kept.get(place)
            if session is None:
                session = graph.load()
                if graph.held <= room or len(graphs) == 1:
                    kept[place], room = session, room - graph.held
            least[place] = min(least[place], _visit(session, graph.shape, clock))
        yield done, list(least)


def time_file(path: Path, threads: int, rounds: int) -> float:
    """Least milliseconds that a network in an ONNX file takes for one input.

    Raises:
        BadInput: no such file, one that does not load, or whose input is not of one fixed size.
    """
    session = Session(path, path.name, threads=threads)
    shape = session.inputs[0].shape[1:] if session.inputs else ()
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape) or not shape:
        raise BadInput(
            f"{path.name} has no input to be timed with",
            value="; ".join(map(str, session.inputs)) or "no input",
            bound="one input whose sizes are fixed but for the first",
            remedy="Time the student.onnx of a bundle.",
        )
    session.only_input(sizes)
    *_, (_, (ms,)) = least_ms([Timed(lambda: session, sizes, held=0)], rounds, threads)
    return ms


def clock_of(threads: int) -> Callable[[], int]:
    """Nanoseconds, of this thread alone where that says all."""
    alone = threads == 1 and sys.platform.startswith("linux")
    return time.thread_time_ns if alone else time.perf_counter_ns


def _visit(session: Session, shape: tuple[int, ...], clock: Callable[[], int]) -> float:
    """Least milliseconds of a few runs, after one that warms up."""
    # neither 0 nor so small that products of it fall below what a float holds with full precision
    row: FloatArray = np.linspace(0.1, 1, int(np.prod(shape)), dtype=np.float32)
    run = session.runner(row.reshape(1, *shape))
    run()
    least, runs, end = float("inf"), 0, time.perf_counter() + VISIT
    while runs < FEWEST or (runs < MOST and time.perf_counter() < end):
        start = clock()
        run()
        least = min(least, (clock() - start) / 1e6)
        runs += 1
    return least
