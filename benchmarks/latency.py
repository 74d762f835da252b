"""How well the latency of students is predicted: built, exported and timed, against the profile.

    python benchmarks/latency.py                          20 students of each of two networks
    python benchmarks/latency.py --students 40 --rounds 20 --plot docs/latency.png

For each network a kit is made as `understudy profile --make` does. Then random students, which are
not in the kit, are built and exported as they ship: half of them with every legal action equally
likely, half shrunk to a random size limit. Kit and students are timed in the same rounds, in random
order, in ONNX Runtime, one input, one thread; the least time of all rounds counts. The model is
fitted to the kit alone. Exports take seconds each and are kept in --cache. The last line is one
JSON object; the exit code is 1 where the median relative error is above 10 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from edge.profile import machine, profile_of
from edge.session import Session
from edge.timing import Timed, least_ms
from envs.compression.moves import PRESETS
from envs.compression.surgery import build as build_module
from envs.export.export import to_onnx
from envs.fx_import.trace import trace
from envs.graph.netspec import NetSpec
from envs.latency.kit import make_kit
from envs.latency.model import Predictor, fit
from envs.reward import ThresholdReward
from search.space.limits import Limits
from search.space.space import Actions, Space
from teachers.formats.zoo import build

NETWORKS = ("resnet18", "mobilenet_v2")
BOUND = 0.1


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--students", type=int, default=20, help="of every network")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    parser.add_argument("--cache", type=Path, default=Path("runs/latency"))
    parser.add_argument("--plot", type=Path, help="PNG of predicted against measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in args.networks:
        found[name] = measure(name, args.students, args.rounds, args.side, args.cache)
    say(f"{'network':<16}students   ms, least to most   median error   90 % below   block")
    for name, row in found.items():
        ms = np.array(row["measured"])
        say(
            f"{name:<16}{len(ms):>8}   {ms.min():>7.3f} to {ms.max():>7.3f}"
            f"{row['median_error']:>14.1%}{row['p90_error']:>13.1%}{row['block']:>8}"
        )
    everything = np.concatenate([errors(row) for row in found.values()])
    if args.plot:
        plot(found, args.plot)
    summary = {
        "benchmark": "latency",
        "machine": machine(),
        "onnxruntime": ort.__version__,
        "students": len(everything),
        "rounds": args.rounds,
        "median_relative_error": round(float(np.median(everything)), 4),
        "networks": {
            name: {key: row[key] for key in ("median_error", "p90_error", "bias", "held_out")}
            for name, row in found.items()
        },
    }
    say(json.dumps(summary))
    sys.exit(summary["median_relative_error"] > BOUND)


def measure(name: str, students: int, rounds: int, side: int, cache: Path) -> dict[str, Any]:
    """Predicted and measured milliseconds of students of one network."""
    shape = (3, side, side)
    network = trace(build(name, input_shape=shape, classes=10), shape)
    moves = PRESETS["default"]
    space = Space(network, moves, ThresholdReward())
    drawn = candidates(space, students)
    files = []
    for number, actions in enumerate(drawn, 1):
        files.append(exported(space, actions, cache / f"{name}-{side}"))
        note(f"{name}: {number} of {students} students exported")
    kit, graphs = make_kit(network, moves, name, "0" * 64)
    timed = [*(loaded(graphs[g.file], g.shape, g.held) for g in kit.graphs)]
    # what is counted is that nothing of them is loaded anew: one file is what it holds
    timed += [loaded(file.read_bytes(), shape, file.stat().st_size) for file in files]
    least: list[float] = []
    for done, ms in least_ms(timed, rounds):
        least = ms
        note(f"{name}: round {done} of {rounds}, {sum(ms):.2f} ms together")
    model = fit(profile_of(kit, least[: len(kit.graphs)], threads=1))
    predicted = Predictor(network, moves, model)(np.array(drawn))
    row: dict[str, Any] = {
        "predicted": predicted.tolist(),
        "measured": least[len(kit.graphs) :],
        "block": model.block,
        "held_out": round(model.error, 4),
    }
    off = errors(row)
    return row | {
        "median_error": round(float(np.median(off)), 4),
        "p90_error": round(float(np.quantile(off, 0.9)), 4),
        "bias": round(float(np.median(predicted / row["measured"])), 4),
    }


def candidates(space: Space, count: int) -> list[Actions]:
    """Every second one with all legal actions equally likely, the others of a random size."""
    rng = np.random.default_rng(1)
    least = max(2 * space.cost(space.smallest).kb, 20.0)
    found = []
    for number in range(count):
        actions = tuple(int(rng.choice(np.flatnonzero(mask))) for mask in space.masks)
        if number % 2:
            limit = float(np.exp(rng.uniform(np.log(least), np.log(space.teacher_cost.kb))))
            small = Space(space.teacher, space.moves, space.reward, Limits(max_kb=limit))
            actions = small.shrunk(actions)
        found.append(actions)
    return found


def exported(space: Space, actions: Actions, folder: Path) -> Path:
    """The student's ONNX file, as a bundle would hold it."""
    name = hashlib.sha256(",".join(map(str, actions)).encode()).hexdigest()[:16]
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        student: NetSpec = space.student(actions).spec
        draft = path.with_suffix(".part")
        draft.write_bytes(to_onnx(build_module(student).eval(), student.input_shape))
        draft.replace(path)
    return path


def loaded(content: bytes, shape: tuple[int, ...], held: int) -> Timed:
    """A graph in memory."""
    return Timed(lambda: Session(content, "graph.onnx"), shape, held)


def errors(row: dict[str, Any]) -> Any:
    """Relative errors of the predictions."""
    ratio: np.ndarray[Any, Any] = np.array(row["predicted"]) / np.array(row["measured"])
    return np.abs(ratio - 1.0)


def plot(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Predicted against measured, with the band of 10 %."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 4.2), dpi=110, layout="constrained")
    for (name, row), mark in zip(found.items(), "osD^v", strict=False):
        said = f"{name}: median error {row['median_error']:.1%}"
        axes.plot(row["measured"], row["predicted"], mark, ms=4, alpha=0.8, label=said)
    ends = np.array([min(min(r["measured"]) for r in found.values()) * 0.8, 0.0])
    ends[1] = max(max(r["measured"]) for r in found.values()) * 1.2
    axes.plot(ends, ends, color="0.3", lw=1)
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color="0.85", zorder=0, label="within 10 %")
    axes.set(xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms")
    axes.set(xlim=ends, ylim=ends)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
