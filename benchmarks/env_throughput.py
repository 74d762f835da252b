"""How fast the environment answers: costs from actions alone, steps, and building a student.

    python benchmarks/env_throughput.py                 every architecture of the zoo
    python benchmarks/env_throughput.py resnet18 vgg11  some of them

One thread. Costs are asked in batches of 256 action vectors, every legal action equally likely,
as imagined episodes ask them. A step is one layer's decision, so the last step of an episode has
the cost in it. Building means :func:`envs.compression.resolve.compress` and
:meth:`Inheritance.student`, with the teacher's weights. Each figure is the median of several runs.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from envs.compression.cost import costs
from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS, Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from envs.fx_import.trace import describe
from envs.graph.netspec import NetSpec
from envs.gym.compression import CompressionEnv
from envs.gym.vector import CompressionVectorEnv
from envs.reward import ThresholdReward
from teachers.formats.zoo import ARCHITECTURES, build

BATCH = 256
RUNS = 5
EPISODES = 4


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(ARCHITECTURES), metavar="NETWORK")
    parser.add_argument("--preset", default="default", choices=list(PRESETS))
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    args = parser.parse_args()
    torch.set_num_threads(1)
    say(f"{'network':<20} layers   costs/s   steps/s    batched      ×    build")
    found: dict[str, dict[str, float]] = {}
    for name in args.networks:
        found[name] = row = measure(name, PRESETS[args.preset], (3, args.side, args.side))
        say(
            f"{name:<20}{row['layers']:>7.0f}{row['costs']:>10,.0f}{row['steps']:>10,.0f}"
            f"{row['vector_steps']:>11,.0f}{row['vector_steps'] / row['steps']:>7.0f}"
            f"{1000 * row['build_s']:>6.0f} ms"
        )
    say(json.dumps(summary(found, args.preset, args.side)))


def say(line: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(name: str, moves: Moves, shape: tuple[int, int, int]) -> dict[str, float]:
    """All figures of one network."""
    torch.manual_seed(0)
    traced = describe(build(name, input_shape=shape, classes=10), shape)
    spec = traced.spec
    inheritance = Inheritance.of(spec, traced.weights)
    rng = np.random.default_rng(0)
    layers = len(anatomy(spec).layers)
    costs(spec, moves, draw(spec, moves, rng, 2))  # the first query works out what all share
    actions = draw(spec, moves, rng, BATCH)
    single = CompressionEnv(spec, moves, ThresholdReward())
    vector = CompressionVectorEnv(spec, moves, ThresholdReward(), num_envs=BATCH)
    few = iter(draw(spec, moves, rng, RUNS).tolist())
    return {
        "layers": layers,
        "costs": BATCH / median(lambda: costs(spec, moves, actions)),
        "steps": EPISODES * layers / median(lambda: play(single, actions[:EPISODES])),
        "vector_steps": BATCH * layers / median(lambda: play_all(vector, actions)),
        "build_s": median(lambda: inheritance.student(compress(spec, moves, next(few)), 0)),
    }


def draw(spec: NetSpec, moves: Moves, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Action vectors, every legal action equally likely, shape (count, layers)."""
    masks = moves.masks(anatomy(spec).layers)
    columns = [rng.choice(np.flatnonzero(mask), count) for mask in masks]
    return np.stack(columns, axis=1)


def play(env: CompressionEnv, actions: NDArray[np.int64]) -> None:
    """Whole episodes, one after the other."""
    for episode in actions:
        env.reset()
        for action in episode:
            env.step(action)


def play_all(env: CompressionVectorEnv, actions: NDArray[np.int64]) -> None:
    """A whole episode of every environment."""
    env.reset()
    for column in actions.T:
        env.step(column)


def median(work: Callable[[], Any]) -> float:
    """Seconds, the median of several runs."""
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def summary(found: dict[str, dict[str, float]], preset: str, side: int) -> dict[str, Any]:
    """What the JSON line says."""

    def each(key: str) -> dict[str, float]:
        return {name: round(row[key], 4) for name, row in found.items()}

    return {
        "benchmark": "env_throughput",
        "preset": preset,
        "side": side,
        "batch": BATCH,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cost_queries_per_s": each("costs"),
        "steps_per_s": each("steps"),
        "vector_steps_per_s": each("vector_steps"),
        "build_s": each("build_s"),
        "slowest_cost_queries_per_s": min(row["costs"] for row in found.values()),
        "least_vector_speedup": min(row["vector_steps"] / row["steps"] for row in found.values()),
    }


if __name__ == "__main__":
    main()
