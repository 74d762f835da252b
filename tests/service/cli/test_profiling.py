"""``understudy profile``, from a kit to a profile, as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import BadInput
from edge.kit import write_kit
from edge.profile import read_profile
from envs.compression.moves import PRESETS
from envs.gym.toy import toy_spec
from envs.latency.kit import make_kit
from service.cli.main import app
from tests.edge.models import linear
from tests.search.jobs import ROOT


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    made = make_kit(toy_spec(), PRESETS["default"], "toy", "f" * 64, students=2, layers=2)
    write_kit(tmp_path / "kit", *made)
    return tmp_path / "kit"


def profile(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["profile", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def test_a_kit_becomes_a_profile_beside_it(kit: Path) -> None:
    said = profile(str(kit), "--rounds", "1")
    assert said["profile"] == f"{kit}.json"
    assert said["graphs"] == 4
    found = read_profile(Path(f"{kit}.json"))
    assert (found.teacher, found.threads, found.machine) == ("toy", 1, said["machine"])
    with pytest.raises(BadInput, match="the profile cannot be written there.*another --out"):
        profile(str(kit), "--rounds", "1")
    out = kit.with_name("other.json")
    assert profile(str(kit), "--rounds", "1", "--out", str(out))["profile"] == str(out)


def test_a_network_is_timed_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(linear())
    said = profile(str(path), "--rounds", "1")
    assert isinstance(said["ms"], float)
    assert said["ms"] > 0


def test_a_kit_needs_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a kit is made for a teacher.*Give --teacher"):
        profile(str(tmp_path / "kit"), "--make")
    with pytest.raises(BadInput, match="teacher not found"):
        profile(str(tmp_path / "kit"), "--make", "--teacher", "t.safetensors")
    assert not (tmp_path / "kit").exists()


def test_a_device_needs_the_base_install_alone(kit: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['understudy', 'profile', {str(kit)!r}, '--rounds', '1']\n"
        "from service.cli.main import app\n"
        "app(standalone_mode=False)\n"
        "print([n for n in ('torch', 'ray', 'onnx', 'scipy', 'gymnasium') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
