"""What ``understudy inspect`` says of a teacher: layers, groups, shares, and what may be done."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge.errors import BadInput
from edge.preprocess import Preprocess
from envs.compression.moves import PRESETS
from envs.export.export import to_onnx
from envs.fx_import.trace import trace
from search.preparation.inspection import inspect_teacher, normalisation
from service.cli.inspection import print_inspection
from teachers.formats import zoo
from teachers.formats.formats import save_teacher
from teachers.formats.manifest import TeacherManifest

RESIDUAL = "tests.search.factories:residual"


def residual(preset: str = "default", *protect: str) -> dict[str, Any]:
    return inspect_teacher(RESIDUAL, preset, protect, trusted=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Networks with joins of every kind, as a user would hand them in."""
    folder = tmp_path_factory.mktemp("teachers")
    rgb = Preprocess(3, 32, 32, mean=(0.5,) * 3, std=(0.25,) * 3)
    found = {}
    for arch in ("mobilenet_v2", "shufflenet_v2_x0_5", "densenet40_12"):
        torch.manual_seed(0)
        module = zoo.build(arch, input_shape=rgb.input_shape, classes=10)
        manifest = TeacherManifest(arch, rgb, tuple(map(str, range(10))))
        save_teacher(module, manifest, folder / f"{arch}.safetensors")
        found[arch] = inspect_teacher(str(folder / f"{arch}.safetensors"), "default")
    return found


def test_a_residual_block_worked_by_hand() -> None:
    found = residual()
    conv1, conv2, fc = found["layers"]
    # KB and MACs at 4×4 pixels. A batch norm of 8 has 4·8 numbers and a counter of 8 bytes: 136.
    # conv1: 3·8·9 = 216 weights, 864 + 136 = 1,000 bytes; 216·16 = 3,456 MACs
    # conv2: 8·8·9 = 576 weights, 2,304 + 136 = 2,440 bytes; 576·16 = 9,216 MACs
    # fc: 8·2 + 2 = 18 numbers, 72 bytes; 16 MACs
    assert [layer["kb"] * 1024 for layer in found["layers"]] == [1000, 2440, 72]
    assert [layer["macs"] for layer in found["layers"]] == [3456, 9216, 16]
    assert (found["kb"] * 1024, found["macs"]) == (3512, 12688)
    assert conv2["kb_share"] == pytest.approx(2440 / 3512, abs=1e-12)
    assert conv2["macs_share"] == pytest.approx(9216 / 12688, abs=1e-12)
    # at the add, both of its inputs and its result are there: 3·8·16 numbers of 4 bytes
    assert found["peak_kb"] == 3 * 8 * 16 * 4 / 1024

    # the add makes the channels of conv1 and conv2 one group, and conv1 writes it first
    assert conv1["groups"] == conv2["groups"]
    (shared,) = [group for group in found["groups"] if len(group["layers"]) > 1]
    assert shared == {
        "group": conv1["groups"][0], "channels": 8, "fixed": False, "layers": ["conv1", "conv2"],
    }  # fmt: skip
    assert (conv1["sets_width"], conv2["sets_width"]) == (True, False)
    assert (conv1["width_of"], conv2["width_of"]) == ([], [0])
    assert (conv1["owns"], conv2["owns"], fc["owns"]) == (["bn1", "relu1"], ["bn2"], [])

    pool = list(PRESETS["default"].pool)
    assert [layer["coefficients"] for layer in found["layers"]] == [pool, [0.0, 1.0], [1.0]]
    assert [layer["removable"] for layer in found["layers"]] == [True, True, False]


def test_what_is_printed_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_inspection(residual())
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")] for line in printed.splitlines()]
    layers = [row[1:-1] for row in rows if len(row) > 2]
    assert layers == [
        # 1,000 of 3,512 bytes; 3,456 of 12,688 MACs
        ["0", "conv1", "3x3, 3 -> 8", "1", "1.0", "28.5%", "27.2%", "scaled or removed"],
        ["1", "conv2", "3x3, 8 -> 8", "1", "2.4", "69.5%", "72.6%", "removed; width of step 0"],
        ["2", "fc", "linear, 8 -> 2", "2", "0.1", "2.1%", "0.1%", "kept: gives the logits"],
    ]
    assert "residual, 3×4×4 -> 2 classes" in printed
    assert "3.4 KB" in printed
    assert "coefficients 0 (removed) 0.03 0.05 0.075 0.1" in printed
    assert "group 1 (8 channels): conv1, conv2\n" in printed
    assert "Note:" not in printed


def test_under_the_papers_moves_every_layer_has_something_to_scale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_inspection(residual("paper"))
    printed = capsys.readouterr().out
    # conv2's width is conv1's, but its kernel, stride and padding are its own
    assert "scaled or removed; width of step 0" in printed
    assert "of kernel, stride, padding, outputs\n" in printed


def test_what_is_left_out_of_a_teacher_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect_teacher("tests.search.factories:probabilities", "default", trusted=True)
    (note,) = found["notes"]
    assert "softmax" in note
    print_inspection(found)
    assert f"Note: {note}\n" in capsys.readouterr().out


def test_protected_layers_stay_and_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = residual("default", "conv*")
    assert [layer["protected"] for layer in found["layers"]] == [True, True, False]
    assert [layer["coefficients"] for layer in found["layers"]] == [[1.0]] * 3
    assert not any(layer["removable"] for layer in found["layers"])
    print_inspection(found)
    assert capsys.readouterr().out.count("kept: protected") == 2


def test_a_pattern_that_matches_nothing_names_the_layers() -> None:
    with pytest.raises(BadInput, match="matches no layer") as caught:
        residual("default", "conv1", "layer4.*")
    assert caught.value.value == "'layer4.*'"
    assert "conv1, conv2, fc" in caught.value.bound


