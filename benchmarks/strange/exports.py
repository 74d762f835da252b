"""How strangers hand their network over: exporters at their defaults, and a Python function.

Each writes into a folder and returns what ``--teacher`` is given.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.strange.data import Images

ROOT = Path(__file__).resolve().parents[2]


def _quietly(net: nn.Module, images: Images, path: Path, **how: Any) -> None:
    example = (torch.zeros(1, *images.shape),)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(net, example, str(path), **how)


def dynamo(net: nn.Module, images: Images, folder: Path) -> None:
    """``torch.onnx.export`` as it comes: batch norm is folded, weights lie beside the graph."""
    _quietly(net, images, folder / "teacher.onnx", dynamo=True)


def unfolded(net: nn.Module, images: Images, folder: Path) -> None:
    """The same without its optimiser, which leaves batch norm where it was."""
    _quietly(net, images, folder / "teacher.onnx", dynamo=True, optimize=False)


def preserved(net: nn.Module, images: Images, folder: Path) -> None:
    """The older exporter, told to keep batch norm."""
    preserve = torch.onnx.TrainingMode.PRESERVE
    how = {"dynamo": False, "training": preserve, "do_constant_folding": False}
    _quietly(net, images, folder / "teacher.onnx", **how)


def torchscript(net: nn.Module, images: Images, folder: Path) -> None:
    """The older exporter as it comes, with names and an open batch as tutorials show it."""
    _quietly(
        net,
        images,
        folder / "teacher.onnx",
        dynamo=False,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch_size"}, "output": {0: "batch_size"}},
    )


Export = Callable[[nn.Module, Images, Path], None]
#: those that write ``teacher.onnx``; "function" and "keras" are made by :mod:`.teachers`
EXPORTS: dict[str, Export] = {
    "dynamo": dynamo,
    "unfolded": unfolded,
    "preserved": preserved,
    "torchscript": torchscript,
}
#: those after which batch norm behind a convolution is gone
FOLDING = ("dynamo", "torchscript")

_MODULE = '''\
"""A stranger's network, as a function."""

from pathlib import Path

import torch
from benchmarks.strange.networks import NETWORKS
from edge.preprocess import Preprocess
from teachers.formats.manifest import TeacherManifest


def teacher():
    net = NETWORKS[{network!r}]({width!r}, {channels}, {classes}, {side})
    net.load_state_dict(torch.load(Path(__file__).parent / "weights.pt", weights_only=True))
    look = Preprocess({channels}, {side}, {side}, mean={mean}, std={std})
    return net, TeacherManifest({network!r}, look, {names})
'''


def function(network: str, width: float, images: Images, folder: Path, module: str) -> None:
    """A module with a function that builds the network and loads its weights."""
    channels, side, _ = images.shape
    mean, std = map(tuple, images.scale)
    text = _MODULE.format(
        network=network,
        width=width,
        channels=channels,
        classes=len(images.names),
        side=side,
        mean=mean,
        std=std,
        names=images.names,
    )
    (folder / f"{module}.py").write_text(text)


def manifest(images: Images, folder: Path) -> None:
    """The JSON beside a teacher's file."""
    mean, std = images.scale
    about = {
        "input": list(images.shape),
        "classes": len(images.names),
        "class_names": list(images.names),
        "mean": mean,
        "std": std,
    }
    (folder / "teacher.json").write_text(json.dumps(about, indent=1) + "\n")


def keras(python: str, width: float, arrays: Path, folder: Path) -> None:
    """Keras 3 on torch trains and exports, in an interpreter of its own.

    Raises:
        RuntimeError: that interpreter cannot.
    """
    script = Path(__file__).with_name("keras_teacher.py")
    command = [python, str(script), str(arrays), str(folder / "teacher.onnx"), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise RuntimeError(f"Keras in {Path(python).name}: {last}")


def has_keras(python: str | None) -> str:
    """Why there is no Keras in that interpreter; empty where there is."""
    code = "import os; os.environ['KERAS_BACKEND'] = 'torch'; import keras, onnx, onnxscript"
    try:
        done = subprocess.run(
            [python or sys.executable, "-c", code], capture_output=True, text=True
        )
    except OSError as error:
        return f"no such interpreter: {error.strerror}"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
