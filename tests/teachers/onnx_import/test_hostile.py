"""Files from strangers: each ends in one clear error, within seconds, and runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from onnx import TensorProto

from edge.errors import BadInput
from teachers.formats.formats import check_teacher, load_teacher
from tests.teachers.hostile_files import FILES, base, external, weight_of
from tests.teachers.hostile_graphs import GRAPHS
from tests.teachers.onnx_graphs import (
    write,
)

SECONDS = 5
SHAPE = (3, 8, 8)
HOSTILE = {**FILES, **GRAPHS}


class Touch:
    """Unpickling this creates the file that it was given."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_onnx_file_is_refused(name: str, tmp_path: Path) -> None:
    build, message = HOSTILE[name]
    folder = tmp_path / "teacher"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "data.bin").write_bytes(bytes(1000))
    os.mkfifo(folder / "fifo")
    path = write(base(), folder, SHAPE)
    path.write_bytes(build())
    _refused_in_time(path, message)


def _refused_in_time(path: Path, message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(BadInput, match=message) as error:
        load_teacher(path)
    assert time.perf_counter() - started < SECONDS
    assert error.value.remedy.endswith(".")
    assert len(str(error.value)) < 1500


def _pickled(protocol: int, canary: Path) -> bytes:
    return pickle.dumps(Touch(canary), protocol)


def _torch_saved(value: object, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _zip_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


PICKLED: dict[str, Callable[[Path], bytes]] = {
    "torch.save": lambda canary: _torch_saved(Touch(canary), legacy=False),
    "torch.save of old": lambda canary: _torch_saved(Touch(canary), legacy=True),
    "zip": lambda canary: _zip_of(pickle.dumps(Touch(canary))),
    "behind a length": lambda canary: struct.pack("<Q", 80) + pickle.dumps(Touch(canary)),
}
for _protocol in range(6):
    PICKLED[f"protocol {_protocol}"] = partial(_pickled, _protocol)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt", ".pth", ".bin", ".pkl"])
@pytest.mark.parametrize("name", PICKLED)
def test_a_pickle_is_refused_under_any_name_and_never_opened(
    name: str, suffix: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    write(base(), tmp_path, SHAPE)
    path = tmp_path / f"teacher{suffix}"
    path.write_bytes(PICKLED[name](canary))
    for read in (check_teacher, load_teacher):
        started = time.perf_counter()
        with pytest.raises(BadInput):
            read(path)
        assert time.perf_counter() - started < SECONDS
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "canary")))  # noqa: S301
    assert (tmp_path / "canary").exists()


def test_a_model_larger_than_protobuf_allows_is_not_read(tmp_path: Path) -> None:
    path = write(base(), tmp_path, SHAPE)
    with path.open("r+b") as file:
        file.truncate(2 * 1024**3 + 1)  # sparse: takes no space
    _refused_in_time(path, "too large")


def test_data_beside_the_model_are_read(tmp_path: Path) -> None:
    path = write(base(), tmp_path, SHAPE)
    images = torch.randn(2, *SHAPE)
    inside = load_teacher(path)
    raw = weight_of(base()).raw_data
    (tmp_path / "data.bin").write_bytes(bytes(16) + raw)
    path.write_bytes(external("data.bin", "16"))
    beside = load_teacher(path)
    assert torch.equal(beside.module(images), inside.module(images))
    (tmp_path / "data.bin").write_bytes(bytes(16) + raw[::-1])
    assert load_teacher(path).fingerprint != beside.fingerprint


def test_claims_of_external_data_are_added_up_before_any_is_read(tmp_path: Path) -> None:
    """Two tensors of 2 GiB − 4 in one sparse file: refused at once, and in little memory."""
    path = write(base(), tmp_path, SHAPE)
    made = base()
    for tensor in made.graph.initializer[:2]:
        tensor.ClearField("raw_data")
        tensor.dims[:] = [2**29 - 1]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="data.bin")
    path.write_bytes(made.SerializeToString())
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(4 * (2**29 - 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refused_in_time(path, "weights are too large")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # KiB


def test_a_folder_is_no_teacher(tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.mkdir()
    with pytest.raises(BadInput, match="teacher not found"):
        load_teacher(path)


def test_onnx_named_safetensors_is_refused(tmp_path: Path) -> None:
    path = write(base(), tmp_path, SHAPE).rename(tmp_path / "teacher.safetensors")
    with pytest.raises(BadInput):
        load_teacher(path)


def test_an_absurd_batch_is_an_open_one(tmp_path: Path) -> None:
    made = base()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2**62
    teacher = load_teacher(write(made, tmp_path, SHAPE))
    assert teacher.module(torch.zeros(2, *SHAPE)).shape == (2, 4)
