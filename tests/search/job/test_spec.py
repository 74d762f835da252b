"""The job's one list of fields: bounds, messages, and YAML that says what the fields say."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.errors import BadInput
from search.job.run_folder import MAY_CHANGE, RunFolder
from search.job.spec import JobSpec, fields, make_spec
from search.job.spec_file import read_yaml, to_yaml
from tests.search.jobs import ROOT

LEAST = {"teacher": "t.safetensors", "data": "digits", "out": "runs/x"}

# field → the last values inside its bounds, and the first ones outside
BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "seed": ([0, 2**31 - 1], [-1, 2**31]),
    "max_kb": ([0.001, None], [0, -1]),
    "max_pair_kb": ([0.001, None], [0, -1]),
    "max_macs": ([1, 1e12, None], [0, -1]),
    "max_ms": ([0.001, None], [0, -1]),
    "max_drop": ([0, 0.5, None], [-0.001, 1, 1.001]),
    "budget": ([1, 1_000_000], [0, 1_000_001]),
    "minutes": ([0.001, None], [0, -1]),
    "appeals": ([0, 1, None], [-0.001, 1.001]),
    "accuracy": ([0, 1, None], [-0.001, 1.001]),
    "acci": ([0, 1, None], [-0.001, 1.001]),
    "cost_per_appeal": ([0, 1e6, None], [-0.001]),
    "cost_per_error": ([0.001, None], [0]),
    "risk": ([0.001, 0.999, None], [0, 1]),
    "confidence": ([0.001, 0.999, None], [0, 1]),
    "batch": ([1, 4096], [0, 4097]),
    "probes": ([0, 256], [-1, 257]),
    "agent_rate": ([1e-9, 1], [0, 1.001]),
    "agent_units": ([1, 4096], [0, 4097]),
    "baseline_decay": ([0, 0.999], [-0.001, 1]),
    "alpha": ([0, 300], [-0.001, 300.1]),
    "beta": ([0, 300], [-0.001, 300.1]),
    "c0": ([0, 1, None], [-0.001, 1.001]),
    "a0": ([0, 1, None], [-0.001, 1.001]),
    "rho": ([0, 1, None], [-0.001, 1.001]),
    "gamma": ([0, 100], [-0.001, 100.1]),
    "l0": ([0.001, None], [0, -1]),
    "proxy_rows": ([2, None], [1]),
    "proxy_epochs": ([1, 10_000, None], [0, 10_001]),
    "final_epochs": ([1, 10_000, None], [0, 10_001]),
    "finalists": ([1, 100], [0, 101]),
    "proxy_gain": ([0, 2, None], [-0.001, 2.001]),
    "batch_size": ([2, 65_536, None], [1, 65_537]),
    "learning_rate": ([1e-9, 1, None], [0, 1.001]),
    "temperature": ([0.001, 100], [0, 100.1]),
    "kd_weight": ([0, 1000, None], [-0.1]),
    "ce_weight": ([0, None], [-0.1]),
    "ema": ([0, 0.9999], [-0.1, 1]),
    "patience": ([0, 10_000, None], [-1, 10_001]),
    "halving": ([1, 100], [0, 101]),
    "views": ([0, 1000], [-1, 1001]),
    "memory_gb": ([0, 0.5, 1e6, None], [-1, 1e7]),
    "router_trials": ([1, 1000], [0, 1001]),
    "workers": ([1, None], [0]),
    "threads": ([1, 256], [0, 257]),
    "gpus": ([0, 0.25, 64], [-0.001, 65]),
    "worker_memory_mb": ([64, None], [63]),
    "candidate_minutes": ([0.001, None], [0]),
}


def cases(inside: bool) -> list[tuple[str, Any]]:
    return [(name, value) for name, both in BOUNDS.items() for value in both[0 if inside else 1]]


@pytest.mark.parametrize(("name", "value"), cases(inside=True))
def test_bounds_are_inclusive_where_they_say_so(name: str, value: Any) -> None:
    assert getattr(make_spec(LEAST | {name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), cases(inside=False))
def test_values_beyond_a_bound_are_named_with_it(name: str, value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        make_spec(LEAST | {name: value})
    assert caught.value.value == value
    assert repr(name) in caught.value.problem
    assert any(letter.isdigit() for letter in caught.value.bound)
    assert "--" + name.replace("_", "-") in caught.value.remedy


def test_every_number_has_a_bound() -> None:
    numbers = {
        name
        for name, info in JobSpec.model_fields.items()
        if info.annotation in (int, float, int | None, float | None)
    }
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many", None])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(BadInput):
        make_spec(LEAST | {"alpha": value})


@pytest.mark.parametrize("name", ["teacher", "data", "out"])
def test_what_has_no_default_must_be_given(name: str) -> None:
    with pytest.raises(BadInput, match=f"the job lacks '{name}'.*Give --{name}"):
        make_spec({key: value for key, value in LEAST.items() if key != name})


@pytest.mark.parametrize(
    ("typo", "meant"), [("bugdet", "budget"), ("max-kb", "max_kb"), ("teachers", "teacher")]
)
def test_an_unknown_key_suggests_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(BadInput, match="unknown key") as caught:
        make_spec(LEAST | {typo: 3})
    assert caught.value.value == typo
    assert repr(meant) in caught.value.remedy


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_spec(LEAST).seed = 1


def test_the_yaml_of_the_defaults_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(to_yaml())
    assert make_spec(LEAST | read_yaml(path)) == make_spec(LEAST)
    # what has no default is there to be filled in
    filled = to_yaml()
    for name, value in LEAST.items():
        assert f"# {name}:\n" in filled
        filled = filled.replace(f"# {name}:\n", f"{name}: {value}\n")
    path.write_text(filled)
    assert make_spec(read_yaml(path)) == make_spec(LEAST)


def test_the_yaml_of_a_job_is_that_job(tmp_path: Path) -> None:
    job = make_spec(
        LEAST
        | {
            "out": 'a "strange": #path',
            "max_kb": 12.5,
            "pool": (0.0, 0.05, 1.0),
            "protect": ("layer4.*", "fc"),
            "criterion": "random",
            "families": ("svm",),
            "resize": True,
            "agent_rate": 1e-7,
            "minutes": None,
            "teacher_unseen": "none",
        }
    )
    path = tmp_path / "job.yaml"
    path.write_text(to_yaml(job))
    assert make_spec(read_yaml(path)) == job


def test_every_field_stands_in_the_yaml_under_its_help() -> None:
    lines = to_yaml().splitlines()
    for _, name, help_, default in fields():
        row = lines.index(f"# {help_}")
        assert lines[row + 1].removeprefix("# ").startswith(f"{name}:")
        assert lines[row + 1].startswith("# ") is (default is ...)
        assert help_.endswith(".")
    assert yaml.safe_load(to_yaml()).keys() == {name for _, name, _, d in fields() if d is not ...}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "not a list of settings"),
        ("budget: [1", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_job(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=message):
        read_yaml(path)


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such job file.*understudy config"):
        read_yaml(tmp_path / "job.yaml")
    (tmp_path / "job.yaml").touch()
    assert read_yaml(tmp_path / "job.yaml") == {}


def test_yaml_builds_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("out: !!python/object/apply:os.system ['true']")
    with pytest.raises(BadInput):
        read_yaml(path)


def test_a_job_is_checked_without_torch_and_ray() -> None:
    code = (
        "import sys, search.preparation.validate, service.cli.options\n"
        "print([name for name in ('torch', 'ray', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_run_that_began_before_there_were_probes_goes_on_without(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    now = make_spec(LEAST | {"out": str(tmp_path)})
    lines = to_yaml(now).splitlines(keepends=True)
    folder.job.write_text("".join(line for line in lines if not line.startswith("probes")))
    stored = folder.stored_job()
    assert (now.probes, stored.probes) == (8, 0)
    # and its state on the disk is still that of the same job: no such field was in its digest
    fixed = stored.model_dump(mode="json", exclude={*MAY_CHANGE, "out", "probes"})
    assert (
        folder.digest_of(stored) == sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
    )
    assert folder.digest_of(stored) != folder.digest_of(now)
    folder.job.write_text(to_yaml(now))
    assert folder.stored_job() == now


def test_a_run_from_before_targets_means_what_it_meant(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    old = "teacher: t\ndata: d\npreset: default\npool: null\nscaled: null\nrho: 0.1\n"
    folder.job.write_text(old + "proxy_epochs: 3\nbatch_size: 128\n")
    stored = folder.stored_job()
    assert (stored.target, stored.normalise, stored.router_rows) == ("balanced", "none", "withheld")
    # its ledger counts in these coefficients
    assert stored.pool == (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    # a pool of its own stays, and so does the paper's
    folder.job.write_text(old.replace("pool: null", "pool: [0.0, 0.5, 1.0]"))
    assert folder.stored_job().pool == (0.0, 0.5, 1.0)
    folder.job.write_text(old.replace("preset: default", "preset: paper"))
    assert folder.stored_job().pool is None