def test_an_unsupported_operator_is_one_error() -> None:
    with pytest.raises(BadInput) as caught:
        inspect_teacher("tests.search.factories:unsupported", "default", trusted=True)
    assert "cumsum" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_factory_is_for_those_who_trust_it() -> None:
    with pytest.raises(BadInput, match="runs that code"):
        inspect_teacher(RESIDUAL, "default")


@pytest.mark.parametrize("arch", ["mobilenet_v2", "shufflenet_v2_x0_5", "densenet40_12"])
class TestPublishedNetworks:
    def test_shares_are_of_the_whole(self, arch: str, published: dict[str, dict[str, Any]]) -> None:
        found = published[arch]
        for share, least in (("kb_share", 0.9), ("macs_share", 1 - 1e-9)):
            shares = [layer[share] for layer in found["layers"]]
            assert all(0 <= part <= 1 for part in shares)
            # norms of no layer are what is missing of the bytes; nothing is missing of the MACs
            assert least <= sum(shares) <= 1 + 1e-9

    def test_groups_and_layers_say_the_same(
        self, arch: str, published: dict[str, dict[str, Any]]
    ) -> None:
        found = published[arch]
        step = {layer["name"]: layer["step"] for layer in found["layers"]}
        for layer in found["layers"]:
            mine = [group for group in found["groups"] if layer["name"] in group["layers"]]
            assert [group["group"] for group in mine] == layer["groups"]
            first = {step[group["layers"][0]] for group in mine} - {layer["step"]}
            assert layer["width_of"] == sorted(first)
            if not layer["sets_width"] and not layer["classifier"]:
                assert layer["coefficients"] == [0.0, 1.0]

    def test_only_the_classifier_must_stay(
        self, arch: str, published: dict[str, dict[str, Any]]
    ) -> None:
        layers = published[arch]["layers"]
        assert [layer["name"] for layer in layers if not layer["removable"]] == [layers[-1]["name"]]

    def test_every_layer_has_its_row(
        self, arch: str, published: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_inspection(published[arch])
        lines = capsys.readouterr().out.splitlines()
        for layer in published[arch]["layers"]:
            (row,) = [line for line in lines if f"│ {layer['name']} " in line]
            assert layer["layer"] in row
            assert f"{layer['macs_share']:.1%}" in row

    def test_it_is_json(self, arch: str, published: dict[str, dict[str, Any]]) -> None:
        assert json.loads(json.dumps(published[arch])) == published[arch]


def test_groups_that_the_same_layers_write_share_a_line(
    published: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = published["shufflenet_v2_x0_5"]
    print_inspection(found)
    printed = capsys.readouterr().out
    _, _, listed = printed.partition("Layers that share channels")
    named = [line.partition(": ")[2] for line in listed.splitlines()[1:]]
    assert len(named) == len(set(named))
    assert {tuple(names.split(", ")) for names in named} == {
        tuple(group["layers"]) for group in found["groups"] if len(group["layers"]) > 1
    }
    # the depthwise convolution behind stage 2 works on channels of five earlier layers
    assert "removed; width of steps 2 5 8 11 14" in printed


def test_a_narrow_terminal_gets_a_lighter_table(
    published: dict[str, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the captured stdout for a terminal
    monkeypatch.setenv("TERM", "xterm")
    layers = published["mobilenet_v2"]["layers"]
    for columns, light in ((72, True), (200, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_inspection(published["mobilenet_v2"])
        lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
        rows = [line for line in lines if re.match(r"(│ )? {0,5}\d+ ", line)]
        assert len(rows) == len(layers)
        assert all(len(row) <= columns for row in rows)
        assert any("┃" in line for line in lines) is not light
        # nothing is cut off: what does not fit goes on in the next line
        assert not any("…" in line for line in lines)
        for row, layer in zip(rows, layers, strict=True):
            assert f"{layer['kb_share']:.1%}" in row
            assert f"{layer['macs_share']:.1%}" in row


def test_a_teacher_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="teacher not found"):
        inspect_teacher(str(tmp_path / "nowhere.safetensors"), "default")


def _norms(*layers: nn.Module) -> str:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * 36, 2))
    return normalisation(trace(net.eval(), (1, 8, 8)))


class Scaled(nn.Module):
    """A norm as some exporters write it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.arange(1.0, 5.0).view(1, 4, 1, 1)


def test_what_normalisation_there_is() -> None:
    absent = "none behind 1 of 1 convolutions (folded at export, or never there)"
    assert _norms(nn.ReLU()) == absent
    assert _norms(nn.BatchNorm2d(4), nn.ReLU()) == "1 × batch norm"
    assert _norms(nn.GroupNorm(2, 4)) == "1 × group or instance norm"
    assert _norms(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)) == (
        "1 × batch norm; none behind 1 of 2 convolutions"
    )
    assert _norms(Scaled()) == "written out as constants per channel behind 1 of 1 convolutions"


def test_an_onnx_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a JSON: what it says, what is guessed, and the JSON to save."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(net.eval(), (3, 8, 8)))
    found = inspect_teacher(str(path), "default")
    assert found["json"] == {
        "input": [3, 8, 8],
        "classes": 5,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    assert set(found["json_guessed"]) == {"mean and std"}
    print_inspection(found)
    told = capsys.readouterr().out
    assert "normalisation: none behind 1 of 1 convolutions" in told
    assert "A guess: mean and std" in told
    assert json.loads(told.splitlines()[-1]) == found["json"]
    path.with_suffix(".json").write_text(told.splitlines()[-1])
    assert inspect_teacher(str(path), "default")["json"] == {}
