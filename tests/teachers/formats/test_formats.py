from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.formats.formats import FORMATS, check_teacher, load_teacher, save_teacher
from teachers.formats.manifest import TeacherManifest
from teachers.formats.zoo import build


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(1)
    return build("small_cnn", input_shape=(1, 8, 8), classes=3).eval()


@pytest.fixture
def saved(module: nn.Module, grey8: Preprocess, tmp_path: Path) -> Path:
    manifest = TeacherManifest("small_cnn", grey8, ("a", "b", "c"), "last 5", {"test": 0.5})
    path = tmp_path / "deep" / "t.safetensors"
    save_teacher(module, manifest, path)
    return path


def _rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def test_a_saved_teacher_comes_back_whole(saved: Path, module: nn.Module) -> None:
    teacher = load_teacher(saved)
    assert teacher.manifest == check_teacher(saved)
    assert teacher.manifest.unseen == "last 5"
    assert teacher.name == "t"
    assert teacher.fingerprint == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert not teacher.module.training
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(teacher.module(x), module(x))


def test_saving_leaves_two_files_and_no_temporary_ones(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["t.json", "t.safetensors"]


def test_a_write_that_fails_leaves_the_old_file(
    saved: Path, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        save_teacher(build("small_cnn", input_shape=(1, 8, 8), classes=3), _manifest(saved), saved)
    assert saved.read_bytes() == before


def _manifest(path: Path) -> TeacherManifest:
    return check_teacher(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_stored_otherwise_are_loaded_into_float32(saved: Path, kind: torch.dtype) -> None:
    exact = load_file(saved)["conv1.weight"]
    _rewrite(saved, lambda s: s.update({k: v.to(kind) for k, v in s.items() if v.ndim}))
    weight = load_teacher(saved).module.state_dict()["conv1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, exact.to(kind).float())


def test_batch_norms_counters_may_be_missing(saved: Path, module: nn.Module) -> None:
    def drop(state: dict[str, Tensor]) -> None:
        for name in [name for name in state if name.endswith("num_batches_tracked")]:
            del state[name]

    _rewrite(saved, drop)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(load_teacher(saved).module(x), module(x))


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_teacher(saved)
    assert torch.equal(torch.rand(1), expected)


def test_a_missing_file_names_the_accepted_forms(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not found.*nowhere.*\.onnx, \.safetensors"):
        check_teacher(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("name", ["t.pt", "t.pth", "t.bin", "t.PKL"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadInput, match=r"never opened.*save_file.*ONNX"):
        check_teacher(tmp_path / name)


def test_an_unknown_suffix_names_the_accepted_ones(tmp_path: Path) -> None:
    (tmp_path / "t.h5").write_bytes(b"")
    with pytest.raises(BadInput, match=r"t\.h5.*\.safetensors"):
        check_teacher(tmp_path / "t.h5")
    assert list(FORMATS) == [".onnx", ".safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 100, 20_000, -1])
def test_a_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        check_teacher(saved)


def test_a_text_file_is_no_model(saved: Path) -> None:
    saved.write_text("this is not a model, whatever its name says")
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        check_teacher(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_name_the_tensor(saved: Path, value: float) -> None:
    _rewrite(saved, lambda s: s["bn3.weight"].__setitem__(5, value))
    with pytest.raises(BadInput, match=r"bn3\.weight is not finite: got 1 NaN"):
        check_teacher(saved)


def test_the_last_layer_must_have_the_manifests_classes(saved: Path) -> None:
    _edit(saved, classes=4, class_names=list("abcd"))
    with pytest.raises(BadInput, match=r"fc\.weight.*3 outputs.*expected 4"):
        check_teacher(saved)


def test_the_first_layer_must_have_the_manifests_channels(saved: Path) -> None:
    _edit(saved, input=[3, 8, 8], mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(BadInput, match=r"conv1\.weight.*1 input channels.*expected 3"):
        check_teacher(saved)


def test_an_unknown_architecture_is_refused_early(saved: Path) -> None:
    _edit(saved, arch="vgg99")
    with pytest.raises(BadInput, match=r"'vgg99'.*resnet18"):
        check_teacher(saved)


def _edit(path: Path, **changes: object) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_quantised_weights_are_refused(saved: Path) -> None:
    _rewrite(saved, lambda s: s.update({"conv2.weight": s["conv2.weight"].to(torch.int8)}))
    with pytest.raises(BadInput, match=r"conv2\.weight.*I8"):
        check_teacher(saved)


def test_missing_unexpected_and_misshapen_weights_are_named(saved: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        state["extra.weight"] = torch.zeros(2)
        del state["bn2.bias"]
        state["conv4.weight"] = torch.zeros(96, 64, 1, 1)

    _rewrite(saved, spoil)
    with pytest.raises(BadInput) as error:
        load_teacher(saved)
    message = str(error.value)
    assert "missing: bn2.bias" in message
    assert "unexpected: extra.weight" in message
    assert "conv4.weight [96, 64, 1, 1] (expected [96, 64, 3, 3])" in message


def test_weights_of_another_architecture_are_told_apart(saved: Path) -> None:
    _edit(saved, arch="resnet18")
    check_teacher(saved)
    with pytest.raises(BadInput, match="do not fit the architecture"):
        load_teacher(saved)
