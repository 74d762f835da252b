"""A job is the same job from YAML, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edge.errors import BadInput
from search.job.spec import JobSpec, make_spec
from search.job.spec_file import to_yaml
from service.api.settings import Settings
from service.cli import main as cli

# one value per field, none of them the default
CHOSEN: dict[str, Any] = {
    "teacher": "t.safetensors",
    "data": "digits",
    "out": "runs/x",
    "seed": 3,
    "max_kb": 12.5,
    "max_pair_kb": 14.5,
    "max_macs": 3e6,
    "max_ms": 1.5,
    "profile": "pi.json",
    "max_drop": 0.25,
    "gamma": 2.5,
    "l0": 0.75,
    "budget": 7,
    "minutes": 1.5,
    "appeals": 0.3,
    "accuracy": 0.99,
    "acci": 0.9,
    "cost_per_appeal": 3.0,
    "cost_per_error": 50.0,
    "risk": 0.01,
    "confidence": 0.9,
    "metric": "balanced_accuracy",
    "teacher_unseen": "last 50",
    "resize": True,
    "memory_gb": 0.5,
    "sampler": "random",
    "probes": 3,
    "warm": ("runs/a", "runs/b"),
    "preset": "paper",
    "pool": (0.0, 0.5, 1.0),
    "scaled": "ko",
    "protect": ("layer4.*", "fc"),
    "criterion": "bn_scale",
    "batch": 3,
    "mode": "streaming",
    "storage": "sqlite:///x.db",
    "tensorboard": True,
    "agent_rate": 0.01,
    "agent_units": 9,
    "baseline_decay": 0.5,
    "target": "smallest",
    "reward": "paper",
    "alpha": 2.0,
    "beta": 3.0,
    "c0": 0.5,
    "a0": 0.6,
    "rho": 0.2,
    "loss": "similarity",
    "normalise": "batch",
    "proxy_rows": 100,
    "proxy_epochs": 2,
    "halving": 2,
    "final_epochs": 4,
    "finalists": 3,
    "proxy_gain": 0.2,
    "batch_size": 32,
    "learning_rate": 0.004,
    "temperature": 2.0,
    "augment": "none",
    "mix": "none",
    "views": 2,
    "precision": "fp32",
    "layout": "contiguous",
    "kd_weight": 0.6,
    "ce_weight": 0.4,
    "ema": 0.99,
    "patience": 2,
    "int8": False,
    "portable": True,
    "licence": "MIT",
    "router_rows": "folds",
    "sampling": "random",
    "two_head": "frozen",
    "router_trials": 3,
    "features": "logits",
    "families": ("svm", "rf"),
    "ray": "auto",
    "workers": 2,
    "threads": 2,
    "gpus": 0.5,
    "worker_memory_mb": 2000,
    "candidate_minutes": 5.0,
}


def option(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    if value is False:
        return [f"--no-{flag[2:]}"]
    if isinstance(value, tuple):
        return [flag, ",".join(map(str, value))]
    return [flag, str(value)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[JobSpec]:
    """The jobs that the command line would run; it stops before it does."""
    jobs: list[JobSpec] = []
    from service.cli.options import job_values as real

    def caught(*arguments: Any) -> JobSpec:
        jobs.append(real(*arguments))
        raise typer.Exit

    monkeypatch.setattr(cli, "job_values", caught)
    return jobs


def run(*arguments: str) -> None:
    done = CliRunner().invoke(cli.app, ["search", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)


def test_the_list_above_is_complete_and_nowhere_the_default() -> None:
    assert set(CHOSEN) == set(JobSpec.model_fields)
    job = make_spec(CHOSEN)
    for name, info in JobSpec.model_fields.items():
        assert info.is_required() or getattr(job, name) != info.default, name


def test_yaml_python_and_options_are_one(tmp_path: Path, asked: list[JobSpec]) -> None:
    job = make_spec(CHOSEN)
    run(*(text for name, value in CHOSEN.items() for text in option(name, value)))
    path = tmp_path / "job.yaml"
    path.write_text(to_yaml(job))
    run(str(path))
    assert asked == [job, job]


def test_options_override_the_file(tmp_path: Path, asked: list[JobSpec]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(to_yaml(make_spec(CHOSEN)))
    run(str(path), "--budget", "99", "--no-resize")
    assert asked == [make_spec(CHOSEN | {"budget": 99, "resize": False})]


def test_options_not_given_are_the_defaults(asked: list[JobSpec]) -> None:
    run("--teacher", "t", "--data", "d", "--out", "o")
    assert asked == [make_spec({"teacher": "t", "data": "d", "out": "o"})]


def test_resuming_takes_the_job_of_the_run(tmp_path: Path, asked: list[JobSpec]) -> None:
    from search.job.run_folder import RunFolder

    job = make_spec(CHOSEN | {"out": str(tmp_path / "run")})
    RunFolder(job.out).create(job, {})
    run("--resume", "--out", job.out, "--budget", "50")
    assert asked == [job.model_copy(update={"budget": 50})]


def test_the_service_has_an_option_for_each_of_its_settings() -> None:
    told = CliRunner().invoke(cli.app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    for name, info in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in told
        assert str(info.description).split(";")[0][:40] in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "got 99999; expected less than or equal to 65535"),
        (["--runner", "http://127.0.0.1:1"], "no Ray cluster takes jobs there"),
        (["--runner", "slurm"], "got slurm; expected local, or http://HEAD:8265"),
        (
            ["--host", "0.0.0.0", "--port", "0"],
            "a service that other machines can reach needs a key",
        ),
    ],
)
def test_a_service_that_cannot_be_started_says_why(
    tmp_path: Path, words: list[str], said: str
) -> None:
    result = CliRunner().invoke(cli.app, ["serve", "--folder", str(tmp_path / "service"), *words])
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
