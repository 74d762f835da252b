# ruff: noqa: E501
"""Uploads: what is taken, what is refused before it can do harm, and what is left of either."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from fastapi.testclient import TestClient
from onnx import TensorProto, helper
from PIL import Image

from edge.errors import BadInput
from service.api.checks.__main__ import _answer
from service.api.checks.archive import unpack
from service.api.settings import Settings
from service.jobs.content import safe_name
from service.jobs.store import Store
from teachers.data.parquet import write_parquet

CANARY = "understudy-canary"


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def zipped(**files: bytes) -> bytes:
    """A zip file; "__" in a name is "/", "_dot_" is "."."""
    return zipped_names({name.replace("__", "/"): data for name, data in files.items()})


def zipped_names(files: dict[str, bytes], attributes: int | None = None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if attributes is not None:
                info.external_attr = attributes << 16
            archive.writestr(info, data)
    return content.getvalue()


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def external_onnx() -> bytes:
    """An ONNX file whose weights are to be read from /etc/passwd."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4], np.zeros(4, np.float32))
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    node = helper.make_node("Add", ["input", "weight"], ["output"])
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])
        for name in ("input", "output")
    ]
    graph = helper.make_graph([node], "graph", value[:1], value[1:], [weight])
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


def huge_png() -> bytes:
    """A picture of 60,000 × 60,000 pixels in its header, and of a few bytes."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


HOSTILE: dict[str, tuple[str, str, Callable[[Path], bytes]]] = {
    "zip that leads out": ("dataset", "a.zip", lambda _: zipped_names({f"../../{CANARY}": b"x"})),
    "absolute path": ("dataset", "a.zip", lambda _: zipped_names({f"/tmp/{CANARY}": b"x"})),
    "backslashes": ("dataset", "a.zip", lambda _: zipped_names({f"..\\..\\{CANARY}": b"x"})),
    "drive": ("dataset", "a.zip", lambda _: zipped_names({f"C:/{CANARY}": b"x"})),
    "control letters": ("dataset", "a.zip", lambda _: zipped_names({"a\nb/x.png": b"x"})),
    "link": ("dataset", "a.zip", lambda _: zipped_names({"a/x.png": b"/etc/passwd"}, 0o120777)),
    "device": ("dataset", "a.zip", lambda _: zipped_names({"a/x.png": b""}, 0o060666)),
    "bomb": ("dataset", "a.zip", lambda _: zipped_names({"a/x.png": bytes(128 << 20)})),
    "two of a name": ("dataset", "a.zip", lambda _: zipped_names({"a/x.png": b"1", "A/X.png": b"2"})),
    "file and folder": ("dataset", "a.zip", lambda _: zipped_names({"a": b"1", "a/x.png": b"2"})),
    "long name": ("dataset", "a.zip", lambda _: zipped_names({"a/" + "x" * 300 + ".png": b"1"})),
    "torn zip": ("dataset", "a.zip", lambda _: zipped_names({"a/x.png": png(1)})[:-30]),
    "no zip": ("dataset", "a.zip", lambda _: b"PK\x03\x04" + bytes(100)),
    "no images": ("dataset", "a.zip", lambda _: zipped_names({"readme.txt": b"hello"})),
    "bomb of pixels": ("dataset", "a.zip", lambda _: zipped_names({"train/a/1.png": huge_png(), "train/b/1.png": huge_png()})),
    "pickle in npz": ("dataset", "a.npz", lambda path: npz(x=np.array([Bomb(path)], object), y=np.array([1]))),
    "npz of floats": ("dataset", "a.npz", lambda _: npz(x=np.zeros((4, 8, 8)), y=np.zeros(4, np.int64))),
    "npz that does not fit": ("dataset", "a.npz", lambda _: npz(x=np.zeros((4, 8, 8), np.uint8), y=np.zeros(3, np.int64))),
    "no parquet": ("dataset", "a.parquet", lambda _: b"PAR1" + bytes(50)),
    "pickle as a teacher": ("teacher", "a.onnx", lambda path: pickle.dumps(Bomb(path))),
    "script as a teacher": ("teacher", "a.py", lambda path: f"import os; os.mkdir({str(path)!r})".encode()),
    "weights elsewhere": ("teacher", "a.onnx", lambda _: external_onnx()),
    "no ONNX": ("teacher", "a.onnx", lambda _: b"\xff" * 200),
    "bad safetensors": ("teacher", "a.safetensors", lambda _: (2**62).to_bytes(8, "little") + b"{}"),
    "json alone": ("teacher", "a.json", lambda _: b"{}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_hostile_is_refused_and_does_nothing(kind: str, tmp_path: Path) -> None:
    what, name, make = HOSTILE[kind]
    canary = tmp_path / CANARY
    incoming = tmp_path / "drafts" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / name).write_bytes(make(canary))
    content = tmp_path / "drafts" / "content"
    content.mkdir()
    answer = _answer(what, incoming, content)
    problem = answer["problem"]
    assert problem["message"]
    assert problem["bound"]
    assert problem["remedy"]
    assert not canary.exists()
    assert not Path("/tmp", CANARY).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drafts"]


def test_an_archive_is_unpacked_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped_names({"train/é/1.png": png(3), "train/b/1.png": b"x"}))
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "train" / "é" / "1.png").read_bytes() == png(3)


def test_a_header_that_lies_about_sizes_is_found_out(tmp_path: Path) -> None:
    data = bytearray(zipped_names({"a/x.png": bytes(1000)}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(BadInput, match="zip file"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\teacher.onnx", "teacher.onnx"),
        ("...hidden.json", "hidden.json"),
        ("a\x00b.onnx", "a_b.onnx"),
        ("é" * 300 + ".onnx", "_" * 100 + ".onnx"),
        ("", "file"),
    ],
)
def test_a_file_name_is_nothing_but_a_name(name: str, kept: str) -> None:
    assert safe_name(name) == kept


def folder_zip() -> bytes:
    return zipped_names(
        {f"train/{name}/{row}.png": png(10 * row + shade)
         for shade, name in enumerate(("cat", "dog")) for row in range(6)}
    )  # fmt: skip


def test_a_folder_of_images_becomes_data(client: TestClient, settings: Settings) -> None:
    files = {"files": ("pets.zip", folder_zip())}
    made = client.post("/api/v1/datasets?wait=30", files=files).json()
    assert made["state"] == "ready", made
    assert made["facts"]["rows"] == 12
    assert made["facts"]["class_names"] == ["cat", "dog"]
    again = client.post("/api/v1/datasets?wait=30", files={"files": ("other.zip", folder_zip())})
    assert again.json()["id"] == made["id"]  # the same content
    assert list((settings.folder / "incoming").iterdir()) == []
    content = settings.folder / "content" / made["sha256"][:2] / made["sha256"]
    assert (content / "train" / "cat" / "0.png").is_file()


def test_arrays_become_data(client: TestClient) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (20, 8, 8), dtype=np.uint8), np.arange(20) % 4
    files = {"files": ("arrays.npz", npz(x_train=x, y_train=y, x_test=x[:8], y_test=y[:8]))}
    made = client.post("/api/v1/datasets?wait=30", files=files).json()
    assert made["state"] == "ready", made
    assert (made["facts"]["training_rows"], made["facts"]["test_rows"]) == (20, 8)


def test_a_file_in_pieces_goes_on_where_it_broke_off(
    client: TestClient, store: Store, settings: Settings
) -> None:
    data = folder_zip()
    about = {"kind": "dataset", "name": "pets.zip", "bytes": len(data)}
    upload = client.post("/api/v1/uploads", json=about).json()
    url = f"/api/v1/uploads/{upload['id']}"

    def send(at: int, piece: bytes) -> Any:
        return client.patch(url, content=piece, headers={"Upload-Offset": str(at)})

    assert send(0, data[:100]).json()["received"] == 100
    wrong = send(50, data[50:])
    assert wrong.status_code == 409
    assert wrong.headers["upload-offset"] == "100"
    assert client.post(f"{url}/complete").status_code == 409
    assert send(100, data[100:] + b"more").status_code == 413
    assert client.get(url).json()["received"] == 100
    assert send(100, data[100:]).json()["received"] == len(data)
    made = client.post(f"{url}/complete?wait=30").json()
    assert made["state"] == "ready"
    assert client.get(url).status_code == 404
    assert list((settings.folder / "incoming").iterdir()) == []


def test_a_damaged_upload_is_told(client: TestClient) -> None:
    about = {"kind": "dataset", "name": "a.zip", "bytes": 4, "sha256": "0" * 64}
    upload = client.post("/api/v1/uploads", json=about).json()
    url = f"/api/v1/uploads/{upload['id']}"
    client.patch(url, content=b"abcd", headers={"Upload-Offset": "0"})
    answer = client.post(f"{url}/complete")
    assert answer.status_code == 422
    assert "damaged" in answer.json()["detail"]


def test_what_is_too_large_leaves_nothing(client: TestClient, settings: Settings) -> None:
    files = {"files": ("a.zip", bytes(5 << 20))}
    answer = client.post("/api/v1/datasets", files=files)
    assert answer.status_code == 413
    assert "at most 4 MB" in answer.json()["detail"]
    assert list((settings.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("dataset", "train.parquet"), ("dataset", "pets.zip")])
def test_a_check_that_was_cut_short_can_be_made_again(tmp_path: Path, kind: str, name: str) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    if name.endswith(".zip"):
        (incoming / name).write_bytes(folder_zip())
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (12, 8, 8, 1), dtype=np.uint8)
        write_parquet(incoming / name, [(images, np.arange(12) % 2)], ("cat", "dog"))
    for attempt in range(2):
        content = tmp_path / f"content-{attempt}"
        content.mkdir()
        facts = _answer(kind, incoming, content)["facts"]
        assert (facts["rows"], facts["class_names"]) == (12, ["cat", "dog"])
        assert [path.name for path in incoming.iterdir()] == [name]


@pytest.mark.parametrize("packed", [False, True])
def test_weights_that_lie_beside_the_file_go_into_it(tmp_path: Path, packed: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    made = tmp_path / "made"
    made.mkdir()
    example = (torch.zeros(1, 1, 8, 8),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), example, made / "mein näher.onnx", verbose=False)
    assert len(list(made.iterdir())) == 2
    incoming, content = tmp_path / "incoming", tmp_path / "content"
    incoming.mkdir()
    content.mkdir()
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    if packed:
        (incoming / "a.zip").write_bytes(zipped_names(files))
    for name, data in files.items() if not packed else ():
        (incoming / safe_name(name)).write_bytes(data)  # as it is received
    assert _answer("teacher", incoming, content)["facts"]["classes"] == 3
    ((stored),) = content.iterdir()
    images = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(stored.read_bytes())
    (logits,) = session.run(None, {session.get_inputs()[0].name: images[:1]})
    with torch.inference_mode():
        right = net(torch.from_numpy(images[:1]))
    np.testing.assert_allclose(logits, right, atol=1e-5)
