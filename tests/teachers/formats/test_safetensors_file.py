"""How a module comes by the tensors of a file: nothing is made only to be thrown away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.formats.formats import load_teacher, save_teacher
from teachers.formats.manifest import TeacherManifest
from teachers.formats.zoo import build


class Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operators give on the CPU while it is in force."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device.type == "cpu":
            self.bytes += result.nbytes
        return result


@pytest.fixture
def saved(grey8: Preprocess, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    module = build("small_cnn", input_shape=(1, 8, 8), classes=3)
    path = tmp_path / "t.safetensors"
    save_teacher(module, TeacherManifest("small_cnn", grey8, ("a", "b", "c")), path)
    return path


def test_a_file_that_does_not_fit_costs_no_memory(saved: Path) -> None:
    # with the names of a network of 146 MB and a handful of its weights, the file is 10 KB
    weights = load_file(saved)
    few = {"conv1.weight": weights["conv1.weight"], "fc.weight": weights["fc.weight"]}
    save_file(few, saved)
    manifest = saved.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"arch": "wide_resnet28_10"}))
    with Memory() as memory, pytest.raises(BadInput, match="do not fit the architecture"):
        load_teacher(saved)
    assert memory.bytes == 0


def test_a_file_that_fits_is_not_drawn_first(saved: Path) -> None:
    with Memory() as memory:
        teacher = load_teacher(saved)
    counters = sum(isinstance(part, nn.BatchNorm2d) for part in teacher.module.modules())
    # the weights are views of what was read; batch norm's counters are all that is made
    assert memory.bytes <= saved.stat().st_size + 8 * counters


def test_a_loaded_module_is_its_own_and_can_be_trained(saved: Path) -> None:
    first, second = load_teacher(saved).module, load_teacher(saved).module
    tensors = [*first.parameters(), *first.buffers()]
    assert all(tensor.device.type == "cpu" for tensor in tensors)
    assert all(weight.requires_grad and weight.is_leaf for weight in first.parameters())
    assert {tensor.dtype for tensor in first.parameters()} == {torch.float32}
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)

    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    optimiser = torch.optim.SGD(first.parameters(), lr=0.1)
    logits = first.train()(torch.randn(4, 1, 8, 8))
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert first.state_dict()["bn1.num_batches_tracked"] == 1
    assert not torch.equal(first.state_dict()["conv1.weight"], before["conv1.weight"])
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, before[name])
