"""Real jobs from Python: what a finished one gives, and one that is stopped and gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edge.errors import BadInput
from teachers.data.datasets import load_dataset
from tests.search import jobs
from understudy import Bundle, Run
from understudy import open as open_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished job, to do with as one likes."""
    shutil.copytree(jobs.finished_job().out, tmp_path / "job")
    found = open_path(tmp_path / "job")
    assert isinstance(found, Run)
    return found


def test_the_student_is_the_bundles(run: Run) -> None:
    images = load_dataset("digits", jobs.GREY8).images[-40:]
    bundle = run.bundle
    inputs = bundle.manifest.preprocess.to_input(images)
    student = run.student()
    assert isinstance(student, torch.nn.Module)
    with torch.no_grad():
        logits = student(torch.from_numpy(inputs))
    # what ships may be in int8; this is the student as it was trained
    session = onnxruntime.InferenceSession(bundle.path / "student.onnx")
    (expected,) = session.run(["logits"], {"image": inputs})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_teacher_answers_what_is_appealed(run: Run) -> None:
    bundle = run.bundle
    images = load_dataset("digits", jobs.GREY8).images[-40:]
    appealed = bundle.predict(images, teacher=run.teacher)
    for answer in appealed:
        assert answer.answered_by == ("teacher" if answer.appeal else "student")


def test_another_goal_makes_another_bundle_beside_the_first(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    before = run.bundle.threshold
    routed = run.route(appeals=0.5, progress=False)
    assert capfd.readouterr().err == ""
    assert routed.bundle.path == run.path / "bundle-2"
    assert dict(routed.bundle.manifest.goal) == {"appeals": 0.5}
    assert routed.result["goal"]["appeals"] == 0.5
    assert routed.report == run.path / "report-2.html"
    assert run.bundle.threshold == before
    assert isinstance(open_path(run.path / "bundle-2"), Bundle)


def test_a_finished_run_goes_on_only_to_more(run: Run) -> None:
    with pytest.raises(BadInput, match="the run is finished"):
        run.resume()
    with pytest.raises(BadInput, match="cannot change 'max_kb'"):
        run.resume(max_kb=3)


#: a script as people write them: a module and arrays in memory, and no `if __name__ == "__main__"`
SCRIPT = """
import sys; sys.path.insert(0, {root!r})
import torch
from sklearn.datasets import load_digits
import understudy
digits = load_digits()
images = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None]
labels = torch.tensor(digits.target)
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU(),
    torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(128, 10))
optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
torch.set_num_threads(1)
for epoch in range(10):
    for rows in torch.randperm(900).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
        optimiser.step()
data = {{"train": (images[:900], labels[:900]), "validation": (images[900:1350], labels[900:1350]),
        "test": (images[1350:], labels[1350:])}}
run = understudy.search(net, data, max_kb=20, out="mine", budget=4, proxy_epochs=2, final_epochs=4,
                        workers=2)
"""


@pytest.mark.long  # minutes by itself
@pytest.mark.timeout(900)
def test_ctrl_c_stops_a_search_in_memory_and_it_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(jobs.ROOT)))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stderr=log,
                                   stdout=log, preexec_fn=_with_ctrl_c)  # fmt: skip
        while "candidate 1/4" not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    said = (tmp_path / "log").read_text()
    assert "KeyboardInterrupt" in said
    assert "every finished candidate is kept. Go on with: understudy.open('mine').resume()" in said
    run = open_path(tmp_path / "mine")
    assert isinstance(run, Run)
    assert not run.finished
    assert len(run.rows) >= 1
    run = run.resume(progress=False)
    assert run.finished
    assert [row["number"] for row in run.rows] == [1, 2, 3, 4]
    images = load_dataset("digits", jobs.GREY8).images[1350:, ..., 0] / 255 * 2 - 1
    answers = run.bundle.predict(images)
    labels = load_dataset("digits", jobs.GREY8).labels[1350:]
    assert np.mean([answer.label for answer in answers] == labels) > 0.6


def _with_ctrl_c() -> None:
    """A shell in the background has its children ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
