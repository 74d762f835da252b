"""Teacher and data in memory, as the product reads them from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edge.errors import BadInput
from service.api.checks.dataset import check_dataset_upload
from teachers.data.datasets import load_dataset
from teachers.formats.description import understand
from teachers.formats.formats import check_teacher, load_teacher
from understudy.given_data import given_data
from understudy.given_teacher import GivenTeacher, shape_of
from understudy.pixels import Scale
from understudy.searching import Inputs, free_folder, search

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
LABELS = np.arange(60) % 3


class Net(nn.Module):
    """A small residual network with batch norms that have learnt something."""

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        logits: torch.Tensor = self.head((x + self.block(x)).mean((2, 3)))
        return logits


# --- data


def test_every_split_and_name_is_read_back(tmp_path: Path) -> None:
    given = given_data(
        {"train": (IMAGES[:40], LABELS[:40]), "val": (IMAGES[40:50], LABELS[40:50]),
         "test": (IMAGES[50:], LABELS[50:])},
        ["cat", "dog", "fox"],
    )  # fmt: skip
    assert given.shape == (1, 8, 8)
    folder = given.write(tmp_path / "data", given.scale)
    from edge.preprocess import Preprocess

    data = load_dataset(str(folder), Preprocess(1, 8, 8, (0.0,), (1.0,)))
    np.testing.assert_array_equal(data.images[..., 0], IMAGES)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.class_names == ("cat", "dog", "fox")
    assert data.train_rows == 50  # the validation split stands at their end


def test_the_service_reads_the_same_from_an_array_file(tmp_path: Path) -> None:
    given = given_data((IMAGES, LABELS), ["cat", "dog", "fox"])
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    first = given.write_arrays(tmp_path / "in" / "data.npz", given.scale).read_bytes()
    facts = check_dataset_upload(tmp_path / "in", tmp_path / "out")
    assert (facts["rows"], facts["class_names"]) == (60, ["cat", "dog", "fox"])
    assert given.write_arrays(tmp_path / "again.npz", given.scale).read_bytes() == first


def test_tensors_and_names_for_labels(tmp_path: Path) -> None:
    floats = torch.from_numpy(IMAGES[:, None] / np.float32(127.5) - 1)
    given = given_data((floats, torch.from_numpy(LABELS)))
    assert not given.is_pixels
    assert given.shape == (1, 8, 8)
    assert np.concatenate([x for x, _ in given.blocks("train", given.scale)]).shape == (60, 8, 8, 1)
    spelled = np.array(["fox", "cat"])[LABELS[:2]]
    (_, labels) = given_data((IMAGES[:2], spelled), ["cat", "fox"]).parts["train"]
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (IMAGES, "got ndarray; expected .images, labels."),
        ((IMAGES, LABELS[:-1]), "60 images and labels of int64 .59,."),
        ((IMAGES, LABELS / 2), "labels of float64"),
        ((IMAGES, LABELS - 1), "labels -1 to 1; expected 0 or more"),
        ((IMAGES, ["cat"] * 60), "the label 'cat'"),
        ((IMAGES[:0], LABELS[:0]), "a whole number an image"),
        ({"test": (IMAGES, LABELS)}, "expected a split 'train'"),
        ({"train": (IMAGES, LABELS), "more": (IMAGES, LABELS)}, "the key 'more'"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES[:, :4], LABELS)}, "one size and one type"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES / 255, LABELS)}, "one size and one type"),
    ],
)
def test_data_that_cannot_be_used_are_refused(data: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        given_data(data)


# --- a module


@pytest.mark.parametrize("channels", [1, 3])
def test_a_module_is_read_back_with_its_batch_norms(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net(channels).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    given = GivenTeacher(net, (channels, 8, 8), Scale((0.5,) * channels, (0.25,) * channels),
                         ("a", "b", "c"))  # fmt: skip
    path = given.write(tmp_path)
    manifest = check_teacher(path)
    assert manifest.preprocess.mean == (0.5,) * channels
    assert manifest.class_names == ("a", "b", "c")
    described = understand(load_teacher(path))
    assert [node.op for node in described.network.nodes].count("batch_norm") == 2
    assert {"stem", "head"} <= {node.name for node in described.network.nodes}
    images = torch.randn(5, channels, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(described.teacher.module(images), net.eval()(images),
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
    for name, tensor in before.items():
        assert torch.equal(net.state_dict()[name], tensor)


def test_a_module_keeps_its_mode(tmp_path: Path) -> None:
    net = Net().train()
    GivenTeacher(net, (1, 8, 8), Scale.plain(1)).write(tmp_path)
    assert net.training


class Broken(nn.Module):
    def __init__(self, gives: Any) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, x: torch.Tensor) -> Any:
        return self.gives(x)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Net(channels=3), "cannot take these images.*RuntimeError"),
        (Broken(lambda x: x), "gives no logits: got .4, 1, 8, 8."),
        (Broken(lambda x: (x, x)), "gives no logits: got tuple"),
        (Broken(lambda x: x.flatten(1).cumsum(1)), "(?i)cumsum"),
    ],
)
def test_a_module_that_is_no_classifier_is_refused(
    module: nn.Module, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said):
        GivenTeacher(module, (1, 8, 8), Scale.plain(1)).write(tmp_path)


def test_the_size_of_images_is_told_by_the_data(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (12, 10)).save(tmp_path / name)
    assert shape_of("digits", Net()) == (1, 8, 8)
    assert shape_of(str(tmp_path), Net(3)) == (3, 10, 12)
    assert shape_of(str(tmp_path), Net(1)) == (1, 10, 12)  # colours are made grey for it


# --- both, beside a run


def test_what_is_given_in_memory_is_kept_beside_the_run(tmp_path: Path) -> None:
    given = Inputs.of(Net(), (IMAGES / 255, LABELS), ["a", "b", "c"])
    with given.kept(tmp_path / "run") as (teacher, data):
        (tmp_path / "run").mkdir()
    assert Path(teacher) == tmp_path / "run.inputs" / "teacher.onnx"
    assert Path(data, "train.parquet").is_file()
    assert check_teacher(teacher).preprocess.std == (1.0,)
    assert free_folder("run", tmp_path).name == "run-1"


def test_a_search_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="max_kb"):
        search(Net(), (IMAGES, LABELS), max_kb=-1, out=tmp_path / "run")
    few = (IMAGES[:3], LABELS[:3])
    with pytest.raises(BadInput):
        search(Net(), few, ray="ray://127.0.0.1:1", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(BadInput, match="the output folder exists"):
        search(Net(), (IMAGES, LABELS), out=tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_inputs_that_are_there_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run.inputs").mkdir()
    (tmp_path / "run.inputs" / "mine").write_text("")
    with pytest.raises(BadInput, match="cannot be kept beside the run"):
        search(Net(), (IMAGES, LABELS), out=tmp_path / "run")
    assert (tmp_path / "run.inputs" / "mine").is_file()


@pytest.mark.parametrize(
    ("teacher", "data", "how", "said"),
    [
        (object(), "digits", {}, "this is no teacher: got object"),
        ("t.onnx", "digits", {"mean": (0.5,)}, "'mean' belongs to a module"),
        ("t.onnx", "digits", {"class_names": ["a"]}, "'class_names' belongs to a module"),
        ("t.onnx", 7, {}, "data in memory cannot be used"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(
    teacher: Any, data: Any, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        Inputs.of(teacher, data, **how)
