"""Every network of the zoo, exported by either exporter of torch, comes back as a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from teachers.formats.zoo import ARCHITECTURES, build
from tests.teachers.formats.test_zoo import settled

SHAPE, CLASSES = (3, 32, 32), 4
pytestmark = [
    # what torch's own exporters warn of
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:torch.jit.TracerWarning"),
]


def _images(rows: int) -> Tensor:
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(7))


def _dynamo(module: nn.Module, path: Path) -> None:
    program = torch.onnx.export(
        module,
        (_images(2),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    assert program is not None
    # weights beside the model, as the exporter writes large ones
    program.save(path, external_data=True)


def _torchscript(module: nn.Module, path: Path) -> None:
    torch.onnx.export(
        module,
        (_images(2),),
        path,
        dynamo=False,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
    )


EXPORTERS: dict[str, Callable[[nn.Module, Path], None]] = {
    "dynamo": _dynamo,
    "torchscript": _torchscript,
}
#: the default exporter takes long for most; these two show that it is understood
AT_ONCE = {("dynamo", "small_cnn"), ("torchscript", "shufflenet_v2_x0_5")}


def _logits(path: Path, images: Tensor) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images.numpy()})[
        0
    ]
    return found


@pytest.mark.parametrize(
    ("exporter", "arch"),
    [
        pytest.param(
            exporter, arch, marks=[] if (exporter, arch) in AT_ONCE else [pytest.mark.long]
        )
        for arch in ARCHITECTURES
        for exporter in EXPORTERS
    ],
)
@pytest.mark.timeout(600)
def test_an_exported_network_of_the_zoo_is_a_teacher(
    exporter: str, arch: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{arch}.onnx"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = settled(build(arch, input_shape=SHAPE, classes=CLASSES), SHAPE)
    EXPORTERS[exporter](module, path)
    del module  # CloudCNN's is half a gigabyte
    manifest = {"input": SHAPE, "classes": CLASSES, "mean": [0.5] * 3, "std": [0.25] * 3}
    path.with_suffix(".json").write_text(json.dumps(manifest))

    teacher = load_teacher(path)
    for rows in (1, 3):
        images = _images(rows)
        expected = _logits(path, images)
        with torch.no_grad():
            found = teacher.module(images).numpy()
        assert expected.shape == found.shape == (rows, CLASSES)
        assert np.abs(expected).max() > 1e-4
        bound = 1e-4 * max(1.0, float(np.abs(expected).max()))
        assert np.abs(found - expected).max() <= bound
    for file in tmp_path.iterdir():
        file.unlink()
    described = understand(teacher)  # raises where the description gives other logits
    assert described.network.classes == CLASSES
