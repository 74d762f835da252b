"""ONNX Runtime gives the logits that torch gives, repairs included."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from envs.export.export import to_onnx
from envs.fx_import.trace import trace

MOVES = Moves((0.0, 0.6, 1.0), "kdpo")
OUT, LESS, KEEP = 0, 1, 2


class Teacher(nn.Module):
    """Both kinds of pooling, a strided block, maps flattened at 3×2 pixels, a vector block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.path = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.max = nn.MaxPool2d(2, ceil_mode=True)
        self.mean = nn.AvgPool2d(2, 1, padding=1)
        self.grid = nn.AdaptiveAvgPool2d((3, 2))
        self.wide, self.mix, self.head = nn.Linear(48, 10), nn.Linear(10, 10), nn.Linear(10, 4)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.again(self.relu(self.path(x))) + self.shortcut(x))
        x = self.grid(self.mean(self.max(x)))
        x = self.relu(self.wide(torch.flatten(x, 1)))
        x = x + self.relu(self.mix(x))
        return self.head(x)  # type: ignore[no-any-return]


def compare(module: nn.Module, shape: tuple[int, ...]) -> None:
    session = ort.InferenceSession(to_onnx(module, shape), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["image"]
    assert [given.name for given in session.get_outputs()] == ["logits"]
    assert session.get_inputs()[0].shape[1:] == list(shape)
    for rows in (1, 5):
        images = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(rows))
        with torch.no_grad():
            expected = module.eval()(images).numpy()
        found = session.run(None, {"image": images.numpy()})[0]
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("actions", "repairs"),
    [
        # stem, path, again, shortcut, wide, mix, head
        ([KEEP] * 7, set()),
        # the shortcut is the stem's map: 11×8 → 6×4 takes the nearest pixels
        ([KEEP, KEEP, KEEP, OUT, KEEP, KEEP, KEEP], {"resize", "conv2d"}),
        # `paper`'s strides: the path at 11×8 meets the shortcut at 6×4
        ([LESS, LESS, LESS, KEEP, LESS, KEEP, KEEP], {"resize"}),
        # the block is gone, and with it `wide`: mix alone writes its group, and reads the maps
        ([LESS, OUT, OUT, OUT, OUT, KEEP, KEEP], {"linear"}),
    ],
)
def test_students_with_every_kind_of_repair(actions: list[int], repairs: set[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        teacher = Teacher().eval()
    spec = trace(teacher, (1, 11, 8))
    student = compress(spec, MOVES, actions)
    known = {node.name for node in spec.nodes}
    assert {node.op for node in student.spec.nodes if node.name not in known} == repairs
    compare(Inheritance.of(spec, teacher.state_dict()).student(student, 0), (1, 11, 8))


def test_the_mode_of_the_module_stays_as_it_was() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    to_onnx(net.train(), (1, 2, 2))
    assert net.training
    assert net[1].training
    assert net[1].num_batches_tracked == 0
